"""Image metrics: known values."""

import numpy as np
import pytest

from ltdiff.evaluation.image_metrics import DATA_RANGE_HU, ImageMetrics


def _metrics(*pairs):
    """Of images and targets (Z, Y, X), one after the other."""
    metrics = ImageMetrics()
    for image, target in pairs:
        metrics.add(image, target)
    return metrics.result()


def _ssim(image, target):
    return _metrics((image[None], target[None]))["ssim"]


def test_errors_of_known_differences():
    target = np.zeros((2, 20, 30), np.int16)
    image = np.tile(np.array([[3, -3, 0], [0, 6, 0]], np.int16), (2, 10, 10))
    found = _metrics((image, target))
    del found["ssim"]
    psnr_db = pytest.approx(20 * np.log10(DATA_RANGE_HU / 3))
    assert found == {"mae_hu": 2, "rmse_hu": 3, "bias_hu": 1, "psnr_db": psnr_db}
    assert _metrics((target, target))["psnr_db"] == np.inf


def test_whole_numbers_do_not_wrap_round():
    assert _metrics((np.full((1, 12, 12), 32767, np.int16), np.full((1, 12, 12), -32768, np.int16)))["mae_hu"] == 65535


def test_slices_after_each_other_are_as_one():
    rng = np.random.default_rng(0)
    image, target = np.round(rng.normal(-500, 100, (2, 5, 20, 24))).astype(np.float32)
    assert _metrics((image[:1], target[:1]), (image[1:], target[1:])) == _metrics((image, target))


def test_ssim_equals_scikit_image():
    """structural_similarity(a, b, data_range=2000, gaussian_weights=True, use_sample_covariance=False), 0.26."""
    y, x = np.mgrid[:24, :28].astype(float)
    a = 300 * np.sin(x / 3) + 200 * np.cos(y / 2) - 500
    b = a + 120 * np.sin(x * y / 7)
    assert _ssim(a, b) == pytest.approx(0.8386485422166806, abs=1e-9)
    assert _metrics((np.stack([a, a]), np.stack([a, b])))["ssim"] == pytest.approx((1 + 0.8386485422166806) / 2, abs=1e-9)


def test_ssim_properties():
    rng = np.random.default_rng(0)
    a, b = rng.normal(-500, 100, (2, 20, 20))
    assert _ssim(a, a) == pytest.approx(1)
    assert _ssim(a, b) == pytest.approx(_ssim(b, a))
    assert _ssim(a, a + 5) > _ssim(a, a + 50)
    with pytest.raises(ValueError, match="10 × 10"):
        _ssim(np.zeros((10, 20)), np.zeros((10, 20)))
