"""The trials of a search: Ray Tune runs them, Optuna chooses their values, ASHA ends those that fall behind.

    out/search.json      what is searched; the same command goes on, another one is refused
    out/study.db         the Optuna study (`optuna-dashboard sqlite:///out/study.db`)
    out/trials/          see trial.py

The study is all that a restart needs: Ray's own state of an experiment is pickled and older than its last result, so a search
begins a new experiment and goes on with the study. A trial that was running is run again with its values, from its last
checkpoint, and reports again what it had; ASHA is told what the finished ones reported. With one trial at a time an
interrupted search is the same, trial for trial, as one that never was.
"""

import logging
import re
import shutil
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.space import SearchSpace, to_dict
from ltdiff.search.trial import SearchContext, run_trial
from ltdiff.system.folder_claim import claim
from ltdiff.system.progress import duration
from ltdiff.system.ray_cluster import ray_session
from ltdiff.system.resources import environment
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER
from ltdiff.training.ray_driver import RAY_FOLDER, num_cpus_needed

logger = logging.getLogger(__name__)

SEARCH_FILE, STUDY_FILE = "search.json", "study.db"
HOW_MUCH = "num_trials", "num_concurrent"
"""Settings of a search that may change when it is resumed."""
STUDY_NAME = "ltdiff"
TUNE_FOLDER = ".tune"
"""Folder of Ray Tune's own notes; nothing is read from it again."""
NUMBER = "number"
"""Key of a trial's number, beside its values."""
CONTINUES = "continues"
"""User attribute of a trial: the number of the interrupted one that it goes on with."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
MAX_FAILED_ALIKE = 5
"""Number of trials in a row with the same failure that ends the search: the cause is not in their values."""
NOT_FINITE = "not finite"
"""Part of the error of a trial that fails because of its own values, for example a learning rate."""
PROGRESS_S = 20.0
TUNE_ENVIRONMENT = {"TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
"""Ctrl-C is a KeyboardInterrupt, as everywhere: Tune would end as if all trials had been run. No logs that nobody reads."""
NUM_RANDOM_TRIALS = 12
"""Random trials before the estimator chooses. After fewer, and where it draws parameters jointly (`multivariate`), some searches
settle on a wrong process and never leave it (docs/notes/search.md)."""


def run_trials(context: SearchContext, *, on_end: Callable[[optuna.Study], None] = lambda study: None) -> optuna.Study:
    """Run what is missing of a search's trials and return the study. `on_end` is called whenever one has ended.

    Raises:
        ValueError: `context.out` holds another search; the Ray cluster is too small; or trials failed alike, one after the other.
    """
    _claim(context)
    study = _open_study(context)
    _continue_interrupted(study)
    num_missing = context.config.num_trials - len(ended_trials(study))
    if num_missing > 0:
        logger.info("%d of %d trials to run", num_missing, context.config.num_trials)
        num_cpus = context.config.num_concurrent * (num_cpus_needed(context.base) + 1)
        num_gpus = context.config.num_concurrent * context.base.training.num_workers * context.base.training.use_gpu
        with ray_session(num_cpus=num_cpus, num_gpus=num_gpus, dashboard=True, show_workers=False), environment(TUNE_ENVIRONMENT):
            _fit(context, study, num_missing, on_end)
    return study


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Those that have come to their end, stopped early and failed ones too; not those that another one goes on with."""
    trials = study.get_trials(deepcopy=False)
    return [one for one in trials if one.state in ENDED and one.number not in _continued(trials)]


def scores_of(trial: FrozenTrial, context: SearchContext) -> dict[int, float]:
    """The remaining errors that an ended trial reported, by their number from 1 on; none of one that failed.

    Tune hands Optuna the report at which it stops a trial as the trial's value, and the others as intermediate values.
    """
    scores = dict(trial.intermediate_values)
    if trial.state == TrialState.COMPLETE:
        scores[min(len(scores) + 1, context.config.num_scores)] = trial.values[0]
    return scores


