"""Golden values: a change that is meant to change no computation changes none of these numbers.

They were computed once and are compared, not derived: losses of the three phases, the CCC of a tiny evaluation and the pixels
of a standardized slice. Where a change is meant to change them, write them anew and say why in the commit:

    python tests/golden/test_golden.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_run import make_volumes, one_thread, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_hu, read_manifest
from ltdiff.data.patches import make_loader
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.ltdiff import load_model, save_model
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.loop import train
from ltdiff.training.phases import PHASES
from ltdiff.training.run import START_FOLDER, prepare_run
from ltdiff.training.worker_context import local_context

VALUES = Path(__file__).with_name("values.json")
NUM_STEPS = 20
LOSS_TOLERANCE = 1e-3
"""Relative: processors round differently (2e-4 between two makes), and twenty steps carry that on. A change of the computation
shows above it."""
CCC_TOLERANCE = 2e-3
PIXEL_TOLERANCE_HU = 1.0
"""A value may lie next to the middle of two whole HU."""


def compute(folder: Path) -> dict:
    """All golden values; `folder` takes the data, the run and the report."""
    manifest_path = write_pairs(folder, volumes=make_volumes(size=64))
    settings = tiny_settings(num_steps=NUM_STEPS, checkpoint_every_steps=5, seed=7)
    prepare_run(read_manifest(manifest_path), out=folder / "run", settings=settings)
    manifest = read_manifest(manifest_path)
    model, about = load_model(folder / "run" / START_FOLDER)
    losses = {}
    for name in settings.training.phases:
        losses[name] = _train_phase(PHASES[name](model, settings), name, manifest, settings)
    save_model(model, folder / "model", about=about | {"trained": {}})
    inference = InferenceConfig(precision="fp32", output="mean")
    evaluate_model(
        manifest_path,
        model=folder / "model",
        out=folder / "report",
        config=EvaluationConfig(split="train", num_rois=24, num_workers=1),
        inference=inference,
    )
    ccc = pd.read_csv(folder / "report" / "ccc.csv")
    ccc = ccc[ccc["roi_set"] == "random"]
    keys = ccc["method"] + " " + ccc["feature_class"] + " " + ccc["definition"]
    source = manifest[(manifest["split"] == "test") & (manifest["role"] == "source")].iloc[0]
    hu = Standardizer.load(folder / "model", inference).standardize(read_hu(source.to_dict())[None], (0.8, 0.7))[0]
    return {
        "losses": losses,
        "ccc": dict(zip(keys, ccc["ccc_mean"], strict=True)),
        "pixels_hu": hu[::4, ::4].astype(int).tolist(),
    }


def _train_phase(phase, name, manifest, settings) -> list[dict[str, float]]:
    """Train in this process; the losses of each checkpoint."""
    training = settings.training
    loaders = {
        split: make_loader(
            manifest,
            split=split,
            pairs=phase.uses_pairs,
            patch_size=training.patch_size,
            seed=training.seed,
            match_kernel=KernelMatcher(phase.model.kernel_match),
            keep_slices=True,
        )
        for split in ("train", "val")
    }

    def batch(split, step):
        numbers = np.arange(step * training.batch_size_per_worker, (step + 1) * training.batch_size_per_worker)
        return {key: torch.from_numpy(patches) for key, patches in loaders[split]({"id": numbers}).items()}

    reported = []
    trained = train(
        phase,
        name=name,
        config=training,
        batches=lambda first: (batch("train", step) for step in range(first, NUM_STEPS)),
        validation=lambda: (batch("val", step) for step in range(2)),
        context=local_context(lambda metrics, checkpoint: reported.append(metrics)),
    )
    phase.model.load_state_dict(trained.model.state_dict())
    return [{key: value for key, value in metrics.items() if "loss" in key} for metrics in reported]


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden():
    return json.loads(VALUES.read_text())


@pytest.mark.parametrize("phase", ["autoencoder", "ddpm", "joint"])
def test_losses_of_a_phase(computed, golden, phase):
    assert len(computed["losses"][phase]) == len(golden["losses"][phase]) == 4
    for ours, theirs in zip(computed["losses"][phase], golden["losses"][phase], strict=True):
        assert ours == pytest.approx(theirs, rel=LOSS_TOLERANCE)


def test_ccc_of_an_evaluation(computed, golden):
    assert computed["ccc"] == pytest.approx(golden["ccc"], abs=CCC_TOLERANCE)


def test_pixels_of_a_standardized_slice(computed, golden):
    np.testing.assert_allclose(computed["pixels_hu"], golden["pixels_hu"], rtol=0, atol=PIXEL_TOLERANCE_HU)


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        json.dump(compute(Path(temporary)), VALUES.open("w"), indent=1)
    sys.stdout.write(f"{VALUES}\n")
