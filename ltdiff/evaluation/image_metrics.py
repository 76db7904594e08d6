"""How close images are to the target, in HU: every metric is over all pixels of all slices, which come some at a time."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Slices = NDArray[np.float32]

DATA_RANGE_HU = 2000.0
"""−1000 … 1000 HU, air to bone: the peak of PSNR and the L of SSIM."""
_SSIM_SIGMA_PX = 1.5
_SSIM_RADIUS_PX = 5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03


class ImageMetrics:
    """Takes one method's slices, and gives the metrics of all.

    `mae_hu`, mean absolute error; `rmse_hu`, root of the mean squared error; `bias_hu`, mean of image − target; `psnr_db`, peak
    signal-to-noise ratio 20 log₁₀(DATA_RANGE_HU / RMSE), inf for identical images; and `ssim`, structural similarity with
    L = DATA_RANGE_HU, mean over the pixels whose window is inside the slice, slice by slice: the mean over slices.

    SSIM as in Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600: Gaussian window of 11 × 11 px with σ = 1.5 px, moments
    with 1/n, K₁ = 0.01, K₂ = 0.03.
    """

    def __init__(self) -> None:
        self._num_pixels = 0
        self._absolute = self._squared = self._signed = 0.0
        self._ssim: list[float] = []

    def add(self, image_hu: Slices, target_hu: Slices) -> None:
        """Take slices (Z, Y, X) of the method and the target. ValueError for slices smaller than a window of the SSIM."""
        assert image_hu.shape == target_hu.shape, f"images of different shapes {image_hu.shape} and {target_hu.shape}"
        if min(image_hu.shape[-2:]) <= 2 * _SSIM_RADIUS_PX:
            raise ValueError(f"SSIM needs slices larger than 10 × 10 pixels; these have {image_hu.shape[-2:]}")
        for image, target in zip(image_hu, target_hu, strict=True):
            difference = image.astype(np.float64) - target
            self._num_pixels += difference.size
            self._absolute += float(np.abs(difference).sum())
            self._squared += float((difference**2).sum())
            self._signed += float(difference.sum())
            self._ssim.append(_ssim_slice(image, target))

    def result(self) -> dict[str, float]:
        """The metrics of all slices."""
        rmse = float(np.sqrt(self._squared / self._num_pixels))
        return {
            "mae_hu": self._absolute / self._num_pixels,
            "rmse_hu": rmse,
            "bias_hu": self._signed / self._num_pixels,
            "psnr_db": float("inf") if rmse == 0 else float(20 * np.log10(DATA_RANGE_HU / rmse)),
            "ssim": float(np.mean(self._ssim)),
        }


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
