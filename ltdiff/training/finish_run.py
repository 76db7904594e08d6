"""The end of a run: its model is calibrated, and the run recorded in the registry with settings, losses and data."""

from functools import partial
from pathlib import Path

from ltdiff.data.manifest import read_manifest
from ltdiff.model.model_folder import read_description
from ltdiff.registry.model_card import card_text
from ltdiff.registry.register import register_model, validation_metrics
from ltdiff.registry.runs import log_run
from ltdiff.system.progress import configure_logging
from ltdiff.system.ray_address import named_cluster
from ltdiff.system.ray_cluster import on_node, ray_session
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.training.run_log import live_run, read_history, training_facts
from ltdiff.uncertainty.calibration import calibrate_run

CARD_ARTIFACT = "model_card.md"
NUM_CALIBRATION_CPUS = 2


def finish_run(pairs: Path, *, out: Path, tracking_uri: str | None = None) -> Path:
    """Calibrate the model of the run in `out`, trained on `pairs`, and record the run; the model's folder."""
    model = out / MODEL_FOLDER
    try:
        _calibrate(pairs, model)
    except Exception:
        live_run(pairs, out=out, tracking_uri=tracking_uri).update("FAILED")
        raise
    record_run(out, tracking_uri=tracking_uri)
    return model


def _calibrate(pairs: Path, model: Path) -> None:
    """In a cluster on a node that can train: the one where a job starts may have no GPU, and little else."""
    if not named_cluster():
        calibrate_run(read_manifest(pairs), model=model)
        return
    calibrate = partial(_calibrate_there, pairs.absolute(), model.absolute())
    num_gpus = int(read_description(model)["about"]["settings"]["training"]["use_gpu"])
    with ray_session(num_cpus=NUM_CALIBRATION_CPUS, num_gpus=num_gpus):
        on_node(calibrate, num_cpus=NUM_CALIBRATION_CPUS, num_gpus=num_gpus)


def _calibrate_there(pairs: Path, model: Path) -> None:
    configure_logging(force=True)
    calibrate_run(read_manifest(pairs), model=model, num_workers=NUM_CALIBRATION_CPUS)


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
