"""Power of windows: per area, whatever the pixels; by class; at the frequencies where it is."""

import numpy as np
import pytest

from ltdiff.physics.noise_place import SOURCES
from ltdiff.physics.window_power import RING_PER_MM, WindowPower, window_power


def _noise(sigma_hu, *, mean_hu=0.0, shape=(512, 512), seed=0):
    return np.random.default_rng(seed).normal(mean_hu, sigma_hu, shape).astype(np.float32)


def _windows(hu, spacing_mm, **place):
    return window_power(hu, spacing_mm, place=np.ones((SOURCES, *hu.shape)), **place)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5), (0.8, 0.7), (1.2, 1.2)])
def test_white_noise_has_its_variance_times_the_pixel_s_area_at_every_frequency(spacing_mm):
    power = _windows(_noise(20.0), spacing_mm).power[:, 2:]
    np.testing.assert_allclose(power.mean(axis=0), 400 * np.prod(spacing_mm), rtol=0.12)


def test_a_wave_is_found_at_its_frequency():
    x_mm = 0.8 * np.arange(256)
    hu = np.tile(50 * np.sin(2 * np.pi * 0.3 * x_mm), (256, 1)).astype(np.float32)
    power = _windows(hu, (0.8, 0.8)).power.mean(axis=0)
    assert np.argmax(power) * RING_PER_MM == pytest.approx(0.3, abs=RING_PER_MM)


def test_no_ring_lies_beyond_the_nyquist_frequency_of_the_larger_spacing():
    assert (_windows(_noise(20.0), (0.8, 1.0)).power.shape[1] - 1) * RING_PER_MM <= 0.5


def test_windows_are_told_apart_by_what_they_show_and_air_and_metal_are_left_out():
    hu = np.concatenate([_noise(5.0, mean_hu=mean, shape=(64, 512)) for mean in (-1000, -850, -100, 50, 500, 2950)])
    classes = _windows(hu, (0.844, 0.844)).classes
    assert {0, 3, 4} <= set(classes)
    assert len(classes) < 15 * 11


def test_windows_of_several_slices_keep_their_series_and_slice():
    parts = [_windows(_noise(5.0, seed=k), (0.8, 0.8), series=k % 2, number=k) for k in range(3)]
    joined = WindowPower.join([*parts, _windows(_noise(5.0), (0.6, 0.6), series=7, number=9)])
    assert len(joined) == sum(map(len, parts)) + len(_windows(_noise(5.0), (0.6, 0.6)))
    assert set(zip(joined.series, joined.slices, strict=True)) == {(0, 0), (1, 1), (0, 2), (7, 9)}
    assert np.isnan(joined.power[0, -1])
    assert not np.isnan(joined.power[-1, -1])
    assert set(joined[np.flatnonzero(joined.series == 7)].slices) == {9}
