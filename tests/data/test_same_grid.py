"""Two scans on the same grid: what may differ between two kernels, and what would be the next slice or pixel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.data.same_grid import grid_difference


def placed(series, *, step_mm, beside_mm=(0.0, 0.0, 0.0), tilt=0.0):
    """Its slices at multiples of a step, moved, each `tilt` mm per mm of z beside the one below."""
    slices = []
    for index, header in enumerate(series.slices):
        z_mm = index * step_mm
        position = np.array([-100.0, -90.0 + tilt * z_mm, z_mm]) + beside_mm
        slices.append(replace(header, position_mm=tuple(position), z_mm=position[2]))
    return replace(series, slices=tuple(slices))


@settings(max_examples=50)
@given(st.floats(0.02, 10), st.floats(0.02, 1), st.floats(-0.5, 0.5), st.integers(0, 2))
def test_a_slice_moved_by_half_a_step_or_pixel_is_another(make_series, step_mm, pixel_mm, part, axis):
    one, other = (make_series(uid, kernel=kernel, spacing_mm=pixel_mm) for uid, kernel in (("1", "L"), ("2", "B")))
    beside_mm = np.zeros(3)
    beside_mm[axis] = part * (step_mm if axis == 2 else pixel_mm)
    difference = grid_difference(placed(one, step_mm=step_mm), placed(other, step_mm=step_mm, beside_mm=beside_mm))
    if abs(part) >= 0.3 and max(abs(beside_mm)) > min(0.05, pixel_mm / 4, step_mm / 4):
        assert "have no partner" in difference
    if max(abs(beside_mm)) < min(0.05, pixel_mm / 4, step_mm / 4):
        assert difference == ""


@pytest.mark.parametrize("tilt", [0.2, -0.4])
def test_series_of_one_tilted_gantry_are_a_pair(make_series, tilt):
    one, other = make_series("1", kernel="L"), make_series("2")
    assert grid_difference(placed(one, step_mm=5, tilt=tilt), placed(other, step_mm=5, tilt=tilt)) == ""
    assert "have no partner" in grid_difference(placed(one, step_mm=5, tilt=tilt), placed(other, step_mm=5))
