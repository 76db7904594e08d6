"""`ltdiff tune` beside random draws at equal time, paired by seed, with a test of significance.

    python tests/bench/search_beside_random.py OUT --pairs PAIRS --config small.yaml [--minutes 20] [--seeds 0,1,2,3,4,5,6,7]
        [--changes search.num_concurrent=2]

For each seed (of the choices and of the trainings) both search for as long, start of Ray and all: the search as it is set, and
random draws without early stopping. Then the best of each, and the settings that both began with, are trained at full length
with other seeds: a trial is short, and the best of many is partly the luckiest. Remaining errors are on validation regions; no
test pair is used. OUT/table.csv has a row for each search, OUT/verdict.md the differences and Wilcoxon's signed-rank test,
two-sided and exact, whose smallest p with eight seeds is 0.008. The same command goes on where it was stopped.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState
from scipy import stats

from ltdiff.commands.configuration import TRAINING_SECTIONS, read_settings_of
from ltdiff.search.finals import run_finals
from ltdiff.search.first_trials import OWN_SETTINGS
from ltdiff.search.space import DEFAULT_SPACE, SearchSpace
from ltdiff.search.study import ended_trials, open_study
from ltdiff.search.trial import SearchContext
from ltdiff.system.atomic_files import write_text

ARMS = {"search": [], "random": ["search.sampler=random", "search.early_stopping=false"]}
MANY = 100_000
"""More trials than there is time for."""
STOP_S = 120.0
COMPARED = ("search", "random"), ("search", "given"), ("random", "given")


def main() -> None:
    """Run what is missing, then judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--config", default="default")
    parser.add_argument("--space", type=Path, default=DEFAULT_SPACE)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7")
    parser.add_argument("--changes", nargs="*", default=[])
    given = parser.parse_args()
    rows = []
    for seed in map(int, given.seeds.split(",")):
        for arm in sorted(ARMS, reverse=seed % 2 == 0):  # what else the machine does may change with time
            rows.append(_run(given, arm, seed))
            pd.DataFrame(rows).to_csv(given.out / "table.csv", index=False)
            write_text(given.out / "verdict.md", verdict(pd.DataFrame(rows)))
    sys.stdout.write((given.out / "verdict.md").read_text())


def _run(given: argparse.Namespace, arm: str, seed: int) -> dict[str, float | int | str]:
    """One search, or what is noted of it."""
    out = given.out.absolute() / f"{arm}-{seed}"
    noted = out.with_suffix(".json")
    if noted.is_file():
        return dict(json.loads(noted.read_text()))
    # seeds of trainings that are 1000 apart: those at full length are the next ones
    changes = [*given.changes, *ARMS[arm], f"search.seed={seed}", f"training.seed={1000 * seed}", "search.num_final=1"]
    if not (out / "timed").is_file():
        shutil.rmtree(out, ignore_errors=True)  # a search that was cut off has had less time
        _search(given, out, changes)
        (out / "timed").touch()
    configuration = read_settings_of(given.config, changes, sections=[*TRAINING_SECTIONS, "search"])
    space = SearchSpace.read(given.space, base=configuration.run)
    context = SearchContext(given.pairs.absolute(), out, configuration.run, space, configuration.search)
    study = open_study(context)
    complete = [trial for trial in ended_trials(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        sys.exit(f"no trial in {out} came to its end in {given.minutes:g} minutes; remove that folder, and give more")
    finals = run_finals(study, context, tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    best = finals[finals["trial"] == min(complete, key=lambda trial: trial.values[0]).number]
    row = {
        "arm": arm,
        "seed": seed,
        "trials": len(ended_trials(study)),
        "stopped early": _count(study, TrialState.PRUNED),
        "failed": _count(study, TrialState.FAIL),
        "best trial": min(trial.values[0] for trial in complete),
        "full length": best["mean"].iloc[0],
        "given, full length": finals.loc[finals["origin"] == OWN_SETTINGS, "mean"].iloc[0],
    }
    write_text(noted, json.dumps(row) + "\n")
    return row


def _search(given: argparse.Namespace, out: Path, changes: list[str]) -> None:
    """`ltdiff tune` for the minutes, told to end then."""
    options = ["--out", out, "--config", given.config, "--space", given.space, "--num_trials", str(MANY), "--no_train_best"]
    command = [sys.executable, "-m", "ltdiff.cli", "tune", given.pairs, *options]
    process = subprocess.Popen([*map(str, command), *(f"--set={change}" for change in changes)], env=os.environ)
    deadline_s = time.monotonic() + 60 * given.minutes
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            sys.exit(f"the search in {out} ended before its time, with exit code {process.returncode}")
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.wait(STOP_S)


def _count(study: optuna.Study, state: TrialState) -> int:
    return sum(trial.state == state for trial in ended_trials(study))


def verdict(table: pd.DataFrame) -> str:
    """Mean and spread of each, and for each pair the differences, how many are in favour of the first, and p; Markdown."""
    by_seed = table.pivot(index="seed", columns="arm").dropna()
    short = by_seed["best trial"]
    full = by_seed["full length"].assign(given=by_seed["given, full length"].mean(axis=1)) if len(by_seed) else short
    lines = ["Remaining error 1 − CCC (validation regions), differences paired by seed; negative: the first is better.", ""]
    rows = []
    for name, figures in (("best trial", short), ("full length", full)):
        for one, other in COMPARED:
            if {one, other} <= set(figures):
                rows.append({"": name, "pair": f"{one} − {other}", **compare(figures[one], figures[other])})
    return "\n".join([*lines, pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4f"), ""])


def compare(one: pd.Series, other: pd.Series) -> dict[str, float | int]:
    """Paired figures: means, mean difference and its standard deviation, wins of the first, p of Wilcoxon's test."""
    differences = one - other
    p = stats.wilcoxon(differences, method="auto").pvalue if (differences != 0).any() else 1.0
    return {
        "n": len(differences),
        "first": one.mean(),
        "second": other.mean(),
        "difference": differences.mean(),
        "sd": differences.std(),
        "wins": int((differences < 0).sum()),
        "p": float(p),
    }


if __name__ == "__main__":
    main()
