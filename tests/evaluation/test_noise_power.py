"""Noise power spectra against known noise."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ltdiff.evaluation.noise_power import MAX_NUM_WINDOWS, NoisePower, count_windows, largest_differences

SPACINGS_MM = np.full((4, 2), 0.8)


def _noise(seed, sd_hu=20.0, mean_hu=40.0):
    return (mean_hu + np.random.default_rng(seed).normal(0, sd_hu, (4, 128, 128))).astype(np.float32)


def _noise_power(images, *, target_hu, spacings_mm, scans=(slice(None),)):
    power = NoisePower(np.concatenate([count_windows(target_hu[scan]) for scan in scans]))
    for scan in scans:
        of_scan = {name: volume[scan] for name, volume in images.items()}
        power.add(of_scan, target_hu=target_hu[scan], spacings_mm=spacings_mm[scan], first=scan.start or 0)
    return power.table()


def test_scans_after_each_other_are_as_one():
    """There are more windows than are looked at: those of each scan depend on the number in all."""
    target, images = np.tile(_noise(0), (3, 1, 1)), {"method": np.tile(_noise(1), (3, 1, 1))}
    target[1] = -800.0  # has none
    spacings_mm = np.linspace([0.6, 0.7], [0.9, 0.8], len(target))
    assert count_windows(target).sum() > MAX_NUM_WINDOWS
    options = {"target_hu": target, "spacings_mm": spacings_mm}
    parts = _noise_power(images, **options, scans=[slice(0, 1), slice(1, 2), slice(2, 7), slice(7, 12)])
    pd.testing.assert_frame_equal(parts, _noise_power(images, **options), check_exact=True)
    assert parts["num_windows"].unique().tolist() == [MAX_NUM_WINDOWS]


def test_white_noise_has_its_variance_times_the_pixel_s_area_at_every_frequency():
    table = _noise_power({"method": _noise(1)}, target_hu=_noise(0), spacings_mm=SPACINGS_MM)
    power = table.groupby("method")["power_hu2_mm2"]
    np.testing.assert_allclose(power.mean(), 20**2 * 0.8**2, rtol=0.03)
    assert (power.std() / power.mean() < 0.1).all()
    assert table["frequency_per_mm"].max() < 0.5 / 0.8


def test_a_smoother_image_lacks_its_high_frequencies():
    target = _noise(0)
    smooth = np.stack([ndimage.gaussian_filter(plane, 1.0) for plane in target])
    table = _noise_power({"smooth": smooth}, target_hu=target, spacings_mm=SPACINGS_MM)
    lost = table[table["method"] == "smooth"].set_index("frequency_per_mm")["difference"]
    assert lost.iloc[0] > -0.3
    assert lost.iloc[-1] < -0.8
    largest = largest_differences(table).set_index("method")["nps_difference"]
    assert largest["smooth"] == pytest.approx(lost.abs().max())


def test_other_noise_of_the_same_kind_hardly_differs():
    """With more windows than are looked at: chosen for the target's own little noise, they would favour it."""

    def draw(seed):
        white = np.random.default_rng(seed).normal(0, 60, (8, 192, 192))
        return (40 + np.stack([ndimage.gaussian_filter(plane, 1.2) for plane in white])).astype(np.float32)

    table = _noise_power({"method": draw(1)}, target_hu=draw(0), spacings_mm=np.full((8, 2), 0.8))
    assert largest_differences(table)["nps_difference"].item() < 0.15


def test_the_same_image_differs_nowhere():
    table = _noise_power({"same": _noise(0)}, target_hu=_noise(0), spacings_mm=SPACINGS_MM)
    assert largest_differences(table)["nps_difference"].tolist() == [0.0]


def test_a_target_without_noise_has_no_peak_to_compare_with():
    table = _noise_power({"method": _noise(0)}, target_hu=_noise(0, sd_hu=0.0), spacings_mm=SPACINGS_MM)
    assert table.empty
    assert largest_differences(table).empty


def test_windows_lie_in_homogeneous_soft_tissue_of_the_target():
    target = _noise(0)
    target[:, :, 64:] += np.where(np.arange(64) % 16 < 8, 200, 0)  # edges
    table = _noise_power({"method": _noise(1, mean_hu=500.0)}, target_hu=target, spacings_mm=SPACINGS_MM)
    np.testing.assert_allclose(table["power_hu2_mm2"].mean(), 20**2 * 0.8**2, rtol=0.05)


def test_without_soft_tissue_there_is_no_spectrum():
    assert _noise_power({"method": _noise(1)}, target_hu=_noise(0, mean_hu=-800.0), spacings_mm=SPACINGS_MM).empty


def test_slices_of_two_pixel_sizes_have_one_spectrum_per_mm():
    """The same noise per mm, drawn on both grids: smoothed by a Gaussian of 1.2 mm."""
    spacings_mm = np.repeat([[0.6, 0.6], [0.9, 0.9]], 2, axis=0)
    target = np.stack(
        [
            40 + ndimage.gaussian_filter(plane - 40, 1.2 / mm) / mm
            for plane, mm in zip(_noise(0, sd_hu=60.0), spacings_mm[:, 0], strict=True)
        ]
    )
    each = [
        _noise_power({"same": target[part]}, target_hu=target[part], spacings_mm=spacings_mm[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    both = _noise_power({"same": target}, target_hu=target, spacings_mm=spacings_mm)
    assert both["frequency_per_mm"].max() < 0.5 / 0.9
    low = both[(both["method"] == "same") & (both["frequency_per_mm"] < 0.15)]
    for table in each:
        alone = table[table["method"] == "same"]
        expected = np.interp(low["frequency_per_mm"], alone["frequency_per_mm"], alone["power_hu2_mm2"])
        np.testing.assert_allclose(low["power_hu2_mm2"], expected, rtol=0.25)
