"""A complete search: the trials, their report and runs in MLflow, then the best settings at full length, registered."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.registry.client import find_tracking_uri
from ltdiff.registry.runs import RunFacts, log_run
from ltdiff.search.config import SearchConfig
from ltdiff.search.search_report import best_trial, write_report
from ltdiff.search.space import DEFAULT_SPACE, SearchSpace
from ltdiff.search.sweep import ended_trials, run_trials
from ltdiff.search.trial import SearchContext, digest, validation_regions
from ltdiff.system.lock import only_writer
from ltdiff.system.settings_tree import change_settings
from ltdiff.training.config import Settings
from ltdiff.training.finish_run import finish_run
from ltdiff.training.phases import PHASES
from ltdiff.training.ray_driver import train_on_ray

logger = logging.getLogger(__name__)

BEST_FOLDER = "best-{number:04d}"
"""By the number of the trial: more trials may find a better one."""


def search(
    pairs: Path,
    *,
    out: Path,
    config: SearchConfig,
    settings: Settings,
    space: Path | None = None,
    train_best: bool = True,
    tracking_uri: str | None = None,
) -> str:
    """Run the trials, write the report, train the best settings at full length (BEST_FOLDER); the report as Markdown.

    Raises:
        ValueError: `out` holds another search or is being written; no pair validates; no trial came to its end.
    """
    pairs, out = pairs.absolute(), out.absolute()
    context = SearchContext(pairs, out, settings, SearchSpace.read(space or DEFAULT_SPACE, base=settings), config)
    validation_regions(context)  # trials that cannot be scored are not begun
    with only_writer(out):
        uri = find_tracking_uri(out, tracking_uri)
        log = TrialLog(context, tracking_uri=uri)
        study = run_trials(context, on_end=log.update)
        report = write_report(study, context)
        log.finish(study)
        if train_best:
            best = best_trial(study, context)
            run = out / BEST_FOLDER.format(number=best.number)
            best_settings = change_settings(settings, context.space.decode(best.params))
            train_on_ray(list(PHASES), manifest_path=pairs, out=run, settings=best_settings, tracking_uri=uri, in_mlflow=True)
            finish_run(pairs, out=run, tracking_uri=uri)
    return report


class TrialLog:
    """Ended trials as runs in MLflow, written beside the search by a thread: a server that hangs holds nothing up.

    After a failure nothing is tried until the search is done; what is missing then is reported, and logged by the same command.
    """

    def __init__(self, context: SearchContext, *, tracking_uri: str) -> None:
        self.context, self.tracking_uri = context, tracking_uri
        self.data_fingerprint = data_fingerprint(read_manifest(context.manifest_path))
        # Of this search and no other: on the same server others may try the same values.
        self.search_key = digest({"data": self.data_fingerprint, "out": str(context.out.absolute())})
        self.logged: set[int] = set()
        self.is_down = False
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="trial-log")

    def update(self, study: optuna.Study) -> None:
        """Log what has ended since."""
        self.pool.submit(self._log, study)

    def finish(self, study: optuna.Study) -> None:
        """Log all that is missing, or say that it is."""
        self.pool.shutdown()
        self.is_down = False
        self._log(study)
        if missing := len(ended_trials(study)) - len(self.logged):
            logger.warning("%d trials are not in MLflow; the same command logs them", missing)

    def _log(self, study: optuna.Study) -> None:
        for trial in ended_trials(study):
            if self.is_down:
                return
            if trial.number not in self.logged:
                self.is_down = self._log_trial(trial) is None
                if not self.is_down:
                    self.logged.add(trial.number)

    def _log_trial(self, trial: FrozenTrial) -> str | None:
        chosen = self.context.space.decode(trial.params)
        scores = self.context.scores(chosen)
        facts = RunFacts(
            f"{self.context.out.name}-trial-{trial.number:04d}",
            key=f"search-{self.search_key}-trial-{trial.number:04d}",
            data_fingerprint=self.data_fingerprint,
            parameters=chosen,
        )
        return log_run(
            facts,
            out=self.context.out,
            metrics=scores[-1] if scores else {"failed": 1.0},
            history=scores,
            tracking_uri=self.tracking_uri,
        )
