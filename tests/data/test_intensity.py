"""HU and network units are each other's inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.data.intensity import to_hu, to_network


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_every_stored_hu_survives(make):
    hu = make(range(-3024, 32768)) * (np.float32(1) if make is np.array else torch.tensor(1.0))
    there_and_back = to_hu(to_network(hu))
    assert type(there_and_back) is type(hu)
    assert there_and_back.dtype == hu.dtype
    assert bool((there_and_back.round() == hu).all())
    assert float(abs(there_and_back - hu).max()) < 0.01


@given(st.floats(-1e4, 1e5))
def test_round_trip_of_any_value(hu):
    assert to_hu(to_network(hu)) == pytest.approx(hu, abs=1e-9)


def test_lung_and_soft_tissue_lie_about_one():
    assert to_network(-900.0) == -1.0
    assert to_network(100.0) == 1.0
