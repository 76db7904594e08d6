"""One MLflow run for each finished run of ours: settings, figures over time, data fingerprint, code version."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import ltdiff
from ltdiff.registry.client import MlflowClient, attempt, find_tracking_uri, open_client, sqlite_file

EXPERIMENT = "ltdiff"
REVISION_VARIABLE, REVISION_FILE = "LTDIFF_REVISION", "REVISION"

_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_RUN_KEY_TAG = "ltdiff.run_key"
_MAX_METRICS_PER_BATCH = 1000  # limits of MLflow's log_batch
_MAX_PARAMS_PER_BATCH = 100


def code_version() -> dict[str, str]:
    """{"version": "0.1.0", "git_revision": "<40 hex digits>"}; "-dirty" follows where files were changed.

    Without a git checkout, or without git, the revision is what LTDIFF_REVISION says, or the file that the container image has
    beside its code, if there is either: what a job uploads is neither checkout nor image.
    """
    version = {"version": ltdiff.__version__}
    package = Path(ltdiff.__file__).parent
    noted = package / REVISION_FILE
    if revision := os.environ.get(REVISION_VARIABLE) or (noted.read_text().strip() if noted.is_file() else ""):
        version |= {"git_revision": revision}
    checkout = package.parent
    # Installed in an environment inside another project, git would answer with that project's revision.
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return version
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return version | ({"git_revision": answer.stdout.strip()} if answer.returncode == 0 else {})


def log_run(
    run_name: str,
    *,
    out: Path,
    run_key: str,
    data_fingerprint: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    history: Iterable[Mapping[str, Any]] = (),
    tracking_uri: str | None = None,
) -> str | None:
    """Log a finished run once and return its MLflow id, or None with one warning where MLflow cannot be reached.

    Args:
        run_name: what MLflow shows.
        out: the run folder: place of mlflow.db, and of unlogged-<run_name>.json while MLflow does not have the run.
        run_key: the same for the same finished run and for no other, such as its weights' sha256. A second call with it
            adds nothing to a run that was logged to its end, and completes one that was not.
        data_fingerprint: sha256 of the manifest the run used.
        parameters: the configuration; nested mappings become dotted names. Values that are a Path are left out: the
            folders of an archive may name patients.
        metrics: final figures.
        history: rows of figures, each with its "step"; entries that are not numbers are left out.
        tracking_uri: an MLflow tracking URI; None takes MLFLOW_TRACKING_URI, or else SQLite in `out`.

    Raises:
        ValueError: for a key with other characters than letters, digits and . _ -.
    """
    if not run_key or _NOT_IN_NAMES.search(run_key):
        raise ValueError(f"{run_key!r} is no key of a run: only letters, digits and . _ - are possible")
    uri = find_tracking_uri(out, tracking_uri)
    tags = {f"ltdiff.{name}": value for name, value in code_version().items()}
    tags |= {_RUN_KEY_TAG: run_key, "ltdiff.data_fingerprint": data_fingerprint}
    flat = pd.json_normalize(dict(parameters)).to_dict("records")[0]  # {"a": {"b": 1}} -> {"a.b": 1}
    settings = {str(name): str(value) for name, value in flat.items() if not isinstance(value, Path)}
    figures = list(_numbers([*history, metrics]))

    def log() -> str:
        with open_client(uri) as client:
            experiment, key = _experiment_id(client, uri), f"tags.`{_RUN_KEY_TAG}` = '{run_key}'"
            known = client.search_runs([experiment], key, max_results=1)
            run = known[0] if known else client.create_run(experiment, run_name=run_name, tags=tags)
            if run.info.status != "FINISHED":
                _log_contents(client, run, settings, figures)
            return run.info.run_id

    run_id = attempt(log, f"run {run_name} was not logged in MLflow")
    record = out / f"unlogged-{_NOT_IN_NAMES.sub('_', run_name)}.json"
    if run_id is None:
        record.write_text(json.dumps({"tags": tags, "parameters": settings, "metrics": figures}, indent=1))
    else:
        record.unlink(missing_ok=True)
    return run_id


def _experiment_id(client: MlflowClient, tracking_uri: str) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return known.experiment_id
    database = sqlite_file(tracking_uri)  # MLflow would put the artifacts into the current folder
    place = None if database is None else (database.resolve().parent / "mlartifacts").as_uri()
    return client.create_experiment(EXPERIMENT, artifact_location=place)


def _log_contents(client: MlflowClient, run: Any, settings: Mapping[str, str], figures: list[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric, Param

    run_id, time_ms = run.info.run_id, run.info.start_time
    params = [Param(name, value) for name, value in settings.items()]
    for start in range(0, len(params), _MAX_PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS_PER_BATCH])
    # One time stamp for all: MLflow drops exact repetitions, so that a run cut off in the middle can be completed.
    values = [Metric(name, value, time_ms, step) for name, value, step in figures]
    for start in range(0, len(values), _MAX_METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=values[start : start + _MAX_METRICS_PER_BATCH])
    client.set_terminated(run_id)


def _numbers(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """Each row's figures as (name, value, step)."""
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                yield name, float(value), int(row.get("step", 0))
