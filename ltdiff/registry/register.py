"""Registering trained models in MLflow: plain folders of `model.json`, safetensors files and a calibration.

A tag of the registered version holds the sha256 of `model.json`, which holds those of the weights, so that a changed byte is
found wherever it is. Other tags tie the version to its data, code and score, and the whole to its parts.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ltdiff.model.model_folder import (
    CALIBRATION_FILE,
    DESCRIPTION_FILE,
    damaged_calibration,
    description_errors,
    description_text,
    read_calibration,
    verify_model_folder,
)
from ltdiff.registry.champions import champion_aliases, find_champion, read_kernels, registered_aliases
from ltdiff.registry.client import MlflowClient, attempt, find_tracking_uri, open_client
from ltdiff.registry.kernel_pair import KernelPair, kernel_tags
from ltdiff.registry.mlmodel import write_mlmodel
from ltdiff.system.atomic_files import file_sha256
from ltdiff.uncertainty.validation_ccc import overall

CANDIDATE = "candidate"
"""Alias of the newest version."""
COMPOSED = "ltdiff"
PARTS = {"ltdiff-encoder": "encoder.safetensors", "ltdiff-ddpm": "denoiser.safetensors", "ltdiff-decoder": "decoder.safetensors"}
"""Registered name → its weights in the model folder."""

SHA256_TAG = "ltdiff.model_sha256"
CALIBRATION_TAG = "ltdiff.calibration_sha256"
DATA_TAG, CODE_TAG, REVISION_TAG = "ltdiff.data_fingerprint", "ltdiff.version", "ltdiff.git_revision"
"""Tags that a version takes over from its run."""
RUN_NAME_TAG = "ltdiff.run_name"
VALIDATION_TAG = "ltdiff.validation"
"""JSON, see `read_validation`."""
PARTS_TAG = "ltdiff.parts"
"""JSON: versions by name."""
_COMPLETE_TAG = "ltdiff.complete"


def register_model(model_dir: Path, *, run_id: str, out: Path, tracking_uri: str | None = None) -> dict[str, int] | None:
    """Register a trained model, whole and in parts; return versions by name, or None with one warning.

    A part's version is a folder of its own weights and a `model.json` that lists only these; the whole has all files and the
    calibration, where there is one. Each has what MLflow loads and serves it by.
    The newest version becomes `candidate`, and the champion where there is none yet for its kernels; the four names' aliases move
    together. The same model of the same run is registered once: a second call completes what was cut off and moves no alias
    otherwise.

    Args:
        model_dir: `model.json` and the files it lists, and `calibration.json`; whatever else is there is not registered.
        run_id: what `log_run` returned.
        out: the run folder, as for `log_run`.
        tracking_uri: as for `log_run`.

    Raises:
        ValueError: when a file is missing, or is not the one that `model.json` lists; or the calibration is damaged.
    """
    description = verify_model_folder(model_dir)
    files = set(description["files"])
    if missing := set(PARTS.values()) - files:
        raise ValueError(f"{model_dir / DESCRIPTION_FILE} does not list {', '.join(sorted(missing))}")
    calibration, validation = {}, read_validation(model_dir)
    if validation is not None:
        calibration = {VALIDATION_TAG: json.dumps(validation), CALIBRATION_TAG: file_sha256(model_dir / CALIBRATION_FILE)}
    with description_errors(model_dir):
        pair = KernelPair.of_description(description)
    uri = find_tracking_uri(out, tracking_uri)

    def register() -> dict[str, int]:
        with open_client(uri) as client:
            run = client.get_run(run_id)
            tags = {name: run.data.tags[name] for name in (DATA_TAG, CODE_TAG, REVISION_TAG) if name in run.data.tags}
            tags |= {RUN_NAME_TAG: run.info.run_name, **kernel_tags(pair)}
            parts = {
                name: int(_register_once(client, name, model_dir, {weights}, run_id, tags).version)
                for name, weights in PARTS.items()
            }
            # The whole comes last: where it is registered, its parts are.
            tags |= calibration | {PARTS_TAG: json.dumps(parts)}
            whole = _register_once(client, COMPOSED, model_dir, files, run_id, tags)
            versions = parts | {COMPOSED: int(whole.version)}
            if _COMPLETE_TAG not in whole.tags:
                _set_aliases(client, versions, pair, uri)
                client.set_model_version_tag(COMPOSED, whole.version, _COMPLETE_TAG, "true")
            return versions

    return attempt(register, f"the model of run {run_id} was not registered in MLflow")


def find_registered(client: MlflowClient, folder: Path) -> Any | None:
    """The version of the whole that is this very model, calibration included; None where there is none."""
    calibration = folder / CALIBRATION_FILE
    content = file_sha256(folder / DESCRIPTION_FILE), file_sha256(calibration) if calibration.is_file() else None
    versions = client.search_model_versions(f"name='{COMPOSED}'")
    same = (each for each in versions if (each.tags.get(SHA256_TAG), each.tags.get(CALIBRATION_TAG)) == content)
    return next(same, None)


def _register_once(client: MlflowClient, name: str, model_dir: Path, files: set[str], run_id: str, tags: dict[str, str]) -> Any:
    """The version of this name, run and content, calibration included: the one that there is, or a new one with these tags."""
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        staged = Path(temporary, "model")
        copy_model(model_dir, staged, files | ({CALIBRATION_FILE} if CALIBRATION_TAG in tags else set()))
        sha256 = file_sha256(staged / DESCRIPTION_FILE)
        known = client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
        content = {SHA256_TAG: sha256, CALIBRATION_TAG: tags.get(CALIBRATION_TAG)}
        same = (each for each in known if content == {tag: each.tags.get(tag) for tag in content})
        return next(same, None) or _create_version(client, name, staged, run_id, tags | {SHA256_TAG: sha256})


def _create_version(client: MlflowClient, name: str, folder: Path, run_id: str, tags: dict[str, str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By content: a later model of the same run, or the same one calibrated anew, overwrites no earlier one.
    place = "-".join([f"{name}/{tags[SHA256_TAG][:12]}", *([tags[CALIBRATION_TAG][:12]] if CALIBRATION_TAG in tags else [])])
    write_mlmodel(folder, run_id=run_id)
    client.log_artifacts(run_id, str(folder), place)
    root = client.get_run(run_id).info.artifact_uri
    # Pages of a server that keeps the files itself can read the signature there, and not by runs:/.
    source = f"{root}/{place}" if root.startswith("mlflow-artifacts:") else f"runs:/{run_id}/{place}"
    pair = KernelPair.of_tags(tags)
    return client.create_model_version(name, source, run_id, tags=tags, description=pair.plain_text if pair else None)


def _set_aliases(client: MlflowClient, versions: dict[str, int], pair: KernelPair | None, tracking_uri: str) -> None:
    aliases = registered_aliases(client, COMPOSED)

    def kernels_of(number: int) -> KernelPair | None:
        return read_kernels(client, client.get_model_version(COMPOSED, str(number)), tracking_uri)

    is_newest = aliases.get(CANDIDATE, 0) <= versions[COMPOSED]  # not one whose registration was cut off and completed
    moved = [CANDIDATE] if is_newest else []
    if find_champion(pair, aliases, kernels_of) is None:
        moved += champion_aliases(pair, aliases, kernels_of)
    for alias in moved:
        for name, number in versions.items():
            client.set_registered_model_alias(name, alias, str(number))


def copy_model(source: Path, target: Path, files: Iterable[str]) -> None:
    """Copy `files` of a model folder and nothing else, with a `model.json` that lists just these weights."""
    target.mkdir()
    description = json.loads((source / DESCRIPTION_FILE).read_bytes())
    kept = {name: sha256 for name, sha256 in description["files"].items() if name in files}
    if kept == description["files"]:
        shutil.copyfile(source / DESCRIPTION_FILE, target / DESCRIPTION_FILE)  # byte for byte: its sha256 is known elsewhere
    else:
        (target / DESCRIPTION_FILE).write_text(description_text(description | {"files": kept}))
    for name in files:
        shutil.copyfile(source / name, target / name)


def read_validation(folder: Path) -> dict[str, Any] | None:
    """What the calibration of a model folder says of the validation pairs; None where there is none.

    {"output": "mean", "ccc": {"glcm": 0.98, …}, "data_fingerprint": "<64 hex digits>"}: the output that was chosen, its CCC by
    class of features, and the pairs.

    Raises:
        ValueError: a damaged calibration.
    """
    calibration = read_calibration(folder)
    if not calibration:
        return None
    try:
        output = calibration["output"]
        ccc = {name: float(value) for name, value in calibration["validation_ccc"][output].items()}
        return {"output": output, "ccc": ccc, "data_fingerprint": calibration["data_fingerprint"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged_calibration(folder) from error


def validation_metrics(folder: Path) -> dict[str, float]:
    """CCC on the validation pairs of a model folder, by class of features and overall; {} where it is not calibrated."""
    validation = read_validation(folder)
    if validation is None:
        return {}
    ccc = validation["ccc"]
    return {f"validation_ccc.{name}": value for name, value in ccc.items()} | {"validation_ccc": overall(ccc)}
