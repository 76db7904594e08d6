"""The trials of a search: Ray Tune runs them, Optuna chooses their values, ASHA ends those that fall behind.

The study is all that a restart needs: Ray's own state of an experiment is pickled and older than its last result, so a search
begins a new experiment and goes on with the study. A trial that was running is run again with its values, from its last
checkpoint, and reports again what it had; ASHA is told what the finished ones reported. With one trial at a time an
interrupted search is the same, trial for trial, as one that never was.

A process that has ended its trial takes the next one: the start of a process takes longer than many a trial.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.first_trials import add_first_trials
from ltdiff.search.study import StudySearcher, continue_interrupted, ended_trials, known_trials, open_study
from ltdiff.search.sweep_progress import MAX_FAILED_ALIKE, SweepProgress
from ltdiff.search.trial import SearchContext, run_trial, trains_here, trial_resources
from ltdiff.system.ray_cluster import ray_session
from ltdiff.system.resources import environment
from ltdiff.training.ray_driver import num_cpus_needed

logger = logging.getLogger(__name__)

TUNE_FOLDER = ".tune"
"""Folder of Ray Tune's own notes; nothing is read from it again."""
TUNE_ENVIRONMENT = {"TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
"""Ctrl-C is a KeyboardInterrupt, as everywhere: Tune would end as if all trials had been run. No logs that nobody reads."""


def run_trials(
    context: SearchContext, *, earlier: Sequence[Path] = (), on_change: Callable[[optuna.Study], None] = lambda study: None
) -> optuna.Study:
    """Run what is missing of a search's trials and return the study. `on_change` is called at each score and end of a trial.

    `earlier`: see `add_first_trials`.

    Raises:
        ValueError: `context.out` holds another search; the Ray cluster is too small; trials failed alike, one after the other; or
            as `add_first_trials`.
    """
    study = open_study(context)
    continue_interrupted(study)
    add_first_trials(study, context, earlier)
    num_missing = context.config.num_trials - len(ended_trials(study))
    if num_missing > 0:
        logger.info("%d of %d trials to run", num_missing, context.config.num_trials)
        with trial_cluster(context):
            _fit(context, study, num_missing, on_change)
    return study


@contextmanager
def trial_cluster(context: SearchContext) -> Iterator[None]:
    """Have Ray with room for the trials that run at a time."""
    settings, num_concurrent = context.base, context.config.num_concurrent
    num_cpus = num_concurrent * (1 if trains_here(settings) else num_cpus_needed(settings) + 1)
    num_gpus = num_concurrent * settings.training.num_workers * settings.training.use_gpu
    uses_train = not trains_here(settings)
    with (
        ray_session(num_cpus=num_cpus, num_gpus=num_gpus, dashboard=uses_train, show_workers=False),
        environment(TUNE_ENVIRONMENT),
    ):
        # It complains, trial for trial, that the logs that nobody reads are not there.
        logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
        yield


def make_tuner(
    function: Callable[..., None],
    context: SearchContext,
    *,
    callback: tune.Callback,
    options: Mapping[str, Any] = MappingProxyType({}),
    param_space: Mapping[str, Any] = MappingProxyType({}),
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> tune.Tuner:
    """Ray Tune's runner of `function(config, context, **parameters)`; `options` are those of its TuneConfig."""
    shutil.rmtree(context.out / TUNE_FOLDER, ignore_errors=True)
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(function, context=context, **parameters), trial_resources(context.base)),
        param_space=dict(param_space),
        tune_config=tune.TuneConfig(max_concurrent_trials=context.config.num_concurrent, reuse_actors=True, **options),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=str(context.out),
            callbacks=[callback],
            stop=callback if isinstance(callback, tune.Stopper) else None,
            verbose=0,
        ),
    )


def _fit(context: SearchContext, study: optuna.Study, num_missing: int, on_change: Callable[[optuna.Study], None]) -> None:
    progress = SweepProgress(context, num_missing, lambda: on_change(study))
    search, scheduler = StudySearcher(study, context), _scheduler(context, study)
    options = {"search_alg": search, "scheduler": scheduler, "num_samples": num_missing}
    make_tuner(run_trial, context, callback=progress, options=options).fit()
    if progress.has_failed:  # trials that were running beside stay so, and are gone on with
        raise ValueError(
            f"{MAX_FAILED_ALIKE} trials in a row failed alike: {progress.failure}; when that is mended, the same command goes on"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # whose end Optuna could not be told
        study.tell(trial.number, state=TrialState.FAIL)


def _scheduler(context: SearchContext, study: optuna.Study) -> TrialScheduler:
    config = context.config
    if not config.early_stopping or len(config.objective_names) > 1:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        metric=REMAINING_ERROR, mode="min", max_t=config.num_scores, grace_period=1, reduction_factor=config.reduction_factor
    )
    for trial in known_trials(study):  # as if they had run in this experiment
        known = SimpleNamespace(trial_id=f"earlier {trial.number}")
        scheduler.on_trial_add(None, known)
        for number, value in sorted(trial.intermediate_values.items()):
            scheduler.on_trial_result(None, known, {"training_iteration": number, REMAINING_ERROR: value})
    return scheduler
