"""A training in MLflow: one run for all phases and for every command that resumes them, from the first step to the model.

out/mlflow_key      the key of that run, whichever registry it is in
out/mlflow_parent   the id of the MLflow run under which it is shown: of the search that it belongs to
"""

import json
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

from ltdiff.data.manifest import read_manifest
from ltdiff.model.model_folder import CHANGES, weights_sha256
from ltdiff.registry.client import find_tracking_uri
from ltdiff.registry.live_run import LiveRun, watch
from ltdiff.registry.runs import TIME, RunFacts
from ltdiff.system.atomic_files import write_text
from ltdiff.training.phases import PHASES
from ltdiff.training.run import MODEL_FOLDER, RUN_FILE, read_metrics

KEY_FILE, PARENT_FILE = "mlflow_key", "mlflow_parent"


def watch_training(pairs: Path, *, out: Path, tracking_uri: str | None = None, parent: str = "") -> AbstractContextManager[None]:
    """Show the run in `out`, which is prepared and trained on `pairs`, in MLflow while the block trains it, below the run
    `parent`.
    """
    if parent:
        write_text(out / PARENT_FILE, f"{parent}\n")
    if not (out / KEY_FILE).is_file():
        write_text(out / KEY_FILE, f"training-{uuid.uuid4().hex}\n")
    return watch(live_run(pairs, out=out, tracking_uri=tracking_uri), is_done=(out / MODEL_FOLDER).is_dir)


def live_run(pairs: Path, *, out: Path, tracking_uri: str | None = None) -> LiveRun:
    """The run in `out` as MLflow is to know it."""
    manifest = read_manifest(pairs)
    counts = (manifest["role"] + " slices, " + manifest["split"]).value_counts().sort_index()
    profile = {str(name): int(count) for name, count in counts.items()}
    return LiveRun(
        training_facts(out, data_profile=profile),
        read_history=lambda: read_history(out),
        tracking_uri=find_tracking_uri(out, tracking_uri),
    )


def training_facts(out: Path, *, data_profile: dict[str, int] | None = None) -> RunFacts:
    """What describes the run in `out`; a finished one that has no key of its own is known by its weights."""
    description, key, parent = json.loads((out / RUN_FILE).read_text()), out / KEY_FILE, out / PARENT_FILE
    return RunFacts(
        name=out.absolute().name or "run",
        key=key.read_text().strip() if key.is_file() else weights_sha256(out / MODEL_FOLDER),
        data_fingerprint=description["data_fingerprint"],
        parameters=description["settings"],
        data_profile=data_profile or {},
        changes=description.get(CHANGES, ()),
        parent=parent.read_text().strip() if parent.is_file() else "",
    )


def read_history(out: Path) -> list[dict[str, float]]:
    """The rows of all phases, in order, each figure with its phase's name."""
    return [
        {key if key in ("step", TIME) else f"{name}.{key}": value for key, value in row.items()}
        for name in PHASES
        for row in read_metrics(out / name)
    ]
