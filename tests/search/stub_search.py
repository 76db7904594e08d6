"""A search whose trials take a second and score by a formula, as a process that can be killed.

`stub_search.py OUT NUM_TRIALS`, where OUT is a folder or a URL. Everything else is real: Ray Tune, Optuna,
ASHA, the study on disk.
"""

import math
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import optuna
from ray import tune
from tiny_run import tiny_settings, write_pairs

from ltdiff.search import sweep
from ltdiff.search.config import REMAINING_ERROR, SECONDS, SearchConfig
from ltdiff.search.space import SearchSpace
from ltdiff.search.trial import SearchContext
from ltdiff.system.remote_output import remote_output
from ltdiff.system.storage_url import parse_url

SPACE = """
training.joint.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
diffusion.process: {choices: [bridge, ddpm]}
diffusion.kappa: {low: 0.02, high: 0.5, log: true, when: {diffusion.process: bridge}}
"""
BEST_RATE, FAILING_RATE = 1e-3, 9e-3


def make_plan(out: Path, **config) -> SearchContext:
    """A search in the folder `out`; also writes pairs and a space beside it."""
    out.mkdir(parents=True, exist_ok=True)
    pairs, space = out.parent / "pairs.parquet", out.parent / "space.yaml"
    if not space.is_file():
        write_pairs(out.parent)
        space.write_text(SPACE)
    settings = tiny_settings()
    return SearchContext(pairs, out, settings, SearchSpace.read(space, base=settings), SearchConfig(num_scores=4, **config))


def make_study(context: SearchContext) -> optuna.Study:
    """A study in memory: the tables of one on disk take longer to make than all that most tests do with it."""
    return optuna.create_study(directions=["minimize"] * len(context.config.objective_names))


def make_run_trial(pause_s: float):
    """Stands for a training: its error falls from score to score, and the learning rate decides where to. Notes every start."""

    def run_trial(config, context):
        chosen = context.space.decode(config)
        with (context.out / "started.txt").open("a") as file:
            file.write(f"{chosen['training.joint.learning_rate']}\n")
        with (context.out / "processes.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")
        rate = chosen["training.joint.learning_rate"]
        if rate > FAILING_RATE:
            raise OSError(28, "No space left on device", str(context.out / f"trials/{rate}"))
        for score in range(1, context.config.num_scores + 1):
            time.sleep(pause_s)
            error = abs(math.log10(rate / BEST_RATE)) + chosen.get("diffusion.kappa", 0.3) + 1 / score
            with (context.out / "reported.txt").open("a") as file:
                file.write(f"{rate}\n")
            tune.report({REMAINING_ERROR: error, SECONDS: 1 / rate})

    return run_trial


if __name__ == "__main__":
    sweep.run_trial = make_run_trial(0.1)
    url = parse_url(sys.argv[1])
    with nullcontext(Path(sys.argv[1])) if url is None else remote_output(url) as place:
        sweep.run_trials(make_plan(place, num_trials=int(sys.argv[2])))
