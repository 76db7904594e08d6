"""Recording a finished run in the registry: settings, losses, fingerprint, and the model with its parts."""

from __future__ import annotations

import json
from pathlib import Path

from ltdiff.model.ltdiff import weights_sha256
from ltdiff.registry import log_run, register_model
from ltdiff.training.phases import PHASES
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, RUN_FILE


def record_run(out: Path, *, tracking_uri: str | None = None) -> None:
    """Log the run in `out` to MLflow once and register its model; a registry that is down costs a warning, not the run."""
    description = json.loads((out / RUN_FILE).read_text())
    model = out / MODEL_FOLDER
    history = [row for name in PHASES for row in _read_history(out / name / METRICS_FILE, name)]
    final = {key: value for row in history for key, value in row.items() if key != "step"}
    run_id = log_run(
        out.absolute().name or "run",
        out=out,
        run_key=weights_sha256(model),
        data_fingerprint=description["data_fingerprint"],
        parameters=description["settings"],
        metrics=final,
        history=history,
        tracking_uri=tracking_uri,
    )
    if run_id is not None:
        register_model(model, run_id=run_id, out=out, tracking_uri=tracking_uri)


def _read_history(path: Path, phase: str) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key if key == "step" else f"{phase}.{key}": value for key, value in row.items()} for row in rows]
