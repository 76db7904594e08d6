"""Training runs on one thread, with batches from arrays or from a tiny manifest."""

import numpy as np
import pytest
import torch
from tiny_run import make_volumes, one_thread, write_pairs  # noqa: F401


@pytest.fixture(scope="session")
def patches():
    """One batch: `source`, `target` and `image` in HU, (4, 16, 16)."""
    source, target = (torch.from_numpy(hu[:4, 8:24, 8:24].astype(np.float32)) for hu in make_volumes())
    return {"source": source, "target": target, "image": target}


@pytest.fixture
def manifest_path(tmp_path):
    """A manifest with six slice pairs in volume files."""
    return write_pairs(tmp_path / "data")
