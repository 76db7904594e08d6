"""Power spectra of images: windows, taper and radial frequencies, for all who need one."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def radial_frequency(shape: tuple[int, ...], spacing_mm: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Frequencies (H, W) of an `fft2` of pixels (H, W), in cycles/mm, or in cycles/pixel without a PixelSpacing (y, x)."""
    along_y, along_x = (np.abs(np.fft.fftfreq(n, mm)) for n, mm in zip(shape, spacing_mm, strict=True))
    return np.hypot(along_y[:, None], along_x[None, :])


def hann_taper(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Hann window (H, W): without it the borders of an image count as edges, and one frequency leaks into the others."""
    along_y, along_x = (np.hanning(n + 2)[1:-1] for n in shape)
    return np.outer(along_y, along_x)


def half_overlapping_windows(image: NDArray[Float], size: tuple[int, ...]) -> NDArray[Float]:
    """Windows (N, h, w) of an image (H, W), each half over the next (Welch's method)."""
    windows: NDArray[Float] = np.lib.stride_tricks.sliding_window_view(image, size)
    return windows[:: max(1, size[0] // 2), :: max(1, size[1] // 2)].reshape(-1, *size)


def tapered_power(windows: NDArray[Float]) -> NDArray[np.float64]:
    """Power spectra (…, h, w) of windows (…, h, w), tapered: the mean over all frequencies is the mean square of a window.

    The windows must have no mean, which the taper would spread over the lowest frequencies.
    """
    taper = hann_taper(windows.shape[-2:])
    return np.abs(np.fft.fft2(windows * taper)) ** 2 / (taper**2).sum()
