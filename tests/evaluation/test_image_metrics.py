"""Image metrics: known values."""

import numpy as np
import pytest

from ltdiff.evaluation.image_metrics import DATA_RANGE_HU, pixel_errors, ssim


def test_errors_of_known_differences():
    target = np.zeros((2, 3), np.int16)
    image = np.array([[3, -3, 0], [0, 6, 0]], np.int16)
    psnr_db = pytest.approx(20 * np.log10(DATA_RANGE_HU / 3))
    assert pixel_errors(image, target) == {"mae_hu": 2, "rmse_hu": 3, "bias_hu": 1, "psnr_db": psnr_db}
    assert pixel_errors(target, target)["psnr_db"] == np.inf


def test_whole_numbers_do_not_wrap_round():
    assert pixel_errors(np.array([32767], np.int16), np.array([-32768], np.int16))["mae_hu"] == 65535


def test_ssim_equals_scikit_image():
    """structural_similarity(a, b, data_range=2000, gaussian_weights=True, use_sample_covariance=False), 0.26."""
    y, x = np.mgrid[:24, :28].astype(float)
    a = 300 * np.sin(x / 3) + 200 * np.cos(y / 2) - 500
    b = a + 120 * np.sin(x * y / 7)
    assert ssim(a, b) == pytest.approx(0.8386485422166806, abs=1e-9)
    assert ssim(np.stack([a, a]), np.stack([a, b])) == pytest.approx((1 + 0.8386485422166806) / 2, abs=1e-9)


def test_ssim_properties():
    rng = np.random.default_rng(0)
    a, b = rng.normal(-500, 100, (2, 20, 20))
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, a + 5) > ssim(a, a + 50)
    with pytest.raises(ValueError, match="10 × 10"):
        ssim(np.zeros((10, 20)), np.zeros((10, 20)))
