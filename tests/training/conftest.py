"""Training runs on one thread, with batches from arrays or from a tiny manifest."""

import numpy as np
import pytest
import torch
from tiny_run import make_volumes, one_thread, write_pairs  # noqa: F401

from ltdiff.data.network_inputs import position_mm


@pytest.fixture(scope="session")
def patches():
    """One batch (4, 16, 16): `source`, `target` and `image` in HU, and places in mm."""
    source, target = (torch.from_numpy(hu[:4, 8:24, 8:24].astype(np.float32)) for hu in make_volumes())
    y_mm, x_mm = (torch.from_numpy(mm.copy()).expand(4, -1, -1) for mm in position_mm((16, 16), (2.0, 2.0)))
    return {"source": source, "target": target, "image": target, "y_mm": y_mm, "x_mm": x_mm}


@pytest.fixture
def manifest_path(tmp_path):
    """A manifest with six slice pairs in volume files."""
    return write_pairs(tmp_path / "data")
