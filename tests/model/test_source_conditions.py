"""Conditions of a source protocol: what a match says, and whether others cover it."""

import numpy as np
import pytest

from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.model.residual_noise import ResidualNoiseModel
from ltdiff.model.source_conditions import SourceConditions
from ltdiff.physics.kernel_match import NUM_KNOTS, KernelMatch
from ltdiff.physics.noise_match import NoiseMatch

KNOTS = np.linspace(0, 1, NUM_KNOTS)


def _match(slope):
    """Gains that rise with the frequency."""
    return KernelMatch.of(KNOTS, 1 + slope * KNOTS, (-1024.0, 3071.0))


def _noise(source, target, **flags):
    return NoiseMatch((source,) * 12, (0.5, 0.5), (target,) * 12, (0.5, 0.5), **flags)


def test_the_gains_are_those_of_the_filter():
    assert SourceConditions.of(_match(5.0), None) == SourceConditions(pytest.approx((2.0, 3.0, 4.0)))


def test_noise_is_the_target_s_over_the_matched_source_s():
    assert SourceConditions.of(_match(1.0), _noise(10.0, 40.0)).noise_factor == pytest.approx(4.0)
    assert not SourceConditions.of(_match(1.0), _noise(10.0, 40.0)).is_reduced
    assert SourceConditions.of(_match(1.0), _noise(10.0, 40.0, is_reduced=True)).is_reduced


def test_noise_that_is_drawn_is_that_of_a_reduced_source():
    drawn = DrawnNoise(ResidualNoiseModel.__new__(ResidualNoiseModel), (0.8, 0.8))
    assert SourceConditions.of(_match(1.0), drawn).is_reduced


TRAINED = [SourceConditions((1.2, 2.0, 4.0), 0.5), SourceConditions((1.1, 1.5, 2.0), 1.0)]


@pytest.mark.parametrize("gains", [(1.15, 1.7, 3.0), (1.2, 2.0, 4.9), (1.0, 1.3, 1.7)])
def test_what_lies_between_trained_protocols_or_near_is_covered(gains):
    assert SourceConditions(gains, 0.7).outside(TRAINED) == ""


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        (SourceConditions((1.2, 2.0, 6.0), 0.7), "a gain of 6 at 0.6 cycles/mm instead of 2 to 4"),
        (SourceConditions((1.2, 2.0, 4.0), 0.2), "a noise factor of 0.2 instead of 0.5 to 1"),
        (SourceConditions((1.2, 2.0, 4.0), 2.0), "a noise factor of 2 instead of 0.5 to 1"),
        (SourceConditions((1.2, 2.0, 4.0), 1.0, is_reduced=True), "its noise is reduced"),
    ],
)
def test_what_lies_outside_is_named(conditions, reason):
    assert conditions.outside(TRAINED) == reason


def test_the_noise_of_a_reduced_protocol_says_nothing():
    reduced = SourceConditions((1.2, 2.0, 4.0), 7.0, is_reduced=True)
    assert SourceConditions((1.2, 2.0, 4.0), 9.0, is_reduced=True).outside([*TRAINED, reduced]) == ""
    assert SourceConditions((1.2, 2.0, 4.0), 6.0).outside([*TRAINED, reduced]) == "a noise factor of 6 instead of 0.5 to 1"
