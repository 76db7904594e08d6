"""Networks that several source protocols share, beside networks of each protocol's own: a table.

    python tests/bench/shared_networks.py OUT [--steps 1200] [--seed 77]

Without pairs, patients as in unpaired_doses.py. Networks are trained for the protocols of TRAINED together, with as many steps as
their own networks have in all; UNTRAINED then gets them with a match of its own. OUT/table.md is the result; the same command
goes on where it was stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from method_table import read_scores
from unpaired_doses import make_manifests

from ltdiff.data.manifest import read_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.inference.config import InferenceConfig
from ltdiff.training.config import PhaseConfig, Settings, TrainingConfig
from ltdiff.training.phase_training import train_here
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER
from ltdiff.training.shared_networks import MatchedProtocol, find_outside, train_shared, use_networks
from ltdiff.uncertainty.calibration import calibrate_run

TRAINED, UNTRAINED = ("half", "br40_quarter", "reduced"), "between"
RESIDUAL_SHARE = 12
"""Of the steps of phase 3, phase 4 has one in so many, each with four times the patches."""


def settings(num_steps: int) -> Settings:
    """As `--minutes` trains on a CPU, with steps in place of the clock."""
    joint, residual = PhaseConfig(num_steps, 1e-3), PhaseConfig(num_steps // RESIDUAL_SHARE, 2e-3)
    training = TrainingConfig(joint=joint, residual=residual, init="pretrained", batch_size_per_worker=2)
    return replace(Settings(), training=training)


def score(model: Path, unpaired: Path, scored: Path, out: Path) -> pd.DataFrame:
    """All outputs of a model, which is calibrated on what it was trained on."""
    calibrate_run(read_manifest(unpaired), model=model, num_workers=1)
    if not (out / "ccc.csv").is_file():
        evaluate_model(scored, model=model, out=out, config=EvaluationConfig(num_workers=1), inference=InferenceConfig())
    return read_scores(out)


def run(out: Path, *, num_steps: int, seed: int) -> None:
    """Train and score what is missing."""
    names, rows = (*TRAINED, UNTRAINED), []
    manifests = {name: make_manifests(name, seed, out / f"{name}_{seed}") for name in names}
    matched = {}
    for name, (unpaired, scored) in manifests.items():
        manifest, own = read_manifest(unpaired), out / f"{name}_{seed}" / "own"
        model = train_here(manifest, out=own, settings=settings(num_steps))
        rows.append(score(model, unpaired, scored, own / "scores").assign(protocol=name, networks="own"))
        matched[name] = MatchedProtocol(manifest, own / START_FOLDER)
        write(rows, out)
    trained = {name: matched[name] for name in TRAINED}
    networks = train_shared(trained, out=out / f"shared_{seed}", settings=settings(num_steps * len(TRAINED)))
    for name, (unpaired, scored) in manifests.items():
        folder = out / f"{name}_{seed}" / "shared"
        if not (folder / MODEL_FOLDER).is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            use_networks(networks, start=matched[name].start, out=folder / MODEL_FOLDER)
        scores = score(folder / MODEL_FOLDER, unpaired, scored, folder / "scores")
        outside = find_outside(matched[name].start, networks=networks)
        rows.append(scores.assign(protocol=name, networks=f"shared, outside: {outside}" if outside else "shared"))
        write(rows, out)


def write(rows: list[pd.DataFrame], out: Path) -> None:
    """All that is scored so far."""
    table = pd.concat(rows).reset_index().set_index(["protocol", "networks", "method"]).reset_index()
    (out / "table.md").write_text(table.to_markdown(index=False, floatfmt=".4f") + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=77)
    given = parser.parse_args()
    run(given.out, num_steps=given.steps, seed=given.seed)
