"""Scans of all kinds: settings within their ranges, each number another scan, the same number the same one."""

import numpy as np
import pytest

from ltdiff.simulation.continuum import DOSES, FOV_MM, THICKNESSES_MM, draw_config, scan_continuum

NUM_CONFIGS = 200


@pytest.fixture(scope="module")
def configs():
    return [draw_config(np.random.default_rng([0, number])) for number in range(NUM_CONFIGS)]


def test_settings_fill_their_ranges(configs):
    for values, (low, high) in (
        ([config.dose(0) for config in configs], DOSES),
        ([config.thickness_mm(0) for config in configs], THICKNESSES_MM),
        ([config.fov_mm for config in configs], FOV_MM),
    ):
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.2 * (high - low) < max(values) <= high


def test_most_targets_are_sharper_and_some_are_softer(configs):
    source, target = np.array([[kernel.window[2] for kernel in config.kernels()] for config in configs]).T
    assert 0.6 < (target > source).mean() < 0.9


def test_some_sources_have_noise_reduction(configs):
    assert 0.1 < np.mean([config.iterative is not None for config in configs]) < 0.3


def test_a_number_stands_for_one_scan():
    one, again, other = (scan_continuum(number, num_slices=1, seed=3) for number in (5, 5, 6))
    np.testing.assert_array_equal(one.source_hu, again.source_hu)
    assert one.config != other.config
    assert one.source_hu.shape == one.target_hu.shape == (1, 512, 512)
    assert one.spacing_mm == (one.config.fov_mm / 512,) * 2
    inside = slice(200, 312)
    assert np.abs(one.source_hu - one.target_hu)[0, inside, inside].mean() > 1  # another kernel
    assert np.corrcoef(one.source_hu[0, inside, inside].ravel(), one.target_hu[0, inside, inside].ravel())[0, 1] > 0.7
