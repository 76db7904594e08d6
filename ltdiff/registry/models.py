"""Trained models in the MLflow registry: plain folders of `model.json` and safetensors files; nothing is ever unpickled.

`model.json` holds the other files' sha256 under "files", and a tag of the registered version holds that of `model.json`
itself, so that a changed byte is found wherever it is.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltdiff.registry.client import attempt, find_tracking_uri, first_line, open_client, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
COMPOSED = "ltdiff"
PARTS = {  # registered name: its weights in the model folder
    "ltdiff-encoder": "encoder.safetensors",
    "ltdiff-ddpm": "denoiser.safetensors",
    "ltdiff-decoder": "decoder.safetensors",
}

_DESCRIPTION = "model.json"
_CALIBRATION = "spread.json"
_SHA256_TAG = "ltdiff.model_sha256"
_CALIBRATION_TAG = "ltdiff.calibration_sha256"
_COMPLETE_TAG = "ltdiff.complete"


def register_model(
    model_dir: Path, *, run_id: str, out: Path, tracking_uri: str | None = None
) -> dict[str, int] | None:
    """Register a trained model, whole and in parts; return versions by name, or None with one warning.

    A part's version is a folder of its own weights and a `model.json` that lists only these; the whole has all files, and the
    calibration, where there is one.
    The newest version becomes `champion`. The same model of the same run is registered once: a second call completes
    what was cut off and moves no alias otherwise.

    Args:
        model_dir: `model.json` and the files it lists, and `spread.json`; whatever else is there is not registered.
        run_id: what `log_run` returned.
        out: the run folder, as for `log_run`.
        tracking_uri: as for `log_run`.

    Raises:
        ValueError: when a file is missing, or is not the one that `model.json` lists.
    """
    files = set(_check_files(model_dir))
    if missing := set(PARTS.values()) - files:
        raise ValueError(f"{model_dir / _DESCRIPTION} does not list {', '.join(sorted(missing))}")
    uri = find_tracking_uri(out, tracking_uri)
    # The whole comes last: where it is registered, its parts are.
    contents = {name: {weights} for name, weights in PARTS.items()} | {COMPOSED: files}

    def register() -> dict[str, int]:
        with open_client(uri) as client:
            return {name: _register_once(client, name, model_dir, kept, run_id) for name, kept in contents.items()}

    return attempt(register, f"the model of run {run_id} was not registered in MLflow")


def download(uri: str, *, out_dir: Path, tracking_uri: str | None = None) -> Path:
    """Fetch a registered model into out_dir/<name>-<version>, check every sha256, and return that folder.

    A folder that is there already is checked and returned. Only `model.json`, the weights it lists and the calibration are taken,
    which may be made anew there.

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
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        raise ValueError(f"{uri} needs MLFLOW_TRACKING_URI, such as sqlite:////folder of a run/mlflow.db")
    database = sqlite_file(tracking_uri)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise ValueError(f"{uri} cannot be loaded: there is no registry at {database}")
    name, alias, number = match.groups()
    with open_client(tracking_uri) as client:
        from mlflow.exceptions import MlflowException

        try:
            version = (
                client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
            )
            return _fetch(client, version, out_dir, tracking_uri)
        except (MlflowException, OSError, ValueError) as error:
            raise ValueError(f"{uri} cannot be loaded: {first_line(error)}") from error


def _fetch(client: "MlflowClient", version: Any, out_dir: Path, tracking_uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    sha256 = version.tags.get(_SHA256_TAG)
    if sha256 is None:
        raise ValueError(f"version {version.version} was not registered by ltdiff, it has no tag {_SHA256_TAG}")
    folder = out_dir / f"{version.name}-{version.version}"
    if not folder.is_dir():
        out_dir.mkdir(parents=True, exist_ok=True)
        source = client.get_model_version_download_uri(version.name, version.version)
        with tempfile.TemporaryDirectory(dir=out_dir, prefix=".download-") as temporary:
            fetched = Path(download_artifacts(artifact_uri=source, dst_path=temporary, tracking_uri=tracking_uri))
            complete = Path(temporary, "complete")
            _copy_model(fetched, complete, _check_files(fetched, sha256))
            if calibration := version.tags.get(_CALIBRATION_TAG):
                _copy_calibration(fetched / _CALIBRATION, complete, calibration)
            complete.rename(folder)
    _check_files(folder, sha256)
    return folder


def _register_once(client: "MlflowClient", name: str, model_dir: Path, files: set[str], run_id: str) -> int:
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        staged = Path(temporary, "model")
        _copy_model(model_dir, staged, files)
        sha256 = _sha256(staged / _DESCRIPTION)
        tags = {_SHA256_TAG: sha256}
        if name == COMPOSED and (model_dir / _CALIBRATION).is_file():
            shutil.copyfile(model_dir / _CALIBRATION, staged / _CALIBRATION)
            tags[_CALIBRATION_TAG] = _sha256(staged / _CALIBRATION)
        known = client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
        version = next((each for each in known if each.tags.get(_SHA256_TAG) == sha256), None)
        if version is None:
            version = _create_version(client, name, staged, run_id, tags)
    if _COMPLETE_TAG not in version.tags:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        client.set_model_version_tag(name, version.version, _COMPLETE_TAG, "true")
    return int(version.version)


def _create_version(client: "MlflowClient", name: str, folder: Path, run_id: str, tags: dict[str, str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    place = f"{name}/{tags[_SHA256_TAG][:12]}"  # by content: a later model of the same run overwrites no earlier one
    client.log_artifacts(run_id, str(folder), place)
    return client.create_model_version(name, source=f"runs:/{run_id}/{place}", run_id=run_id, tags=tags)


def _copy_model(source: Path, target: Path, files: Iterable[str]) -> None:
    """Copy `files` of a model folder and nothing else, with a `model.json` that lists just these."""
    target.mkdir()
    description = json.loads((source / _DESCRIPTION).read_bytes())
    kept = {name: sha256 for name, sha256 in description["files"].items() if name in files}
    if kept == description["files"]:
        shutil.copyfile(source / _DESCRIPTION, target / _DESCRIPTION)  # byte for byte: its sha256 is known elsewhere
    else:
        (target / _DESCRIPTION).write_text(json.dumps(description | {"files": kept}, indent=2))
    for name in kept:
        shutil.copyfile(source / name, target / name)


def _copy_calibration(path: Path, target: Path, sha256: str) -> None:
    if not path.is_file() or _sha256(path) != sha256:
        raise ValueError(f"{path} is not the file that was registered: it is missing, or its sha256 differs")
    shutil.copyfile(path, target / path.name)


def _check_files(folder: Path, description_sha256: str | None = None) -> dict[str, str]:
    """The files a model folder lists, with their sha256; ValueError where one is missing, changed or no weights."""
    path = folder / _DESCRIPTION
    try:
        files = dict(json.loads(path.read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a model of ltdiff ({type(error).__name__})") from error
    if description_sha256 not in (None, _sha256(path)):
        raise ValueError(f"{path} is not the file that was registered, its sha256 differs")
    for name, sha256 in files.items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{path} lists {name!r}, which is no safetensors file of its folder")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing, {_DESCRIPTION} lists it")
        if _sha256(folder / name) != sha256:
            raise ValueError(f"{folder / name} is not the file that {_DESCRIPTION} lists, its sha256 differs")
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
