"""Made sources: the inverse of a match, within bounds, rounded and clipped as sources are."""

import numpy as np
import pytest

from ltdiff.model.degradation import MAX_INVERSE_GAIN, Degradation
from ltdiff.model.kernel_match import NUM_KNOTS

KNOTS = np.linspace(0, 0.9, NUM_KNOTS)


def _degradation(*gains, range_hu=(-1024.0, 3071.0)):
    return Degradation.inverting(KNOTS, np.array([np.full(NUM_KNOTS, gain) for gain in gains]), range_hu)


@pytest.fixture
def target():
    return np.random.default_rng(0).normal(0, 100, (96, 80)).round().astype(np.float32)


def test_a_gain_is_undone(target):
    made = _degradation(2.0)(target, (0.8, 0.7), np.random.default_rng(0))
    np.testing.assert_allclose(made, target / 2, atol=0.51)


def test_what_the_target_does_not_hold_is_not_blown_up(target):
    made = _degradation(1e-6, range_hu=(-1e6, 1e6))(target, (0.8, 0.8), np.random.default_rng(0))
    assert np.abs(made).max() <= MAX_INVERSE_GAIN * np.abs(target).max() + 1


def test_values_stay_in_the_source_s_range(target):
    made = _degradation(1.0, range_hu=(-50.0, 120.0))(target, (0.8, 0.8), np.random.default_rng(0))
    assert (made.min(), made.max()) == (-50.0, 120.0)


def test_every_draw_is_used(target):
    degradation = _degradation(1.0, 2.0)
    made = {float(degradation(target, (0.8, 0.8), np.random.default_rng(k)).std().round(1)) for k in range(12)}
    assert len(made) == 2
