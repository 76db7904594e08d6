"""The noise match changes noise to another level and leaves edges; at one dose it changes nothing."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_place import SOURCES
from ltdiff.physics.noise_windows import NoiseModel

SPACING_MM = (0.8, 0.8)
POWER = np.full(16, 100 * 0.64)
"""Of white noise of 10 HU."""
EVERYWHERE = np.eye(SOURCES)[0]


def _match(factor):
    return NoiseMatch.of(NoiseModel(POWER, EVERYWHERE), NoiseModel(factor * POWER, EVERYWHERE), np.ones(16))


def _noise(seed=0, size=256):
    return np.random.default_rng(seed).normal(0, 10, (size, size)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0])
def test_noise_gets_the_wanted_level(factor):
    hu = _noise()
    made = _match(factor)(hu, hu, SPACING_MM)[32:-32, 32:-32]
    assert made.std() == pytest.approx(10 * np.sqrt(factor), rel=0.12)


def test_at_one_dose_nothing_changes():
    hu = _noise()
    np.testing.assert_allclose(_match(1.0)(hu, hu, SPACING_MM), hu, atol=0.01)


def test_edges_stay_where_noise_is_taken_away():
    edge = ndimage.gaussian_filter(np.where(np.arange(256) < 128, -800.0, 40.0), 1.0)[None, :].repeat(256, axis=0)
    made = _match(0.25)((edge + _noise()).astype(np.float32), edge.astype(np.float32), SPACING_MM)
    profile = made[32:-32].mean(axis=0)
    assert np.abs(profile - edge[0])[100:156].max() < 12
    assert made[32:-32, 20:100].std() < 8


def test_any_size_and_spacing():
    hu = _noise(size=90)[:, :61]
    made = _match(4.0)(hu, hu, (0.9, 0.6))
    assert made.shape == hu.shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


def test_the_gain_of_the_match_is_part_of_the_source_s_noise():
    match = NoiseMatch.of(NoiseModel(POWER, EVERYWHERE), NoiseModel(4 * POWER, EVERYWHERE), np.full(16, 2.0))
    assert isinstance(match, NoiseMatch)
    assert match.source_power == pytest.approx(match.target_power)
