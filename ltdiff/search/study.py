"""The Optuna study of a search: its trials, how their values are chosen, and what it is told of each.

out/search.json      what is searched; the same command goes on, another one is refused
out/study.db         the Optuna study (`optuna-dashboard sqlite:///out/study.db`)

A trial that comes to its end is COMPLETE. One that is stopped early is PRUNED, with the scores that it had: Optuna's estimator
ranks it by the last of them, behind all that came further.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.space import to_dict
from ltdiff.search.trial import NUMBER, SearchContext
from ltdiff.system.folder_claim import claim

SEARCH_FILE, STUDY_FILE = "search.json", "study.db"
HOW_MUCH = "num_trials", "num_concurrent", "num_final", "num_final_seeds"
"""Settings of a search that may change when it is resumed."""
STUDY_NAME = "ltdiff"
CONTINUES, ORIGIN, EARLIER = "continues", "origin", "earlier"
"""User attributes of a trial: the number of the interrupted one that it goes on with; where its values are from, if they were not
drawn; and whether an earlier search ran it."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
NUM_RANDOM_TRIALS = 12
"""Random trials before the estimator chooses. After fewer, and where it draws parameters jointly (`multivariate`), some searches
settle on a wrong process and never leave it (docs/notes/search.md)."""


def open_study(context: SearchContext) -> optuna.Study:
    """Open the study in `context.out`, or begin one.

    Raises:
        ValueError: `context.out` holds another search, or something else.
    """
    claim(context.out / SEARCH_FILE, describe(context))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(context.config.objective_names)
    return optuna.create_study(
        storage=study_url(context.out),
        study_name=STUDY_NAME,
        directions=directions,
        sampler=_SeededByNumber(context),
        load_if_exists=True,
    )


def describe(context: SearchContext) -> dict[str, Any]:
    """What is searched; more trials are no other search."""
    return {
        "data_fingerprint": data_fingerprint(read_manifest(context.manifest_path)),
        "settings": to_dict(context.base),
        "space": {name: vars(parameter) for name, parameter in context.space.parameters.items()},
        "search": {key: value for key, value in vars(context.config).items() if key not in HOW_MUCH},
    }


def study_url(out: Path) -> str:
    """The study of the search in `out`, for Optuna."""
    return f"sqlite:///{out / STUDY_FILE}"


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Those of this search that have come to their end, stopped early and failed ones too; not those that another continues."""
    return [trial for trial in known_trials(study) if EARLIER not in trial.user_attrs]


def known_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The ended ones, and those of earlier searches that were taken over."""
    trials = study.get_trials(deepcopy=False)
    return [one for one in trials if one.state in ENDED and one.number not in _continued(trials)]


def continue_interrupted(study: optuna.Study) -> None:
    """Enqueue the trials that were running when the search was killed, as new ones with the same values."""
    trials = study.get_trials(deepcopy=False)
    for trial in (trial for trial in trials if trial.state == TrialState.RUNNING):
        if trial.number not in _continued(trials):
            study.enqueue_trial(trial.params, user_attrs={**trial.user_attrs, CONTINUES: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def _continued(trials: list[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[CONTINUES] for trial in trials if CONTINUES in trial.user_attrs}


class StudySearcher(Searcher):
    """Gives Ray Tune the values of trials, and tells the study how they go.

    Ray's own OptunaSearch tells it that a trial which was stopped is complete, with the score that it had by then, and keeps that
    score from the intermediate ones: the estimator would take a tenth of a trial for a whole one.
    """

    def __init__(self, study: optuna.Study, context: SearchContext) -> None:
        super().__init__(metric=REMAINING_ERROR, mode="min")
        self.study, self.context = study, context
        self.trials: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Values for a new trial, and its number."""
        trial = self.trials[trial_id] = self.study.ask()
        self.context.space.suggest(trial)
        return {NUMBER: trial.number, **trial.params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a score, of a trial that goes on."""
        if len(self.context.config.objective_names) == 1:  # Optuna takes no others
            step = result["training_iteration"]
            if step not in self.study.get_trials(deepcopy=False)[self.trials[trial_id].number].intermediate_values:
                self.trials[trial_id].report(result[REMAINING_ERROR], step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the end of a trial; `result` is its last score."""
        if error or not result or REMAINING_ERROR not in result:
            self.study.tell(self.trials[trial_id], state=TrialState.FAIL)
            return
        self.on_trial_result(trial_id, result)
        names = self.context.config.objective_names
        is_whole = len(names) > 1 or result["training_iteration"] >= self.context.config.num_scores
        if is_whole:
            self.study.tell(self.trials[trial_id], [result[name] for name in names])
        else:
            self.study.tell(self.trials[trial_id], state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""


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
