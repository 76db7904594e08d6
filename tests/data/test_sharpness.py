"""High-frequency power of images where it is known, and the choice that is made by it."""

import numpy as np
import pytest

from ltdiff.data.sharpness import high_frequency_power_hu2, sharpest_kernel
from ltdiff.dicom.series import find_series


def test_power_of_white_noise_is_its_variance_outside_the_disc():
    noise = np.random.default_rng(0).normal(40.0, 20.0, (256, 256))
    assert high_frequency_power_hu2(noise) == pytest.approx((1 - np.pi / 16) * 20.0**2, rel=0.05)


def test_a_ramp_and_a_bright_border_are_not_sharp():
    ramp = np.linspace(-1000, 400, 128)[:, None] * np.ones(128)
    assert high_frequency_power_hu2(ramp) < 1.0


@pytest.mark.parametrize("num_slices", [1, 5])
def test_the_sharpest_of_three_is_found(tmp_path, write_dicom, num_slices):
    noise = np.random.default_rng(1).normal(0, 1, (num_slices, 32, 32))
    for kernel, sd_hu in (("A", 40), ("B", 120), ("C", 80)):
        write_dicom(tmp_path / kernel, np.round(-400 + sd_hu * noise), kernel=kernel)
    series, _ = find_series(tmp_path)
    assert sharpest_kernel(series) == "B"


def test_the_real_sharp_kernel_is_the_sharper(real_data):
    series, _ = find_series(real_data / "lung-pet-ct-dx-a0001")
    assert sharpest_kernel(series) == "L"
