"""The noise spectrum of one set of images, against known noise."""

import json

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.noise_spectrum import WINDOW_PX, NoiseSpectrumMeter, homogeneous_windows

SPACING_MM = (0.8, 0.8)


def _noise(seed, *, sd_hu=20.0, sigma_px=0.0, mean_hu=40.0, size=192):
    white = np.random.default_rng(seed).normal(0, sd_hu, (size, size))
    return (mean_hu + ndimage.gaussian_filter(white, sigma_px)).astype(np.float32)


def _measured(planes, spacing_mm=SPACING_MM):
    meter = NoiseSpectrumMeter()
    for plane in planes:
        meter.add(plane, spacing_mm)
    return meter


def test_white_noise_has_its_variance_times_the_pixel_s_area_at_every_frequency():
    spectrum = _measured(_noise(seed) for seed in range(4)).spectrum()
    np.testing.assert_allclose(spectrum.power_hu2_mm2, 20**2 * 0.8**2, rtol=0.1)
    assert spectrum.frequencies_per_mm.max() < 0.5 / 0.8


def test_smoothed_noise_has_the_square_of_its_filter():
    sigma_mm = 0.8
    spectrum = _measured(_noise(seed, sd_hu=60.0, sigma_px=1.0) for seed in range(6)).spectrum()
    expected = (60 * 0.8) ** 2 * np.exp(-((2 * np.pi * sigma_mm * spectrum.frequencies_per_mm) ** 2))
    middle = (spectrum.frequencies_per_mm > 0.08) & (spectrum.frequencies_per_mm < 0.35)
    np.testing.assert_allclose(spectrum.power_hu2_mm2[middle], expected[middle], rtol=0.15)


def test_meters_of_parts_are_merged_to_that_of_all():
    planes = [_noise(seed) for seed in range(3)]
    whole, merged = _measured(planes), _measured(planes[:1])
    merged.merge(NoiseSpectrumMeter.from_dict(json.loads(json.dumps(_measured(planes[1:]).to_dict()))))
    assert merged.num_windows == whole.num_windows
    np.testing.assert_allclose(merged.spectrum().power_hu2_mm2, whole.spectrum().power_hu2_mm2)


def test_the_frequencies_end_with_the_largest_pixels():
    meter = _measured([_noise(0)], (0.6, 0.6))
    assert meter.spectrum().frequencies_per_mm.max() > 0.7
    meter.add(_noise(1), (0.9, 0.9))
    assert meter.spectrum().frequencies_per_mm.max() < 0.5 / 0.9


def test_windows_lie_in_homogeneous_soft_tissue():
    plane = _noise(0)
    plane[:, 96:] += np.where(np.arange(96) % 16 < 8, 200, 0)
    assert {x for _, x in homogeneous_windows(plane)} == set(range(0, 96 - WINDOW_PX, 16))


@pytest.mark.parametrize("mean_hu", [-800.0, 400.0])
def test_without_soft_tissue_there_is_no_spectrum(mean_hu):
    assert _measured([_noise(0, mean_hu=mean_hu)]).spectrum() is None


def test_a_slice_smaller_than_a_window_adds_nothing():
    assert _measured([_noise(0, size=20)]).spectrum() is None
