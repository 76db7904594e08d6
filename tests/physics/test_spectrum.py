"""Spectra of known images."""

import numpy as np
import pytest

from ltdiff.physics.spectrum import half_overlapping_windows, hann_taper, radial_frequency, tapered_power


def test_frequencies_are_those_of_an_fft():
    """A wave of 3 cycles along y and 2 along x in 24 × 20 mm."""
    spacing_mm, shape = (0.8, 0.5), (30, 40)
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = np.cos(2 * np.pi * (3 * y / shape[0] + 2 * x / shape[1]))
    found = np.abs(np.fft.fft2(wave)) > 1
    frequency = radial_frequency(shape, spacing_mm)
    assert frequency[found].tolist() == pytest.approx([np.hypot(3 / 24, 2 / 20)] * 2)
    assert frequency[0, 0] == 0
    assert radial_frequency(shape).max() == pytest.approx(np.hypot(0.5, 0.5))


def test_windows_overlap_by_half_and_are_tapered_to_their_edges():
    image = np.arange(8.0 * 6).reshape(8, 6)
    windows = half_overlapping_windows(image, (4, 3))
    assert [window[0, 0] for window in windows] == [image[y, x] for y in (0, 2, 4) for x in (0, 1, 2, 3)]
    taper = hann_taper((15, 7))
    assert taper.max() == taper[7, 3] == 1
    assert 0 < taper[0].max() < 0.05


def test_the_mean_power_of_white_noise_is_its_variance():
    noise = np.random.default_rng(0).normal(0, 20, (200, 32, 32))
    power = tapered_power(noise)
    assert power.mean() == pytest.approx(400, rel=0.02)
    rings = [power.mean(axis=0)[radial_frequency((32, 32)) < limit].mean() for limit in (0.1, 0.3)]
    assert rings == pytest.approx([400, 400], rel=0.05)
