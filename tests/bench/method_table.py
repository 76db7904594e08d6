"""Methods beside each other on simulated settings, by `ltdiff compare`: one table for all settings and seeds."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

Run = Callable[[str, int, float, Path], Path]
"""(name of a setting, seed, minutes, folder of that setting) → the folder that `ltdiff compare` filled"""


def compare(arguments: list[str | Path], out: Path, *, minutes: float, seed: int) -> Path:
    """Train and score on one core, in a process of its own; resumes."""
    command = ["compare", *map(str, arguments), "--out", str(out), "--minutes", str(minutes)]
    options = ["--set", f"training.seed={seed}", "--set", "evaluation.num_workers=1"]
    subprocess.run([Path(sys.executable).with_name("ltdiff"), *command, *options], check=True)
    return out


def read_scores(out: Path) -> pd.DataFrame:
    """A row for each method: MAE of its image in HU, and its mean CCC in each class of features."""
    ccc = pd.read_csv(out / "ccc.csv")
    is_main = (ccc["definition"] == "across_rois") & (ccc["roi_set"] == "random")
    scores = ccc[is_main].pivot(index="method", columns="feature_class", values="ccc_mean")
    mae = pd.read_csv(out / "image_metrics.csv").set_index("method")["mae_hu"]
    return scores.join(mae, how="left")


def make_table(description: str | None, *, names: Iterable[str], seeds: str, run: Run) -> None:
    """Run what is missing of all settings, as the command line says, and write OUT/table.md after each."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seeds", default=seeds)
    parser.add_argument("--only", default=",".join(names))
    given = parser.parse_args()
    rows = []
    for seed in map(int, given.seeds.split(",")):
        for name in given.only.split(","):
            compared = run(name, seed, given.minutes, given.out / f"{name}_{seed}")
            rows.append(read_scores(compared).assign(setting=name, seed=seed))
            table = pd.concat(rows).reset_index().set_index(["setting", "seed", "method"]).reset_index()
            (given.out / "table.md").write_text(table.to_markdown(index=False, floatfmt=".4f") + "\n")
            sys.stdout.write(rows[-1].to_markdown(floatfmt=".4f") + "\n")
