"""Registered versions of the composed model, by number or alias: fetch them with checked sha256, set the champions."""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltdiff.model.model_folder import CALIBRATION_FILE, DESCRIPTION_FILE, verify_model_folder, write_sums
from ltdiff.registry import register
from ltdiff.registry.champions import KernelsOf, champion_aliases, find_champion, read_kernels, registered_aliases
from ltdiff.registry.client import MlflowClient, open_registry
from ltdiff.registry.kernel_pair import CHAMPION, KernelPair

_PROMOTION_TAG = "ltdiff.promoted."
"""Beginning of the tag; its time follows, so an earlier promotion stays on record."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """A version of the composed model; "" or nothing where it was not noted."""

    number: int
    aliases: tuple[str, ...]
    kernels: KernelPair | None
    registered: datetime
    run_id: str  # of the MLflow run that trained it, which has its settings and figures
    run_name: str  # what MLflow shows of that run
    data_fingerprint: str  # of the manifest that trained it
    code_version: str  # of ltdiff
    git_revision: str  # of ltdiff's checkout, where there was one
    sha256: str  # of `model.json`, which holds those of the weights
    output: str  # what the validation pairs chose, `mean` or `sample`
    validation_ccc: Mapping[str, float]  # of that output on the validation regions, by class of features
    validated_on: str  # fingerprint of the manifest with those validation pairs
    parts: Mapping[str, int]  # the parts' versions by name
    promotions: Mapping[str, Mapping[str, Any]]  # records of `set_champion` by time

    @property
    def champion_name(self) -> str:
        """What it is, or can become: "the champion for 'Br40' to 'Bl64'"."""
        return f"the champion for {self.kernels}" if self.kernels else "the champion"


def list_models(tracking_uri: str | None = None) -> list[ModelVersion]:
    """All versions of the composed model, the newest first.

    Args:
        tracking_uri: an MLflow tracking URI; None takes MLFLOW_TRACKING_URI.

    Raises:
        ValueError: no registry is named, or it cannot be read.
    """
    with open_registry(tracking_uri, "the registered models cannot be read") as (client, address):
        versions = client.search_model_versions(f"name='{register.COMPOSED}'")
        if not versions:
            return []
        numbers = registered_aliases(client, register.COMPOSED)  # a search leaves them out
        models = [
            _describe(
                each,
                [alias for alias, number in numbers.items() if number == int(each.version)],
                read_kernels(client, each, address),
            )
            for each in versions
        ]
    return sorted(models, key=lambda model: model.number, reverse=True)


def find_model(reference: str, models: list[ModelVersion]) -> ModelVersion:
    """The version with this number or alias; ValueError where there is none."""
    if not models:
        raise ValueError(f"there is no model {reference!r}, none is registered")
    found = [model for model in models if reference == str(model.number) or reference in model.aliases]
    if not found:
        numbers = ", ".join(str(model.number) for model in models)
        aliases = ", ".join(sorted(alias for model in models for alias in model.aliases)) or "none"
        raise ValueError(f"there is no model {reference!r}; the versions are {numbers}, the aliases {aliases}")
    return found[0]


def aliases_of(models: Iterable[ModelVersion]) -> dict[str, int]:
    """The versions' numbers by alias."""
    return {alias: model.number for model in models for alias in model.aliases}


def kernels_of(models: Iterable[ModelVersion]) -> KernelsOf:
    """The versions' kernels by number."""
    return {model.number: model.kernels for model in models}.get


def champion_for(model: ModelVersion, models: list[ModelVersion]) -> ModelVersion | None:
    """The champion for the kernels of a version; None where there is none."""
    number = find_champion(model.kernels, aliases_of(models), kernels_of(models))
    return None if number is None else find_model(str(number), models)


def champion_alias(champion: ModelVersion) -> str:
    """The alias that names a champion alone, where it has that; otherwise `champion`."""
    pair = champion.kernels
    return pair.champion_alias if pair and pair.champion_alias in champion.aliases else CHAMPION


