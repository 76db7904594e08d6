"""Made sources: the inverse of a match, within bounds, rounded and clipped as sources are."""

import numpy as np
import pytest

from ltdiff.physics.degradation import MAX_INVERSE_GAIN, Degradation
from ltdiff.physics.kernel_match import NUM_KNOTS
from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_place import SOURCES
from ltdiff.physics.noise_windows import NoiseModel

KNOTS = np.linspace(0, 0.9, NUM_KNOTS)


def _degradation(*gains, range_hu=(-1024.0, 3071.0), noise_match=None):
    return Degradation.inverting(KNOTS, np.array([np.full(NUM_KNOTS, gain) for gain in gains]), range_hu, noise_match)


def _make(degradation, target, spacing_mm, seed=0):
    return degradation(target, spacing_mm)(target, (0, 0), np.random.default_rng(seed))


def _noise_match(factor):
    """Sources have `factor` times the target's noise, which is white and of 10 HU."""
    everywhere = np.eye(SOURCES)[0]
    target = NoiseModel(np.full(16, 100 * 0.64), everywhere)
    return NoiseMatch.of(NoiseModel(factor * target.power, everywhere), target, np.ones(16))


@pytest.fixture
def target():
    return np.random.default_rng(0).normal(0, 100, (96, 80)).round().astype(np.float32)


def test_a_gain_is_undone(target):
    made = _make(_degradation(2.0), target, (0.8, 0.7))
    np.testing.assert_allclose(made, target / 2, atol=0.51)


def test_what_the_target_does_not_hold_is_not_blown_up(target):
    made = _make(_degradation(1e-6, range_hu=(-1e6, 1e6)), target, (0.8, 0.8))
    assert np.abs(made).max() <= MAX_INVERSE_GAIN * np.abs(target).max() + 1


def test_values_stay_in_the_source_s_range(target):
    made = _make(_degradation(1.0, range_hu=(-50.0, 120.0)), target, (0.8, 0.8))
    assert (made.min(), made.max()) == (-50.0, 120.0)


def test_every_draw_is_used(target):
    degradation = _degradation(1.0, 2.0)
    made = {float(_make(degradation, target, (0.8, 0.8), seed=k).std().round(1)) for k in range(12)}
    assert len(made) == 2


def test_a_noisier_source_gets_its_noise():
    hu = np.random.default_rng(1).normal(0, 10, (256, 256)).astype(np.float32)
    made = _make(_degradation(1.0, noise_match=_noise_match(4.0)), hu, (0.8, 0.8))
    assert made.std() == pytest.approx(20, rel=0.1)
    assert (made - hu).std() == pytest.approx(np.sqrt(300), rel=0.15)
    assert abs(np.corrcoef((made - hu).ravel(), hu.ravel())[0, 1]) < 0.05


def test_a_quieter_source_has_less_noise():
    hu = np.random.default_rng(1).normal(0, 10, (256, 256)).round().astype(np.float32)
    made = _make(_degradation(1.0, noise_match=_noise_match(0.25)), hu, (0.8, 0.8))
    assert made.std() == pytest.approx(5, rel=0.15)


def test_the_noise_of_a_part_is_that_of_its_place():
    """A thick body: in its middle the noise of photons is strongest."""
    y, x = np.mgrid[:256, :256] - 127.5
    body = np.where(np.hypot(x, y) < 100, 0, -1000).astype(np.float32)
    photons = np.eye(SOURCES)[1]
    noise = NoiseMatch.of(NoiseModel(np.full(16, 400.0), photons), NoiseModel(np.full(16, 40.0), photons), np.ones(16))
    degrade = _degradation(1.0, range_hu=(-1e4, 1e4), noise_match=noise)(body, (1.5, 1.5))
    middle, border = (
        np.std([degrade(np.zeros((48, 48), np.float32), corner, np.random.default_rng(k)) for k in range(8)])
        for corner in ((104, 104), (104, 28))
    )
    assert middle > 1.3 * border
