"""`ltdiff models assemble`: the registered parts of a model, put together again: the same bytes as the registered whole.

Only parts of one whole belong together: an encoder, a denoiser and a decoder of different trainings speak of different latents.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ltdiff.model.model_folder import CALIBRATION_FILE, DESCRIPTION_FILE, description_text, verify_model_folder
from ltdiff.registry.client import open_registry
from ltdiff.registry.register import CALIBRATION_TAG, COMPOSED, PARTS
from ltdiff.registry.versions import ModelVersion, check_empty, download, list_models, write_export


def assemble_model(*, encoder: str, ddpm: str, decoder: str, out: Path, tracking_uri: str | None = None) -> ModelVersion:
    """Make `out` a model folder of the parts with these versions or aliases; return the version of the whole that it equals.

    Description and weights are those of the parts, the calibration, where there is one, that of the whole.

    Raises:
        ValueError: `out` holds something; there is no such part; the parts do not belong together, with the reason; a file is not
            the one that was registered; or the registry cannot be read.
    """
    references = dict(zip(PARTS, (encoder, ddpm, decoder), strict=True))
    check_empty(out)
    versions = _find_parts(references, tracking_uri)
    whole = _find_whole(versions, list_models(tracking_uri))
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as temporary:
        staged = Path(temporary, "model")
        staged.mkdir()
        sha256 = _fetch_calibration(whole, staged, tracking_uri)
        folders = [
            download(f"models:/{name}/{number}", out_dir=Path(temporary), tracking_uri=tracking_uri)
            for name, number in versions.items()
        ]
        _join(folders, staged)
        verify_model_folder(staged, registered={DESCRIPTION_FILE: whole.sha256, CALIBRATION_FILE: sha256})
        write_export(staged, out, model=whole)
    return whole


def _find_parts(references: Mapping[str, str], tracking_uri: str | None) -> dict[str, int]:
    """Version by name of the parts with these versions or aliases."""
    versions = {}
    for name, reference in references.items():
        with open_registry(tracking_uri, f"there is no part {name} {reference!r}") as (client, _):
            is_number = reference.isdecimal()
            found = client.get_model_version(name, reference) if is_number else client.get_model_version_by_alias(name, reference)
            versions[name] = int(found.version)
    return versions


def _find_whole(versions: Mapping[str, int], models: list[ModelVersion]) -> ModelVersion:
    """The newest version of the whole with these parts."""
    for model in models:
        if model.parts == versions:
            return model
    owners = {name: [model.number for model in models if model.parts.get(name) == number] for name, number in versions.items()}
    reasons = (
        f"{name} {number} is of version {' and '.join(map(str, owners[name]))}"
        if owners[name]
        else f"{name} {number} is of no version of the whole that is registered"
        for name, number in versions.items()
    )
    raise ValueError(f"these parts do not belong together, they were not trained together: {', '.join(reasons)}")


def _fetch_calibration(whole: ModelVersion, folder: Path, tracking_uri: str | None) -> str | None:
    """Fetch the calibration of a version into `folder`; the sha256 that was registered, None where it has no calibration."""
    from mlflow.artifacts import download_artifacts

    with open_registry(tracking_uri, f"the calibration of version {whole.number} cannot be loaded") as (client, address):
        sha256: str | None = client.get_model_version(COMPOSED, str(whole.number)).tags.get(CALIBRATION_TAG)
        if sha256 is not None:
            place = f"{client.get_model_version_download_uri(COMPOSED, str(whole.number))}/{CALIBRATION_FILE}"
            download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=address)
    return sha256


def _join(folders: list[Path], target: Path) -> None:
    """Copy the weights of all parts, with a description that lists them in the order of the parts."""
    descriptions = [json.loads((folder / DESCRIPTION_FILE).read_bytes()) for folder in folders]
    files: dict[str, str] = {}
    for folder, description in zip(folders, descriptions, strict=True):
        files |= description["files"]
        for name in description["files"]:
            shutil.copyfile(folder / name, target / name)
    (target / DESCRIPTION_FILE).write_text(description_text(descriptions[0] | {"files": files}))
