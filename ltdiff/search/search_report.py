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
from ltdiff.search.finals import complete_trials
from ltdiff.search.first_trials import OWN_SETTINGS, origin
from ltdiff.search.space import to_dict
from ltdiff.search.study import known_trials
from ltdiff.search.trial import SearchContext
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.settings_tree import change_settings

logger = logging.getLogger(__name__)

TRIALS_FILE, BEST_FILE, REPORT_FILE = "trials.csv", "best.yaml", "report.md"
HISTORY_FILE, IMPORTANCE_FILE = "history.png", "importance.png"
FINALS_FILE = "finals.csv"
OUTCOMES = {TrialState.COMPLETE: "to the end", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
NUM_SHOWN = 10
MIN_TRIALS_FOR_IMPORTANCE = 4


def write_report(study: optuna.Study, context: SearchContext, finals: pd.DataFrame | None = None) -> str:
    """trials.csv, best.yaml, report.md and plots in the folder of the search; the report is returned.

    With the table of `finals` these decide which trial is best, and are in finals.csv too.

    Raises:
        ValueError: no trial came to its end.
    """
    table = trial_table(study, context)
    first = complete_trials(study)[0]
    best = first if finals is None else study.get_trials(deepcopy=False)[int(finals["trial"][0])]
    write_text(context.out / TRIALS_FILE, table.to_csv(index=False))
    chosen = context.space.decode(best.params)
    verdict = _short_verdict(best) if finals is None else _final_verdict(finals)
    settings = to_dict(change_settings(context.base, chosen))
    header = "".join(f"# {line}\n" for line in [f"Best of {len(table)} trials.", *verdict.splitlines()])
    write_text(context.out / BEST_FILE, header + yaml.safe_dump(settings, sort_keys=False))
    _plot(study, context)
    outcomes = table["outcome"].value_counts()
    figures = table[["number", "origin", "outcome", *context.config.objective_names, "steps", "seconds"]]
    lines = [
        f"{len(table)} trials: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}; "
        f"{table['steps'].sum()} training steps in all.",
        f"{verdict} {BEST_FILE} has its settings.",
        *(f"- `{name}`: {value}" for name, value in chosen.items()),
        "",
        *_final_lines(context, finals),
        figures.head(NUM_SHOWN).to_markdown(index=False, floatfmt=".4g"),
        f"\n{TRIALS_FILE} has the values of all.",
        "",
        f"![History]({HISTORY_FILE})",
        f"![Importance]({IMPORTANCE_FILE})" if (context.out / IMPORTANCE_FILE).is_file() else "",
    ]
    text = "\n".join(lines)
    write_text(context.out / REPORT_FILE, text + "\n")
    return text


def _short_verdict(best: FrozenTrial) -> str:
    return (
        f"Best: trial {best.number}, remaining error {best.values[0]:.4f} on validation pairs, in one short training. "
        "Nothing was trained at full length."
    )


def _final_verdict(finals: pd.DataFrame) -> str:
    """Which settings are best at full length, and by how much they are better than those given."""

    def text(row: pd.Series) -> str:
        spread = f" ± {row['sd']:.4f}" if row["trainings"] > 1 else ""
        return f"{row['mean']:.4f}{spread}"

    best = finals.iloc[0]
    given = finals[finals["origin"] == OWN_SETTINGS]
    number = "one training" if best["trainings"] == 1 else f"{best['trainings']} trainings"
    verdict = f"Best: trial {best['trial']}, remaining error {text(best)} on validation pairs ({number} at full length)."
    if given.empty:
        return f"{verdict} The settings given were not tried."
    if given["trial"].iloc[0] == best["trial"]:
        return f"{verdict} These are the settings given: the search found none that are better."
    return f"{verdict} The settings given: {text(given.iloc[0])}."


def _final_lines(context: SearchContext, finals: pd.DataFrame | None) -> list[str]:
    if finals is None:
        return []
    write_text(context.out / FINALS_FILE, finals.to_csv(index=False))
    table = finals.to_markdown(index=False, floatfmt=".4f")
    return ["Remaining error at full length, with other seeds (mean and standard deviation):", "", table, "", "As trials:", ""]


def trial_table(study: optuna.Study, context: SearchContext) -> pd.DataFrame:
    """One row for each ended trial, the best first: number, outcome, figures, origin, steps trained, seconds, values; with
    several objectives also whether it `is_best`, which is: none is better in both.
    """
    rows = []
    for trial in known_trials(study):
        figures = dict(zip(context.config.objective_names, trial.values or [], strict=False))
        seconds = trial.duration.total_seconds() if trial.duration else None
        values = context.space.decode(trial.params)
        cost = {"origin": origin(trial), "steps": context.num_steps(values), "seconds": seconds}
        rows.append({"number": trial.number, "outcome": outcome(trial), **figures, **cost, **values})
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


def outcome(trial: FrozenTrial) -> str:
    """Describe the end of a trial."""
    return OUTCOMES[trial.state]


def _plot(study: optuna.Study, context: SearchContext) -> None:
    """Plots of the first objective."""

    def first(trial: FrozenTrial) -> float:
        return float(trial.values[0])

    target = first if len(context.config.objective_names) > 1 else None  # without, the best so far is drawn too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the plots are experimental, and of values that few trials had
        history = plots.plot_optimization_history(study, target=target, target_name=REMAINING_ERROR)
        _save(history, context.out / HISTORY_FILE)
        complete = [trial for trial in known_trials(study) if trial.state == TrialState.COMPLETE]
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
