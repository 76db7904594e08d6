"""A series of another dose than its protocol's gets a noise match of its own; all others keep the protocol's."""

import numpy as np
import pytest

from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_windows import NoiseModel, NoiseWindows, noise_windows
from ltdiff.physics.series_noise import MIN_SLICES, SeriesNoise

SPACING_MM, SIZE = (0.8, 0.8), 192


def _slices(num, *, noise_hu=10.0, seed=0):
    """Water with white noise, rounded as it is stored."""
    rng = np.random.default_rng(seed)
    return [np.rint(40 + rng.normal(0, noise_hu, (SIZE, SIZE))).astype(np.float32) for _ in range(num)]


def _model(slices):
    measured = [noise_windows(hu, SPACING_MM, place=noise_place(hu, SPACING_MM), number=n) for n, hu in enumerate(slices)]
    return NoiseWindows.join(measured).quiet.model()


@pytest.fixture(scope="module")
def series_noise():
    """A source protocol of 10 HU, and a target of 20 HU, with the gain 2 between them."""
    source, target = _model(_slices(MIN_SLICES, seed=1)), _model(_slices(MIN_SLICES, noise_hu=20.0, seed=2))
    return SeriesNoise.of(source, target, np.full(len(source.power), 2.0))


@pytest.mark.parametrize("noise_hu", [9.0, 10.0, 11.0])
def test_noise_as_of_other_patients_is_the_protocol_s(series_noise, noise_hu):
    assert series_noise.match(_slices(MIN_SLICES, noise_hu=noise_hu), SPACING_MM) is None


@pytest.mark.parametrize("noise_hu", [5.0, 7.0, 14.0, 20.0])
def test_noise_of_another_dose_becomes_the_target_s(series_noise, noise_hu):
    slices = _slices(MIN_SLICES, noise_hu=noise_hu)
    match = series_noise.match(slices, SPACING_MM)
    assert isinstance(match, NoiseMatch)
    matched = 40 + 2 * (slices[0] - 40)
    inside = (slice(32, -32), slice(32, -32))
    assert match(matched, slices[0], SPACING_MM)[inside].std() == pytest.approx(20, rel=0.12)


def test_a_few_slices_tell_nothing(series_noise):
    assert series_noise.match(_slices(MIN_SLICES - 1, noise_hu=20.0), SPACING_MM) is None
    assert series_noise.match([], SPACING_MM) is None


def test_slices_that_differ_among_themselves_are_no_other_dose(series_noise):
    slices = [_slices(1, noise_hu=hu, seed=n)[0] for n, hu in enumerate((2.0, 60.0, 3.0, 50.0, 2.0, 70.0, 60.0))]
    assert series_noise.match(slices, SPACING_MM) is None


def test_a_series_without_soft_tissue_keeps_the_protocol_s(series_noise):
    assert series_noise.match([hu - 900 for hu in _slices(MIN_SLICES, noise_hu=20.0)], SPACING_MM) is None


def test_pixels_may_differ_in_size(series_noise):
    """Larger ones show fewer frequencies: white noise of a level has a power in proportion to the area of a pixel."""
    wider = (1.0, 1.0)
    assert series_noise.match(_slices(MIN_SLICES, noise_hu=10 * 0.8), wider) is None
    assert series_noise.match(_slices(MIN_SLICES, noise_hu=20 * 0.8), wider) is not None


@pytest.mark.parametrize("noise_hu", [10.0, 20.0, 40.0])
def test_the_distance_is_the_logarithm_of_the_ratio_of_power(series_noise, noise_hu):
    found = series_noise.distance(_slices(3, noise_hu=noise_hu, seed=5), SPACING_MM)
    assert found == pytest.approx(abs(2 * np.log(noise_hu / 20)), abs=0.1)


def test_the_distance_of_air_is_not_known(series_noise):
    assert np.isnan(series_noise.distance([hu - 1000 for hu in _slices(1)], SPACING_MM))


def test_a_reduced_protocol_stays_one():
    model = NoiseModel(np.full(13, 64.0), np.eye(3)[0])
    match = SeriesNoise.of(model, model, np.ones(13), is_reduced=True).match(_slices(MIN_SLICES, noise_hu=30.0), SPACING_MM)
    assert match is not None
    assert match.is_reduced
