"""Network units and positions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.data.network_inputs import position_mm, to_hu, to_network


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


def test_the_middle_is_at_zero_and_rows_go_down():
    y_mm, x_mm = position_mm((3, 4), (2.0, 0.5))
    np.testing.assert_array_equal(y_mm, np.repeat([[-2.0], [0.0], [2.0]], 4, axis=1))
    np.testing.assert_array_equal(x_mm, [[-0.75, -0.25, 0.25, 0.75]] * 3)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (512, 512)])
def test_opposite_pixels_are_equally_far(shape):
    for mm in position_mm(shape, (np.float64(0.8), np.float64(0.7))):  # as tables give them
        assert (mm.shape, mm.dtype) == (shape, np.float32)
        np.testing.assert_allclose(mm, -mm[::-1, ::-1])
