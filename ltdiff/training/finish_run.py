"""The end of a run: its model is calibrated, and the run recorded in the registry with settings, losses and data."""

from pathlib import Path

from ltdiff.data.manifest import read_manifest
from ltdiff.registry.model_card import card_text
from ltdiff.registry.register import register_model, validation_metrics
from ltdiff.registry.runs import log_run
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.training.run_log import live_run, read_history, training_facts
from ltdiff.uncertainty.calibration import calibrate_run

CARD_ARTIFACT = "model_card.md"


def finish_run(pairs: Path, *, out: Path, tracking_uri: str | None = None) -> Path:
    """Calibrate the model of the run in `out`, trained on `pairs`, and record the run; the model's folder."""
    model = out / MODEL_FOLDER
    try:
        calibrate_run(read_manifest(pairs), model=model)
    except Exception:
        live_run(pairs, out=out, tracking_uri=tracking_uri).update("FAILED")
        raise
    record_run(out, tracking_uri=tracking_uri)
    return model


def record_run(out: Path, *, tracking_uri: str | None = None) -> None:
    """Log what is missing of the run in `out` to MLflow, and register its model; a registry that is down costs a warning."""
    model = out / MODEL_FOLDER
    run_id = log_run(
        training_facts(out),
        out=out,
        metrics=validation_metrics(model),
        history=read_history(out),
        texts={CARD_ARTIFACT: card_text(model)},
        tracking_uri=tracking_uri,
    )
    if run_id is not None:
        register_model(model, run_id=run_id, out=out, tracking_uri=tracking_uri)
