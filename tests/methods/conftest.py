"""Comparators on one thread, fitted on a tiny manifest in a fraction of a second."""

import numpy as np
import pytest
from tiny_run import make_volumes, one_thread, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest
from ltdiff.training.config import TrainingConfig


@pytest.fixture(scope="session")
def make_training():
    """make_training(minutes=…, learning_rates=…, precision=…, …): a third of a second, one learning rate, tiny patches."""

    def make(**training):
        quick = {"minutes": 0.005, "learning_rates": (1e-2,)}
        return TrainingConfig(**{**quick, "patch_size": 16, "batch_size_per_worker": 2, "precision": "fp32", **training})

    return make


@pytest.fixture(scope="session")
def range_hu():
    """What the target series of `manifest` can hold."""
    return -800, -450


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, range_hu):
    """Six pairs of slices: four train, one validates, one tests; the target is cut off at both ends of its range."""
    source, target = make_volumes()
    return read_manifest(write_pairs(tmp_path_factory.mktemp("pairs"), volumes=(source, target.clip(*range_hu))))


@pytest.fixture(scope="session")
def source():
    """Two source slices of a size that fits no network, (2, 37, 50)."""
    return make_volumes(num_slices=2, size=64)[0][:, :37, :50].astype(np.float32)
