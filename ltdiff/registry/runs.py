"""One MLflow run for each run of ours: settings, figures over time, the data by their fingerprint, code version.

A run that lasts is written while it does (live_run); what is missing at its end is added by `log_run`.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml

import ltdiff
from ltdiff.registry.client import MlflowClient, attempt, find_tracking_uri, open_client, sqlite_file

EXPERIMENT = "ltdiff"
REVISION_VARIABLE, REVISION_FILE = "LTDIFF_REVISION", "REVISION"

SETTINGS_FILE = "settings.yaml"
"""Artifact of a run; `--config` takes it."""
TIME = "time"
"""Of a row of figures: when they were measured, in seconds since 1970."""
CHANGES_TAG = "ltdiff.changes"
STATE_TAG = "ltdiff.trial_state"
"""Tag of a trial: COMPLETE, PRUNED (which MLflow's statuses do not have: KILLED), FAIL or RUNNING."""
Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
"""MLflow's words; a run that waits for the next command to go on is SCHEDULED."""

_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_RUN_KEY_TAG, _PARENT_TAG = "ltdiff.run_key", "mlflow.parentRunId"
_MAX_METRICS_PER_BATCH = 1000  # limits of MLflow's log_batch
_MAX_PARAMS_PER_BATCH = 100
_MAX_DIGEST, _MAX_TAG = 36, 5000


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


class Figure(NamedTuple):
    """A figure of a run; `time_ms` is when it was measured, None where that was not noted."""

    name: str
    value: float
    step: int
    time_ms: int | None


@dataclass(frozen=True)
class RunFacts:
    """What identifies and describes a run of ours from its beginning on.

    Args:
        name: what MLflow shows.
        key: the same for the same run and for no other; letters, digits and . _ -.
        data_fingerprint: sha256 of the manifest the run uses.
        parameters: the configuration; nested mappings become dotted names. Values that are a Path are left out: the folders of
            an archive may name patients.
        data_profile: numbers that describe the data.
        changes: what the run went on with that it had not begun with.
        code: as `code_version` gives it, and what that says where it is None.
        parent: id of the MLflow run under which this one is shown.

    Raises:
        ValueError: for a key with other characters than letters, digits and . _ -.
    """

    name: str
    key: str
    data_fingerprint: str
    parameters: Mapping[str, Any]
    data_profile: Mapping[str, int] = field(default_factory=dict)
    changes: Sequence[str] = ()
    code: Mapping[str, str] | None = None
    parent: str = ""

    def __post_init__(self) -> None:
        if not self.key or _NOT_IN_NAMES.search(self.key):
            raise ValueError(f"{self.key!r} is no key of a run: only letters, digits and . _ - are possible")

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run in MLflow."""
        code = code_version() if self.code is None else self.code
        tags = {f"ltdiff.{name}": value for name, value in code.items()}
        tags |= {_RUN_KEY_TAG: self.key, "ltdiff.data_fingerprint": self.data_fingerprint}
        tags |= {_PARENT_TAG: self.parent} if self.parent else {}
        return tags | ({CHANGES_TAG: "; ".join(self.changes)[:_MAX_TAG]} if self.changes else {})

    @property
    def settings(self) -> dict[str, str]:
        """{"a": {"b": 1}} → {"a.b": "1"}."""
        flat = pd.json_normalize(_without_paths(self.parameters)).to_dict("records")[0]
        return {str(name): str(value) for name, value in flat.items()}

    @property
    def settings_text(self) -> str:
        """The parameters as YAML."""
        return yaml.safe_dump(_without_paths(self.parameters), sort_keys=False)


def log_run(
    facts: RunFacts,
    *,
    out: Path,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, Any]] = (),
    texts: Mapping[str, str] | None = None,
    files: Sequence[Path] = (),
    tags: Mapping[str, str] | None = None,
    status: Status = "FINISHED",
    tracking_uri: str | None = None,
) -> str | None:
    """Log a run once and return its MLflow id, or None with one warning where MLflow cannot be reached.

    Args:
        facts: what the run is. A second call with the same key adds nothing to a run that was logged to its end, and completes
            one that was not.
        out: the run folder: place of mlflow.db, and of unlogged-<name of the run>.json while MLflow does not have the run.
        metrics: final figures.
        history: rows of figures, each with its "step" and perhaps its TIME; entries that are not numbers are left out.
        texts: artifacts by name.
        files: further artifacts.
        tags: further tags.
        status: how the run ended; RUNNING if it has not, and more is to be logged.
        tracking_uri: an MLflow tracking URI; None takes MLFLOW_TRACKING_URI, or else SQLite in `out`.
    """
    uri = find_tracking_uri(out, tracking_uri)
    times = [row[TIME] for row in history if TIME in row]
    figures = make_figures([*history, {**metrics, **({TIME: max(times)} if times else {})}])

    def log() -> str:
        with open_client(uri) as client:
            run = begin_run(client, uri, facts, begun_s=min(times, default=None))
            run_id = str(run.info.run_id)
            if run.info.status != status or status == "RUNNING":
                log_figures(client, run, figures)
                for name, text in {SETTINGS_FILE: facts.settings_text, **(texts or {})}.items():
                    client.log_text(run_id, text, name)
                for file in files:
                    client.log_artifact(run_id, str(file))
                for name, text in (tags or {}).items():
                    client.set_tag(run_id, name, text)
                set_status(client, run_id, status)
            return run_id

    run_id = attempt(log, f"run {facts.name} was not logged in MLflow")
    record = out / f"unlogged-{_NOT_IN_NAMES.sub('_', facts.name)}.json"
    if run_id is None:
        kept = [figure[:3] for figure in figures]
        record.write_text(json.dumps({"tags": facts.tags, "parameters": facts.settings, "metrics": kept}, indent=1))
    else:
        record.unlink(missing_ok=True)
    return run_id


def begin_run(client: MlflowClient, tracking_uri: str, facts: RunFacts, *, begun_s: float | None = None) -> Any:
    """The run with this key, made where there is none; with its tags, parameters and data, unless it is finished."""
    from mlflow.entities import Param

    experiment, key = _experiment_id(client, tracking_uri), f"tags.`{_RUN_KEY_TAG}` = '{facts.key}'"
    known = client.search_runs([experiment], key, max_results=1)
    begun_ms = None if begun_s is None else int(begun_s * 1000)
    run = known[0] if known else client.create_run(experiment, begun_ms, facts.tags, facts.name)
    if run.info.status == "FINISHED":
        return run
    run_id = run.info.run_id
    for name, value in facts.tags.items():
        if run.data.tags.get(name) != value:
            client.set_tag(run_id, name, value)
    # What MLflow has stays: it takes no second value, and says no to a run that went on with other settings.
    params = [Param(name, value) for name, value in facts.settings.items() if name not in run.data.params]
    for start in range(0, len(params), _MAX_PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS_PER_BATCH])
    if facts.data_fingerprint:
        client.log_inputs(run_id, [_dataset(facts)])
    return run


def set_status(client: MlflowClient, run_id: str, status: Status) -> None:
    """Set the status of a run, with the time of its end if it is one."""
    is_end = status in ("FINISHED", "FAILED", "KILLED")
    client.set_terminated(run_id, status) if is_end else client.update_run(run_id, status)


def log_figures(client: MlflowClient, run: Any, figures: Sequence[Figure]) -> None:
    """Log figures; MLflow drops exact repetitions, so that a run cut off in the middle can be completed."""
    from mlflow.entities import Metric

    default_ms = run.info.start_time
    values = [Metric(name, value, default_ms if time_ms is None else time_ms, step) for name, value, step, time_ms in figures]
    for start in range(0, len(values), _MAX_METRICS_PER_BATCH):
        client.log_batch(run.info.run_id, metrics=values[start : start + _MAX_METRICS_PER_BATCH])


def make_figures(rows: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """The numbers of all rows, with each row's step and time."""
    return list(_numbers(rows))


def _experiment_id(client: MlflowClient, tracking_uri: str) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    database = sqlite_file(tracking_uri)  # MLflow would put the artifacts into the current folder
    place = None if database is None else (database.resolve().parent / "mlartifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=place))


def _dataset(facts: RunFacts) -> Any:
    """The manifest as MLflow's dataset: its fingerprint and numbers, and no path, patient or date."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    sha256 = facts.data_fingerprint
    source, profile = json.dumps({"sha256": sha256}), json.dumps(dict(facts.data_profile))
    dataset = Dataset("pairs", sha256[:_MAX_DIGEST], "manifest", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _numbers(rows: Iterable[Mapping[str, Any]]) -> Iterator[Figure]:
    for row in rows:
        time_ms = int(row[TIME] * 1000) if TIME in row else None
        for name, value in row.items():
            if name not in ("step", TIME) and isinstance(value, int | float) and not isinstance(value, bool):
                yield Figure(name, float(value), int(row.get("step", 0)), time_ms)


def _without_paths(value: Any) -> Any:
    """Mappings, lists and what is in them, as YAML can have them; without paths."""
    if isinstance(value, Mapping):
        return {str(key): _without_paths(one) for key, one in value.items() if not isinstance(one, Path)}
    if isinstance(value, list | tuple):
        return [_without_paths(one) for one in value]
    return value
