"""The best trials again, at full length and with other seeds, beside the settings that the search began with.

    out/finals/trial-0012-seed-1/              a run folder as of `ltdiff train`
    out/finals/trial-0012-seed-1/score.json    its scores on the validation regions

A trial is short and has one seed: the best of many is partly the luckiest. Which settings are best is decided here.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from ltdiff.data.manifest import read_manifest
from ltdiff.model.ltdiff import load_model
from ltdiff.registry.runs import log_run
from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.first_trials import OWN_SETTINGS, origin
from ltdiff.search.study import known_trials
from ltdiff.search.sweep import make_tuner, trial_cluster
from ltdiff.search.trial import SearchContext, fit_data_once, measure, train_trial, validation_regions
from ltdiff.system.atomic_files import write_text
from ltdiff.system.private_ray import restore_umask
from ltdiff.system.settings_tree import change_settings
from ltdiff.training.config import Settings
from ltdiff.training.run import MODEL_FOLDER, prepare_run
from ltdiff.training.run_log import read_history, training_facts, watch_training

logger = logging.getLogger(__name__)

FINALS_FOLDER, SCORE_FILE = "finals", "score.json"


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Those that came to their end, the smallest remaining error first.

    Raises:
        ValueError: there is none.
    """
    complete = [trial for trial in known_trials(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise ValueError("no trial came to its end; the log says why")
    return sorted(complete, key=lambda trial: trial.values[0])


def finalists(study: optuna.Study, context: SearchContext) -> list[FrozenTrial]:
    """The best trials, and the settings that the search began with, which need not have come to their end."""
    best = complete_trials(study)[: context.config.num_final]
    numbers = {trial.number for trial in best}
    given = [trial for trial in known_trials(study) if origin(trial) == OWN_SETTINGS and trial.number not in numbers]
    return [*best, *given[-1:]]


def run_finals(study: optuna.Study, context: SearchContext, *, tracking_uri: str, parent: str = "") -> pd.DataFrame:
    """Train the finalists, as far as they are not, and return the `final_table`; in MLflow they stand below the run `parent`.

    Raises:
        ValueError: none could be trained.
    """
    trials = finalists(study, context)
    missing = [
        {"trial": trial.number, "seed": seed, "folder": folder.name}
        for trial in trials
        for seed, folder in _runs(context, trial)
        if not (folder / SCORE_FILE).is_file()
    ]
    if missing:
        logger.info("the best %d trials again: %d trainings at full length", len(trials), len(missing))
        chosen = {trial.number: context.space.decode(trial.params) for trial in trials}
        with trial_cluster(context):
            make_tuner(
                run_final,
                context,
                callback=_FinalProgress(),
                param_space={"final": tune.grid_search(missing)},
                parameters={"chosen": chosen, "tracking_uri": tracking_uri, "parent": parent},
            ).fit()
    return final_table(trials, context)


def run_final(config: dict[str, Any], context: SearchContext, *, chosen: dict[int, Any], tracking_uri: str, parent: str) -> None:
    """Train and score one run of Ray Tune; one that was interrupted resumes."""
    restore_umask()
    final = config["final"]
    settings = final_settings(context, chosen[final["trial"]], seed=final["seed"])
    folder = context.out / FINALS_FOLDER / final["folder"]
    manifest, data = read_manifest(context.manifest_path), fit_data_once(context.manifest_path)
    prepare_run(manifest, out=folder, settings=settings, data=data)
    if not (folder / MODEL_FOLDER).is_dir():
        with watch_training(context.manifest_path, out=folder, tracking_uri=tracking_uri, parent=parent):
            train_trial(context, settings, folder)
    model, _ = load_model(folder / MODEL_FOLDER)
    score = measure(validation_regions(context), model, settings)
    write_text(folder / SCORE_FILE, json.dumps(score, indent=1) + "\n")
    tune.report(score)


def final_settings(context: SearchContext, chosen: dict[str, Any], *, seed: int) -> Settings:
    """The settings of a search with these values, at full length."""
    return change_settings(context.base, {**chosen, "training.seed": seed})


def final_table(trials: list[FrozenTrial], context: SearchContext) -> pd.DataFrame:
    """One row for each finalist that was trained, the best first: trial, origin, number of trainings, mean, standard deviation,
    least and greatest remaining error at full length.

    Raises:
        ValueError: none was trained.
    """
    rows = []
    for trial in trials:
        errors = pd.Series([score[REMAINING_ERROR] for _, score in final_scores(context, trial)], dtype=float)
        figures = {"mean": errors.mean(), "sd": errors.std(), "least": errors.min(), "greatest": errors.max()}
        short = trial.values[0] if trial.state == TrialState.COMPLETE else None
        rows.append({"trial": trial.number, "origin": origin(trial), "trainings": len(errors), **figures, "as a trial": short})
    table = pd.DataFrame(rows)
    if not table["trainings"].any():
        raise ValueError(f"no training in {context.out / FINALS_FOLDER} came to its end; the log says why")
    return table[table["trainings"] > 0].sort_values(["mean", "trial"]).reset_index(drop=True)


def final_scores(context: SearchContext, trial: FrozenTrial) -> list[tuple[Path, dict[str, float]]]:
    """(run folder, scores) of a finalist's trainings that are done, the best first."""
    done = [folder for _, folder in _runs(context, trial) if (folder / SCORE_FILE).is_file()]
    scores = [(folder, json.loads((folder / SCORE_FILE).read_text())) for folder in done]
    return sorted(scores, key=lambda one: one[1][REMAINING_ERROR])


def log_finals(trials: list[FrozenTrial], context: SearchContext, *, but: Path, tracking_uri: str) -> None:
    """End the runs of the trainings in MLflow, but that of the folder whose model is registered."""
    for trial in trials:
        for folder, score in final_scores(context, trial):
            if folder != but:
                history = read_history(folder)
                log_run(training_facts(folder), out=folder, metrics=score, history=history, tracking_uri=tracking_uri)


def _runs(context: SearchContext, trial: FrozenTrial) -> Iterator[tuple[int, Path]]:
    """(seed, run folder) of a finalist's trainings; no seed is that of the trials."""
    for number in range(1, context.config.num_final_seeds + 1):
        seed = (context.base.training.seed + number) % 2**32
        yield seed, context.out / FINALS_FOLDER / f"trial-{trial.number:04d}-seed-{seed}"


class _FinalProgress(tune.Callback):
    """A line for every training that begins, ends or fails."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say so."""
        logger.info("%s begins", trial.config["final"]["folder"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say what it came to."""
        error = trial.last_result[REMAINING_ERROR]
        logger.info("%s: remaining error %.4f at full length", trial.config["final"]["folder"], error)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The others go on."""
        failure = str(trial.get_error() or "unknown reason").strip().splitlines()[-1][:300]
        logger.warning("%s failed: %s", trial.config["final"]["folder"], failure)
