"""The report of a search: a table of its trials, the best settings as YAML, plots of history and importance."""

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.space import to_dict
from ltdiff.search.sweep import ended_trials, scores_of
from ltdiff.search.trial import SearchContext
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.settings_tree import change_settings

logger = logging.getLogger(__name__)

TRIALS_FILE, BEST_FILE, REPORT_FILE = "trials.csv", "best.yaml", "report.md"
HISTORY_FILE, IMPORTANCE_FILE = "history.png", "importance.png"
NUM_SHOWN = 10
MIN_TRIALS_FOR_IMPORTANCE = 4


def write_report(study: optuna.Study, context: SearchContext) -> str:
    """trials.csv, best.yaml, report.md and plots in the folder of the search; the report is returned.

    Raises:
        ValueError: no trial came to its end.
    """
    table = trial_table(study, context)
    best = best_trial(study, context)
    write_text(context.out / TRIALS_FILE, table.to_csv(index=False))
    chosen = context.space.decode(best.params)
    header = f"# Best of {len(table)} trials: number {best.number}, remaining error {best.values[0]:.4f} on validation pairs.\n"
    settings = to_dict(change_settings(context.base, chosen))
    write_text(context.out / BEST_FILE, header + yaml.safe_dump(settings, sort_keys=False))
    _plot(study, context)
    outcomes = table["outcome"].value_counts()
    figures = table[["number", "outcome", *context.config.objective_names, "steps", "seconds"]]
    lines = [
        f"{len(table)} trials: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}; "
        f"{table['steps'].sum()} training steps in all.",
        f"Best: trial {best.number}, remaining error {best.values[0]:.4f} on validation pairs; {BEST_FILE} has its settings.",
        *(f"- `{name}`: {value}" for name, value in chosen.items()),
        "",
        figures.head(NUM_SHOWN).to_markdown(index=False, floatfmt=".4g"),
        f"\n{TRIALS_FILE} has the values of all.",
        "",
        f"![History]({HISTORY_FILE})",
        f"![Importance]({IMPORTANCE_FILE})" if (context.out / IMPORTANCE_FILE).is_file() else "",
    ]
    text = "\n".join(lines)
    write_text(context.out / REPORT_FILE, text + "\n")
    return text


def best_trial(study: optuna.Study, context: SearchContext) -> FrozenTrial:
    """Return the finished trial with the smallest remaining error.

    Raises:
        ValueError: there is none.
    """
    candidates = [trial for trial in ended_trials(study) if outcome(trial, context) == "to the end"]
    if not candidates:
        raise ValueError(f"no trial in {context.out} came to its end; the log says why")
    return min(candidates, key=lambda trial: trial.values[0])


def trial_table(study: optuna.Study, context: SearchContext) -> pd.DataFrame:
    """One row for each ended trial, the best first: number, outcome, figures, steps trained, seconds, values; with several
    objectives also whether it `is_best`, which is: none is better in both.
    """
    rows = []
    for trial in ended_trials(study):
        figures = dict(zip(context.config.objective_names, trial.values or [], strict=False))
        seconds = trial.duration.total_seconds() if trial.duration else None
        values = context.space.decode(trial.params)
        cost = {"steps": context.num_steps(values), "seconds": seconds}
        rows.append({"number": trial.number, "outcome": outcome(trial, context), **figures, **cost, **values})
    table = pd.DataFrame(rows)
    if len(context.config.objective_names) > 1:
        table["is_best"] = table["number"].isin([trial.number for trial in study.best_trials])
    is_worse = table["outcome"] != "to the end"
    return (
        table.assign(is_worse=is_worse)
        .sort_values(["is_worse", *([REMAINING_ERROR] if REMAINING_ERROR in table else []), "number"])
        .drop(columns="is_worse")
        .reset_index(drop=True)
    )


def outcome(trial: FrozenTrial, context: SearchContext) -> str:
    """Describe the end of a trial."""
    if trial.state != TrialState.COMPLETE:
        return "failed"
    several = len(context.config.objective_names) > 1  # none is stopped, and Optuna is told the end alone
    is_whole = several or len(scores_of(trial, context)) == context.config.num_scores
    return "to the end" if is_whole else "stopped early"


def _plot(study: optuna.Study, context: SearchContext) -> None:
    """Plots of the first objective."""

    def first(trial: FrozenTrial) -> float:
        return float(trial.values[0])

    target = first if len(context.config.objective_names) > 1 else None  # without, the best so far is drawn too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the plots are experimental, and of values that few trials had
        history = plots.plot_optimization_history(study, target=target, target_name=REMAINING_ERROR)
        _save(history, context.out / HISTORY_FILE)
        complete = [trial for trial in ended_trials(study) if trial.state == TrialState.COMPLETE]
        if len(complete) < MIN_TRIALS_FOR_IMPORTANCE:
            return
        try:
            importance = plots.plot_param_importances(study, target=target, target_name=REMAINING_ERROR)
        except (ValueError, RuntimeError) as error:  # all trials alike
            logger.warning("no plot of the importances: %s", error)
        else:
            _save(importance, context.out / IMPORTANCE_FILE)


def _save(axes: Any, path: Path) -> None:
    """Write the figure that Optuna's plot is part of."""
    replace_file(path, partial(axes.figure.savefig, dpi=120, bbox_inches="tight"))
