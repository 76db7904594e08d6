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
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER, prepare_run
from ltdiff.training.shared_networks import MatchedProtocol, find_outside, train_shared, use_networks
from ltdiff.uncertainty.calibration import calibrate_run

TRAINED, UNTRAINED = ("half", "br40_quarter", "reduced"), "between"
RESIDUAL_SHARE = 12
"""Of the steps of phase 3, phase 4 has one in so many; each uses its patches eight times."""


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
    manifests = {name: make_manifests(name, seed, out / f"{name}_{seed}") for name in (*TRAINED, UNTRAINED)}
    folders = {name: out / f"{name}_{seed}" for name in manifests}
    rows: list[pd.DataFrame] = []

    def add(name: str, model: Path, networks: str) -> None:
        unpaired, scored = manifests[name]
        rows.append(score(model, unpaired, scored, model.parent / "scores").assign(protocol=name, networks=networks))
        table = pd.concat(rows).reset_index().set_index(["protocol", "networks", "method"]).reset_index()
        (out / "table.md").write_text(table.to_markdown(index=False, floatfmt=".4f") + "\n")

    def add_own(name: str) -> None:
        manifest = read_manifest(manifests[name][0])
        add(name, train_here(manifest, out=folders[name] / "own", settings=settings(num_steps)), "own")

    matched = {}
    for name, (unpaired, _) in manifests.items():
        prepare_run(read_manifest(unpaired), out=folders[name] / "own", settings=settings(num_steps))
        matched[name] = MatchedProtocol(read_manifest(unpaired), folders[name] / "own" / START_FOLDER)
    for name in TRAINED:
        add_own(name)
    together = {name: matched[name] for name in TRAINED}
    networks = train_shared(together, out=out / f"shared_{seed}", settings=settings(num_steps * len(TRAINED)))
    for name, one in matched.items():
        model = folders[name] / "shared" / MODEL_FOLDER
        if not model.is_dir():
            model.parent.mkdir(parents=True, exist_ok=True)
            use_networks(networks, start=one.start, out=model)
        outside = find_outside(one.start, networks=networks)
        add(name, model, f"shared, outside: {outside}" if outside else "shared")
    add_own(UNTRAINED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=77)
    given = parser.parse_args()
    run(given.out, num_steps=given.steps, seed=given.seed)
