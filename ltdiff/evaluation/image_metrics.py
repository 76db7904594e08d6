"""How close two images are, in HU. Arrays are (Y, X) or (Z, Y, X); every metric is over all their pixels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DATA_RANGE_HU = 2000.0
"""−1000 … 1000 HU, air to bone: the peak of PSNR and the L of SSIM."""
_SSIM_SIGMA_PX = 1.5
_SSIM_RADIUS_PX = 5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03


def pixel_errors(image_hu: NDArray[np.float32], target_hu: NDArray[np.float32]) -> dict[str, float]:
    """`mae_hu`, mean absolute error; `rmse_hu`, root of the mean squared error; `bias_hu`, mean of image − target; and `psnr_db`,
    peak signal-to-noise ratio 20 log₁₀(DATA_RANGE_HU / RMSE), inf for identical images.
    """
    assert image_hu.shape == target_hu.shape, f"images of different shapes {image_hu.shape} and {target_hu.shape}"
    difference = image_hu.astype(np.float64) - target_hu
    rmse = float(np.sqrt((difference**2).mean()))
    psnr_db = float("inf") if rmse == 0 else float(20 * np.log10(DATA_RANGE_HU / rmse))
    return {"mae_hu": float(np.abs(difference).mean()), "rmse_hu": rmse, "bias_hu": float(difference.mean()), "psnr_db": psnr_db}


def ssim(image_hu: NDArray[np.float32], target_hu: NDArray[np.float32]) -> float:
    """Structural similarity with L = DATA_RANGE_HU, mean over the pixels whose window is inside the slice.

    Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600: Gaussian window of 11 × 11 px with σ = 1.5 px, moments
    with 1/n, K₁ = 0.01, K₂ = 0.03. Slice by slice; the mean over slices. ValueError for slices smaller than a window.
    """
    assert image_hu.shape == target_hu.shape
    if min(image_hu.shape[-2:]) <= 2 * _SSIM_RADIUS_PX:
        raise ValueError(f"SSIM needs slices larger than 10 × 10 pixels; these have {image_hu.shape[-2:]}")
    size = (-1, *image_hu.shape[-2:])
    planes = zip(image_hu.reshape(size), target_hu.reshape(size), strict=True)
    return float(np.mean([_ssim_slice(image, target) for image, target in planes]))


def _ssim_slice(image: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    x, y = image.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (_SSIM_K1 * DATA_RANGE_HU) ** 2, (_SSIM_K2 * DATA_RANGE_HU) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean())


def _window(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean round each pixel, without the rim where the window leaves the slice."""
    r = _SSIM_RADIUS_PX
    return ndimage.gaussian_filter(plane, _SSIM_SIGMA_PX, radius=r)[r:-r, r:-r]
