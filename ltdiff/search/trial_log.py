"""A search in MLflow: one run for it, and below it one for each of its trials, with parameters, scores by step, and state."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.registry.runs import STATE_TAG, RunFacts, Status, log_run
from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.first_trials import origin, origin_name
from ltdiff.search.search_report import BEST_FILE, HISTORY_FILE, IMPORTANCE_FILE, REPORT_FILE
from ltdiff.search.study import describe, ended_trials
from ltdiff.search.trial import SearchContext, digest

logger = logging.getLogger(__name__)

STATUS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}
"""MLflow has no word for a trial that is stopped because others are better; STATE_TAG says PRUNED."""


class TrialLog:
    """Writes a search to MLflow while the block runs it, by a thread: a server that hangs holds nothing up.

    After a failure nothing is tried until the search is done; what is missing then is reported, and logged by the same command.
    The search is FINISHED where the block comes to its end, FAILED where it raises, KILLED where it is told to end.
    """

    def __init__(self, context: SearchContext, *, tracking_uri: str) -> None:
        self.context, self.tracking_uri = context, tracking_uri
        self.data_fingerprint = data_fingerprint(read_manifest(context.manifest_path))
        # Of this search and no other: on the same server others may try the same values.
        self.search_key = digest({"data": self.data_fingerprint, "out": str(context.out.absolute())})
        self.study: optuna.Study | None = None
        self.texts: dict[str, str] = {}
        self.files: list[Path] = []
        self.parent = ""
        self.logged: set[int] = set()
        self.is_down = False
        self.waiting = threading.Semaphore(1)  # one update that waits sees all that others would
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="trial-log")

    def update(self, study: optuna.Study) -> None:
        """Log what is new since, of running trials too."""
        self.study = study
        if self.waiting.acquire(blocking=False):
            self.pool.submit(self._update)

    def wait(self, study: optuna.Study) -> str:
        """Log what there is, and return the id of the search's run; "" where it has none."""
        self.update(study)
        self.pool.submit(int).result()
        return self.parent

    def add_report(self, report: str, study: optuna.Study) -> None:
        """Log the report of a search at its end, with its plots and best settings; it names earlier searches without folders."""
        for trial in study.get_trials(deepcopy=False):
            report = report.replace(origin(trial), origin_name(trial))
        self.texts = {REPORT_FILE: report}
        files = (self.context.out / name for name in (BEST_FILE, HISTORY_FILE, IMPORTANCE_FILE))
        self.files = [file for file in files if file.is_file()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)
        if self.study is None:
            return
        if kind is None:
            self.is_down = False
            self._log(self.study)
            if missing := len(ended_trials(self.study)) - len(self.logged):
                logger.warning("%d trials are not in MLflow; the same command logs them", missing)
                return
        if not self.is_down:
            status: Status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
            self._log_search(self.study, status=status)

    def _update(self) -> None:
        self.waiting.release()
        assert self.study is not None
        self._log(self.study)

    def _log(self, study: optuna.Study) -> None:
        """The search, then its trials."""
        if self.is_down or not self._log_search(study, status="RUNNING"):
            self.is_down = True
            return
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in [*ended_trials(study), *running]:
            if not self.is_down and trial.number not in self.logged:
                self.is_down = self._log_trial(trial) is None
                if not self.is_down and trial.state != TrialState.RUNNING:
                    self.logged.add(trial.number)

    def _log_search(self, study: optuna.Study, *, status: Status) -> str:
        described = describe(self.context)
        facts = RunFacts(
            self.context.out.name,
            key=f"search-{self.search_key}",
            data_fingerprint=self.data_fingerprint,
            parameters={"settings": described["settings"], "search": described["search"]},
        )
        logged = log_run(
            facts,
            out=self.context.out,
            metrics={"num_trials": float(len(ended_trials(study)))},
            history=_best_so_far(study),
            texts=self.texts,
            files=self.files,
            status=status,
            tracking_uri=self.tracking_uri,
        )
        self.parent = logged or self.parent
        return logged or ""

    def _log_trial(self, trial: FrozenTrial) -> str | None:
        chosen = self.context.space.decode(trial.params)
        scores = self.context.scores(chosen)
        facts = RunFacts(
            f"{self.context.out.name}-trial-{trial.number:04d}",
            key=f"search-{self.search_key}-trial-{trial.number:04d}",
            data_fingerprint=self.data_fingerprint,
            parameters=chosen,
            parent=self.parent,
        )
        return log_run(
            facts,
            out=self.context.out,
            metrics=scores[-1] if scores else {},
            history=scores,
            tags={STATE_TAG: trial.state.name, "ltdiff.origin": origin_name(trial)},
            status=STATUS[trial.state],
            tracking_uri=self.tracking_uri,
        )


def _best_so_far(study: optuna.Study) -> list[dict[str, Any]]:
    """The smallest remaining error of a complete trial, after each that has ended."""
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(ended_trials(study), start=1):
        if trial.state == TrialState.COMPLETE:
            best = min([trial.values[0], *(row[REMAINING_ERROR] for row in rows[-1:])])
            rows.append({"step": number, REMAINING_ERROR: best})
    return rows
