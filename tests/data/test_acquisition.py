"""How noisy a slice is."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.data.acquisition import noise_level_hu


def body(noise_hu: float, *, level_hu: float = 40.0, size: int = 96) -> np.ndarray:
    """A square of soft tissue in air, with a block of bone in it."""
    rng = np.random.default_rng(0)
    hu = np.full((size, size), -1000.0)
    hu[12:-12, 12:-12] = level_hu
    hu[40:50, 30:60] = 800
    return hu + rng.normal(0, noise_hu, hu.shape)


@pytest.mark.parametrize("noise_hu", [5.0, 20.0, 60.0])
def test_white_noise_has_its_standard_deviation_times_root_8_9(noise_hu):
    assert noise_level_hu(body(noise_hu)) == pytest.approx(np.sqrt(8 / 9) * noise_hu, rel=0.05)


def test_a_soft_kernel_has_less():
    sharp = body(30.0)
    assert noise_level_hu(ndimage.gaussian_filter(sharp, 1)) < noise_level_hu(sharp) / 4


@pytest.mark.parametrize("level_hu", [-700.0, 300.0])
def test_no_soft_tissue_no_noise_level(level_hu):
    assert noise_level_hu(body(10.0, level_hu=level_hu)) is None


def test_a_real_pair_is_told_apart(real_data):
    from ltdiff.dicom.pixels import read_slice_hu
    from ltdiff.dicom.series import find_series

    series, _ = find_series(real_data / "lung-pet-ct-dx-a0001")
    levels = {one.kernel: [noise_level_hu(read_slice_hu(one.slices[k].path)) for k in (0, 32, 63)] for one in series}
    assert max(levels["B"]) < 10
    assert min(levels["L"]) > 40