def find_champions(models: list[ModelVersion]) -> list[ModelVersion]:
    """The champions for all pairs of kernels, the newest first."""
    numbers = {found.number for found in (champion_for(model, models) for model in models) if found}
    return [model for model in models if model.number in numbers]


def read_run(model: ModelVersion, tracking_uri: str | None = None) -> tuple[dict[str, str], dict[str, float]]:
    """Settings and last figures of the run that trained a version; ValueError as for `list_models`."""
    with open_registry(tracking_uri, f"the run of version {model.number} cannot be read") as (client, _):
        data = client.get_run(model.run_id).data
        return dict(data.params), dict(data.metrics)


def set_champion(model: ModelVersion, *, record: Mapping[str, Any], tracking_uri: str | None = None) -> None:
    """Make a version and its parts the champion for its kernels, with a record of why as a tag of the version.

    Raises:
        ValueError: as for `list_models`.
    """
    models = list_models(tracking_uri)
    aliases = champion_aliases(model.kernels, aliases_of(models), kernels_of(models))
    with open_registry(tracking_uri, f"version {model.number} cannot be promoted") as (client, _):
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        tag = f"{_PROMOTION_TAG}{time}"
        # First: what has moved is on record, whatever happens.
        client.set_model_version_tag(register.COMPOSED, str(model.number), tag, json.dumps(record))
        versions = {**model.parts, register.COMPOSED: model.number}  # the whole comes last: where it is, its parts are
        for name, number in versions.items():
            for alias in aliases:
                client.set_registered_model_alias(name, alias, str(number))


def download(uri: str, *, out_dir: Path, tracking_uri: str | None = None) -> Path:
    """Fetch a registered model into a folder of `out_dir`, check every sha256, and return that folder.

    The folder is named by name, version and content: several registries may share `out_dir`. One that is there already is checked
    and returned. Only `model.json`, the weights it lists and the calibration are taken.

    Args:
        uri: `models:/ltdiff@champion` or `models:/ltdiff/3`.
        out_dir: where model folders are kept; made where missing.
        tracking_uri: an MLflow tracking URI; None takes MLFLOW_TRACKING_URI.

    Raises:
        ValueError: for an unknown model, a registry that cannot be reached, or files that are not those registered.
    """
    match = re.fullmatch(r"models:/([\w.-]+)(?:@([\w.-]+)|/(\d+))", uri)
    if match is None:
        raise ValueError(f"{uri!r} names no registered model: models:/NAME@ALIAS or models:/NAME/VERSION is expected")
    name, alias, number = match.groups()
    with open_registry(tracking_uri, f"{uri} cannot be loaded") as (client, address):
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        if alias == CHAMPION:
            _name_others(client, version, address)
        return _fetch(client, version, out_dir, address)


def download_champions(*, out_dir: Path, tracking_uri: str | None = None) -> Path:
    """Fetch the champions for all pairs of kernels, as `download` does, and return the folder that holds them and nothing else.

    Raises:
        ValueError: there is no champion; otherwise as for `download`.
    """
    champions = find_champions(list_models(tracking_uri))
    if not champions:
        raise ValueError(f"models:/{register.COMPOSED} cannot be loaded: there is no champion")
    content = hashlib.sha256(" ".join(f"{each.number} {each.sha256}" for each in champions).encode()).hexdigest()
    folder = out_dir / f"champions-{content[:12]}"
    for champion in champions:
        download(f"models:/{register.COMPOSED}/{champion.number}", out_dir=folder, tracking_uri=tracking_uri)
    return folder


def export_model(reference: str, *, out: Path, tracking_uri: str | None = None) -> ModelVersion:
    """Make `out` a model folder that needs no registry, with SHA256SUMS, and return the version that it is.

    Raises:
        ValueError: `out` holds something; there is no such version or alias; otherwise as for `download`.
    """
    model = find_model(reference, list_models(tracking_uri))
    check_empty(out)
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        uri = f"models:/{register.COMPOSED}/{model.number}"
        write_export(download(uri, out_dir=Path(temporary), tracking_uri=tracking_uri), out, model=model)
    return model


