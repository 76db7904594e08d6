"""The end of a run: its model is calibrated, and the run recorded in the registry with settings, losses and data."""

import json
from pathlib import Path

from ltdiff.data.manifest import read_manifest
from ltdiff.model.model_folder import weights_sha256
from ltdiff.registry.register import read_validation, register_model
from ltdiff.registry.runs import log_run
from ltdiff.training.phases import PHASES
from ltdiff.training.run import MODEL_FOLDER, RUN_FILE, read_metrics
from ltdiff.uncertainty.calibration import calibrate_run
from ltdiff.uncertainty.validation_ccc import overall


def finish_run(pairs: Path, *, out: Path, tracking_uri: str | None = None) -> Path:
    """Calibrate the model of the run in `out`, trained on `pairs`, and record the run; the model's folder."""
    model = out / MODEL_FOLDER
    calibrate_run(read_manifest(pairs), model=model)
    record_run(out, tracking_uri=tracking_uri)
    return model


def record_run(out: Path, *, tracking_uri: str | None = None) -> None:
    """Log the run in `out` to MLflow once and register its model; a registry that is down costs a warning, not the run."""
    description = json.loads((out / RUN_FILE).read_text())
    model = out / MODEL_FOLDER
    history = [
        {key if key == "step" else f"{name}.{key}": value for key, value in row.items()}
        for name in PHASES
        for row in read_metrics(out / name)
    ]
    validation = read_validation(model)  # None where the model is not calibrated
    ccc = {} if validation is None else validation["ccc"]
    metrics = {f"validation_ccc.{name}": value for name, value in ccc.items()}
    if ccc:
        metrics["validation_ccc"] = overall(ccc)
    run_id = log_run(
        out.absolute().name or "run",
        out=out,
        run_key=weights_sha256(model),
        data_fingerprint=description["data_fingerprint"],
        parameters=description["settings"],
        metrics=metrics,
        history=history,
        tracking_uri=tracking_uri,
    )
    if run_id is not None:
        register_model(model, run_id=run_id, out=out, tracking_uri=tracking_uri)
