"""`ltdiff models register`: a model folder that was trained elsewhere becomes a version of a registry."""

import os
import tempfile
from pathlib import Path

from ltdiff.model.model_folder import CALIBRATION_FILE, CHANGES, description_errors, verify_model_folder, weights_sha256
from ltdiff.registry.client import open_registry, sqlite_file
from ltdiff.registry.model_card import CARD_FILE, card_text
from ltdiff.registry.register import COMPOSED, find_registered, register_model, validation_metrics
from ltdiff.registry.runs import RunFacts, log_run
from ltdiff.system.atomic_files import file_sha256


def register_folder(folder: Path, *, tracking_uri: str | None = None) -> tuple[int, bool]:
    """The version that the model in `folder` has in the registry, and whether it is new there.

    A SQLite registry that is not there is made. A new version gets a run with what the model says of its training, and becomes
    `candidate`.

    Raises:
        ValueError: no trained model there, or a damaged one; or the registry cannot be read or written.
    """
    description = verify_model_folder(folder)
    with description_errors(folder):
        about = description["about"]
        is_trained = bool(about["trained"])
        facts = RunFacts(
            folder.absolute().name or "model",
            key=f"registered-{_content_key(folder)}",
            data_fingerprint=about.get("data_fingerprint", ""),
            parameters=about["settings"],
            changes=about.get(CHANGES, ()),
            code={"version": str(about["version"])},
        )
        history = [
            {"step": values.get("step", 0), **{f"{phase}.{name}": value for name, value in values.items() if name != "step"}}
            for phase, values in about["trained"].items()
        ]
    if not is_trained:
        raise ValueError(f"{folder} holds networks that are not trained")
    failure = f"the model in {folder} cannot be registered"
    known = _find_version(folder, tracking_uri, failure)
    if known is not None:
        return known, False
    with tempfile.TemporaryDirectory(prefix="ltdiff-") as out:
        run_id = log_run(
            facts,
            out=Path(out),
            metrics=validation_metrics(folder),
            history=history,
            texts={CARD_FILE: card_text(folder)},
            tracking_uri=tracking_uri,
        )
        versions = None if run_id is None else register_model(folder, run_id=run_id, out=Path(out), tracking_uri=tracking_uri)
    if versions is None:
        raise ValueError(f"{failure}, for the reason above")
    return versions[COMPOSED], True


def _find_version(folder: Path, tracking_uri: str | None, failure: str) -> int | None:
    """The version that is this very model; None where there is none, or no registry yet."""
    database = sqlite_file(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""))
    if database is not None and not database.is_file():
        return None
    with open_registry(tracking_uri, failure) as (client, _):
        version = find_registered(client, folder)
        return None if version is None else int(version.version)


def _content_key(folder: Path) -> str:
    calibration = folder / CALIBRATION_FILE
    return "-".join([weights_sha256(folder), *([file_sha256(calibration)] if calibration.is_file() else [])])
