"""The noise match changes noise to another level and leaves edges; at one dose it changes nothing."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.noise_match import NoiseMatch, NoisePlace
from ltdiff.physics.noise_place import SOURCES
from ltdiff.physics.noise_windows import FIRST_RING, NoiseModel

SPACING_MM = (0.8, 0.8)
POWER = np.full(16, 100 * 0.64)
"""Of white noise of 10 HU."""
EVERYWHERE = np.eye(SOURCES)[0]


def _match(factor, *, is_reduced=False):
    target = NoiseModel(factor * POWER, EVERYWHERE)
    return NoiseMatch.of(NoiseModel(POWER, EVERYWHERE), target, np.ones(16), is_reduced=is_reduced)


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


def test_below_the_first_ring_noise_goes_to_zero_and_keeps_its_ratio():
    match = NoiseMatch.of(NoiseModel(POWER, EVERYWHERE), NoiseModel(4 * POWER, EVERYWHERE), np.ones(16))
    wanted, matched = np.array(match.target_power), np.array(match.source_power)
    assert wanted[0] == 0
    assert (np.diff(wanted[: FIRST_RING + 1]) > 0).all()
    np.testing.assert_allclose(wanted[1:], 4 * matched[1:])


def test_noise_that_was_reduced_is_drawn_and_not_made_stronger():
    hu = _noise()
    made = _match(4.0, is_reduced=True)(hu, hu, SPACING_MM)
    added = made - hu
    assert made[32:-32, 32:-32].std() == pytest.approx(20, rel=0.12)
    assert abs(np.corrcoef(added.ravel(), hu.ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(made, _match(4.0, is_reduced=True)(hu, hu, SPACING_MM))  # a slice always gets the same


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_way_back_gives_a_target_the_source_s_noise(factor):
    target = _noise() * np.float32(np.sqrt(factor))
    made = _match(factor).reversed(target, target, SPACING_MM)[32:-32, 32:-32]
    assert made.std() == pytest.approx(10, rel=0.15)


def test_a_part_gets_what_the_whole_slice_gives_it():
    hu = _noise()
    match, place = _match(4.0), NoisePlace.of(hu, SPACING_MM)
    whole = match.match_part(hu, (0, 0), place, np.random.default_rng(0))
    part = match.match_part(hu[48:208, 48:208], (48, 48), place, np.random.default_rng(0))
    np.testing.assert_allclose(part[40:-40, 40:-40], whole[88:-88, 88:-88], atol=6)
