"""The first trials of a search: its own settings, a user's, and what earlier searches know.

The settings that a search is given are its first trial, so that its best is never worse than they are without anybody seeing it.
A file of settings is tried next. Of the folder of an earlier search, the trials are taken over where they were scored as these
are: same data, settings, space, length and scores. Where not, their scores cannot be compared, and its best few values are tried
again.
"""

import copy
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ltdiff.search.space import SearchSpace
from ltdiff.search.study import EARLIER, ORIGIN, SEARCH_FILE, STUDY_NAME, describe, known_trials, study_url
from ltdiff.search.trial import SearchContext
from ltdiff.system.settings_tree import change_settings, read_configuration
from ltdiff.training.config import Settings

logger = logging.getLogger(__name__)

OWN_SETTINGS = "the settings given"
"""Origin of the first trial."""
NUM_TRIED_AGAIN = 3
"""Best trials of an earlier search of another kind that are tried again."""
NO_MATTER = "seed", "sampler", "early_stopping", "reduction_factor"
"""Settings of a search by which its trials are chosen, and not scored."""


def add_first_trials(study: optuna.Study, context: SearchContext, earlier: Sequence[Path]) -> None:
    """Add the trials of `earlier` (files of settings, folders of searches) and enqueue the first ones; nothing twice.

    Raises:
        ValueError: one of `earlier` is neither, or the values of a file are not in the space; it is named.
    """
    wanted: list[tuple[str, dict[str, Any]]] = []
    try:
        wanted.append((OWN_SETTINGS, context.space.encode(context.base)))
    except ValueError as error:
        logger.warning("the settings given are not tried: the search space has no %s", error)
    for path in earlier:
        wanted += _take_search(study, context, path.absolute()) if path.is_dir() else [(str(path), _read_values(path, context))]
    for name, values in wanted:
        study.enqueue_trial(values, user_attrs={ORIGIN: name}, skip_if_exists=True)


def origin(trial: FrozenTrial) -> str:
    """Where the values of a trial are from."""
    return str(trial.user_attrs.get(ORIGIN, "drawn"))


def origin_name(trial: FrozenTrial) -> str:
    """The same without folders, for MLflow, where others see it."""
    return origin(trial).rpartition(os.sep)[2]


def _read_values(path: Path, context: SearchContext) -> dict[str, Any]:
    """The values of a trial with the settings of a file; its sections for other commands do not count."""
    sections = {section.name for section in fields(Settings)}
    try:
        changes = {name: value for name, value in read_configuration(str(path)).items() if name in sections}
        return context.space.encode(change_settings(context.base, changes))
    except ValueError as error:
        raise ValueError(f"{path} cannot be tried: {error}") from error


def _take_search(study: optuna.Study, context: SearchContext, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Add the trials of the search in `folder` if they can be compared; or else return its best ones, to be tried again."""
    if folder == context.out:
        raise ValueError(f"{folder} is this search itself; the same command resumes it")
    noted, known = _read_search(folder)
    if not _is_scored_alike(noted, json.loads(json.dumps(describe(context)))):
        logger.info("%s has other data, settings or scores: its best trials are tried again", folder)
        return list(_best_values(context, folder, noted, known))
    present = {trial.user_attrs.get(ORIGIN) for trial in study.get_trials(deepcopy=False)}
    for trial in known:
        name = f"{folder}, trial {trial.number}"
        if trial.state != TrialState.FAIL and name not in present:
            trial = copy.deepcopy(trial)
            trial.user_attrs = {ORIGIN: name, EARLIER: True}
            study.add_trial(trial)
    logger.info("%s: its %d trials are known", folder, len(known))
    return []


def _best_values(
    context: SearchContext, folder: Path, noted: dict[str, Any], known: list[FrozenTrial]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(origin, values) of the best trials of an earlier search, as far as they are in the space."""
    space = SearchSpace.make(noted["space"], path=folder / SEARCH_FILE)
    complete = sorted((trial for trial in known if trial.state == TrialState.COMPLETE), key=lambda trial: trial.values[0])
    for trial in complete[:NUM_TRIED_AGAIN]:
        try:
            values = context.space.encode(change_settings(context.base, space.decode(trial.params)))
        except ValueError as error:
            logger.warning("%s: trial %d is not tried again: %s", folder, trial.number, error)
        else:
            yield f"{folder}, trial {trial.number} again", values


def _read_search(folder: Path) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """What an earlier search noted about itself, and its trials."""
    try:
        noted = json.loads((folder / SEARCH_FILE).read_text())
        study = optuna.load_study(study_name=STUDY_NAME, storage=study_url(folder))
    except (OSError, ValueError, KeyError, RuntimeError, optuna.exceptions.OptunaError) as error:
        raise ValueError(f"{folder} holds no search that can be read: {error}") from error
    return noted, list(known_trials(study))


def _is_scored_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the trials of two searches can be compared."""

    def facts(described: dict[str, Any]) -> dict[str, Any]:
        return described | {"search": {key: value for key, value in described["search"].items() if key not in NO_MATTER}}

    return facts(one) == facts(other)