def _fit(context: SearchContext, study: optuna.Study, num_missing: int, on_end: Callable[[optuna.Study], None]) -> None:
    shutil.rmtree(context.out / TUNE_FOLDER, ignore_errors=True)
    names = context.config.objective_names
    search = OptunaSearch(
        partial(_suggest, context.space),
        metric=names if len(names) > 1 else names[0],
        mode=["min"] * len(names) if len(names) > 1 else "min",
        sampler=_SeededByNumber(context),
        study_name=STUDY_NAME,
        storage=optuna.storages.RDBStorage(_url(context.out)),
    )
    progress = _SweepProgress(context, num_missing, lambda: on_end(study))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, context=context), {"cpu": 0.1}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_scheduler(context, study),
            num_samples=num_missing,
            max_concurrent_trials=context.config.num_concurrent,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER, storage_path=str(context.out), callbacks=[progress], stop=progress, verbose=0
        ),
    )
    # It complains, trial for trial, that the logs that nobody reads are not there.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    tuner.fit()
    if progress.has_failed:  # trials that were running beside stay so, and are gone on with
        raise ValueError(
            f"{MAX_FAILED_ALIKE} trials in a row failed alike: {progress.failure}; when that is mended, the same command goes on"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # whose end Optuna could not be told
        study.tell(trial.number, state=TrialState.FAIL)


def _suggest(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Ask for the values of a trial; return what Tune adds to them."""
    space.suggest(trial)
    return {NUMBER: trial.number}


def _claim(context: SearchContext) -> None:
    """Note in `context.out` what is searched there, or check that it is this; more trials are no other search."""
    description = {
        "data_fingerprint": data_fingerprint(read_manifest(context.manifest_path)),
        "settings": to_dict(context.base),
        "space": {name: vars(parameter) for name, parameter in context.space.parameters.items()},
        "search": {key: value for key, value in vars(context.config).items() if key not in HOW_MUCH},
    }
    claim(context.out / SEARCH_FILE, description)


def _open_study(context: SearchContext) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(context.config.objective_names)
    return optuna.create_study(storage=_url(context.out), study_name=STUDY_NAME, directions=directions, load_if_exists=True)


def _url(out: Path) -> str:
    return f"sqlite:///{out / STUDY_FILE}"


def _continued(trials: list[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[CONTINUES] for trial in trials if CONTINUES in trial.user_attrs}


def _continue_interrupted(study: optuna.Study) -> None:
    """Trials that were running when the search was killed come first, as new ones with the same values."""
    trials = study.get_trials(deepcopy=False)
    for trial in (trial for trial in trials if trial.state == TrialState.RUNNING):
        if trial.number not in _continued(trials):
            study.enqueue_trial(trial.params, user_attrs={CONTINUES: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


class _SeededByNumber(BaseSampler):
    """The configured sampler, seeded anew for every trial by its place: what is drawn does not depend on restarts."""

    def __init__(self, context: SearchContext) -> None:
        self.config = context.config
        self.sampler: BaseSampler = RandomSampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        place = trial.number - len(_continued(study.get_trials(deepcopy=False)))
        seed = int(np.random.SeedSequence([self.config.seed, place]).generate_state(1)[0])
        if self.config.sampler == "random":
            self.sampler = RandomSampler(seed)
        else:
            self.sampler = TPESampler(n_startup_trials=NUM_RANDOM_TRIALS, constant_liar=True, seed=seed)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        return self.sampler.sample_independent(study, trial, param_name, distribution)


def _scheduler(context: SearchContext, study: optuna.Study) -> TrialScheduler:
    config = context.config
    if not config.early_stopping or len(config.objective_names) > 1:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        metric=REMAINING_ERROR, mode="min", max_t=config.num_scores, grace_period=1, reduction_factor=config.reduction_factor
    )
    for trial in ended_trials(study):  # as if they had run in this experiment
        known = SimpleNamespace(trial_id=f"earlier {trial.number}")
        scheduler.on_trial_add(None, known)
        for number, value in sorted(scores_of(trial, context).items()):
            scheduler.on_trial_result(None, known, {"training_iteration": number, REMAINING_ERROR: value})
    return scheduler


class _SweepProgress(tune.Callback, tune.Stopper):
    """A line for every trial that ends, and now and then one of where a trial is; an ended one's checkpoints are removed.

    Ends the search when trials fail for a reason that is not theirs.
    """

    def __init__(self, context: SearchContext, num_missing: int, on_end: Callable[[], None]) -> None:
        self.context, self.num_missing, self.on_end = context, num_missing, on_end
        self.num_ended = self.num_failed_alike = 0
        self.failure = ""
        self.has_failed = False  # and stays so, whatever a trial that ran beside still does
        self.started_s = self.logged_s = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it for a restart of its own, and what `on_end` holds (threads, connections) cannot be."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Say now and then that it goes on."""
        if time.monotonic() - self.logged_s > PROGRESS_S:
            self.logged_s = time.monotonic()
            place = f"score {result['training_iteration']} of {self.context.config.num_scores}"
            logger.info("trial %d: %s, remaining error %.4f", trial.config[NUMBER], place, result[REMAINING_ERROR])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report a trial that has ended or was stopped by ASHA."""
        self.num_failed_alike = 0
        result = trial.last_result
        num_scores = result["training_iteration"]
        text = "to its end" if num_scores == self.context.config.num_scores else f"stopped after score {num_scores}"
        self._end(trial, f"{text}, remaining error {result[REMAINING_ERROR]:.4f}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The others go on, unless several fail alike: but for paths and numbers, and not of their own values."""
        failure = str(trial.get_error() or "unknown reason").strip().splitlines()[-1][:300]
        if NOT_FINITE in failure:
            self.num_failed_alike = 0
        elif _without_numbers(failure) == _without_numbers(self.failure):
            self.num_failed_alike += 1
        else:
            self.num_failed_alike = 1
        self.has_failed |= self.num_failed_alike >= MAX_FAILED_ALIKE
        self.failure = failure
        self._end(trial, f"failed: {failure}")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is ended."""
        return False

    def stop_all(self) -> bool:
        """Asked after every event."""
        return self.has_failed

    def _end(self, trial: Any, outcome: str) -> None:
        self.num_ended += 1
        self.logged_s = time.monotonic()
        each_s = (time.monotonic() - self.started_s) / self.num_ended
        left = duration(each_s * (self.num_missing - self.num_ended))
        config = self.context.config
        place = config.num_trials - self.num_missing + self.num_ended
        logger.info("trial %d, %d of %d: %s; %s left", trial.config[NUMBER], place, config.num_trials, outcome, left)
        folder = self.context.folder(self.context.space.decode(trial.config))
        for leftover in (*folder.glob(f"*/{CHECKPOINTS_FOLDER}"), folder / RAY_FOLDER):  # its models and scores stay
            shutil.rmtree(leftover, ignore_errors=True)
        self.on_end()


def _without_numbers(failure: str) -> str:
    """Remove paths and numbers, in which failures of one cause differ."""
    return re.sub(r"\S*/\S*|\d+", "", failure)