def check_empty(out: Path) -> None:
    """Raise ValueError where a model cannot be written into the folder `out`, because something is there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder; choose another one")


def write_export(folder: Path, out: Path, *, model: ModelVersion) -> None:
    """Copy the files of a version from `folder` into the empty `out`, with SHA256SUMS; ValueError where they are others."""
    out.mkdir(parents=True, exist_ok=True)
    # The description comes last: a folder without one passes for no model.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == DESCRIPTION_FILE):
        shutil.copyfile(path, out / path.name)
    verify_model_folder(out, registered={DESCRIPTION_FILE: model.sha256})
    write_sums(out)


def _name_others(client: MlflowClient, version: Any, tracking_uri: str) -> None:
    """Say which version the `champion` is, where there are champions for other kernels."""
    aliases = registered_aliases(client, version.name)
    others = [alias for alias, number in aliases.items() if alias.startswith(f"{CHAMPION}-") and number != int(version.version)]
    if others:
        pair = read_kernels(client, version, tracking_uri)
        logger.warning(
            "the champion is version %s, for %s; those for other kernels are %s",
            version.version,
            pair or "unknown kernels",
            ", ".join(sorted(others)),
        )


def _fetch(client: MlflowClient, version: Any, out_dir: Path, tracking_uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    sha256 = version.tags.get(register.SHA256_TAG)
    registered = {DESCRIPTION_FILE: sha256, CALIBRATION_FILE: version.tags.get(register.CALIBRATION_TAG)}
    if sha256 is None:
        raise ValueError(f"version {version.version} was not registered by ltdiff, it has no tag {register.SHA256_TAG}")
    folder = out_dir / f"{version.name}-{version.version}-{sha256[:12]}"
    if not folder.is_dir():
        out_dir.mkdir(parents=True, exist_ok=True)
        source = client.get_model_version_download_uri(version.name, version.version)
        with tempfile.TemporaryDirectory(dir=out_dir, prefix=".download-") as temporary:
            fetched = Path(download_artifacts(artifact_uri=source, dst_path=temporary, tracking_uri=tracking_uri))
            complete = Path(temporary, "complete")
            files = verify_model_folder(fetched, registered=registered)["files"]
            register.copy_model(fetched, complete, {*files, *([CALIBRATION_FILE] if registered[CALIBRATION_FILE] else [])})
            with suppress(OSError):  # another process has fetched it meanwhile
                complete.rename(folder)
    try:
        verify_model_folder(folder, registered=registered)
    except ValueError as error:
        raise ValueError(f"{error}; remove {folder}, and it is fetched again") from error
    return folder


def _describe(version: Any, aliases: list[str], kernels: KernelPair | None) -> ModelVersion:
    tags = version.tags
    validation = json.loads(tags.get(register.VALIDATION_TAG, "{}"))
    promotions = {key: value for key, value in sorted(tags.items()) if key.startswith(_PROMOTION_TAG)}
    return ModelVersion(
        number=int(version.version),
        aliases=tuple(sorted(aliases)),
        kernels=kernels,
        registered=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=version.run_id or "",
        run_name=tags.get(register.RUN_NAME_TAG, ""),
        data_fingerprint=tags.get(register.DATA_TAG, ""),
        code_version=tags.get(register.CODE_TAG, ""),
        git_revision=tags.get(register.REVISION_TAG, ""),
        sha256=tags.get(register.SHA256_TAG, ""),
        output=validation.get("output", ""),
        validation_ccc=validation.get("ccc", {}),
        validated_on=validation.get("data_fingerprint", ""),
        parts=json.loads(tags.get(register.PARTS_TAG, "{}")),
        promotions={key.removeprefix(_PROMOTION_TAG): json.loads(value) for key, value in promotions.items()},
    )
