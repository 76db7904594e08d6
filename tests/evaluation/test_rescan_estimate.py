"""The target with other noise: as much of it and of the same kind, but another draw; edges stay."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.evaluation.rescan_estimate import redraw_noise


@pytest.fixture(scope="module")
def slices():
    """Two slices of smooth noise of 20 HU round a bright square, air clipped at the top."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (2, 160, 160)), (0, 0.7, 0.7))
    hu = 40 + 20 * noise / noise.std()
    hu[:, 60:100, 60:100] += 800
    hu[:, :30] = -1024
    return hu.round().astype(np.float32)


def test_as_much_noise_of_the_same_spectrum_but_another_draw(slices):
    redrawn = redraw_noise(slices)
    here = np.s_[:, 110:150, 20:140]  # away from the square
    before, after = (volume[here] - ndimage.gaussian_filter(volume[here], (0, 4, 4)) for volume in (slices, redrawn))
    assert after.std() == pytest.approx(before.std(), rel=0.15)
    step = [np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1] for noise in (before, after)]
    assert step[1] == pytest.approx(step[0], abs=0.1)
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.3


def test_edges_and_range_stay(slices):
    redrawn = redraw_noise(slices)
    assert redrawn.min() >= slices.min()
    assert redrawn.max() <= slices.max()
    assert (redrawn == redrawn.round()).all()
    assert redrawn[:, 70:90, 70:90].mean() == pytest.approx(840, abs=2)
    assert redrawn[:, 59, 70:90].mean() < 200 < 700 < redrawn[:, 60, 70:90].mean()
    assert (redrawn[:, :20] == -1024).all()


def test_the_seed_decides_and_slices_differ(slices):
    assert (redraw_noise(slices) == redraw_noise(slices)).all()
    assert (redraw_noise(slices, seed=1) != redraw_noise(slices)).any()
    twins = redraw_noise(np.stack([slices[0], slices[0]]))
    assert (twins[0] != twins[1]).any()


def test_a_small_or_constant_slice():
    assert (redraw_noise(np.full((1, 12, 9), 40, np.float32)) == 40).all()
