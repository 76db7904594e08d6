"""A ceiling for every method: the target itself with other noise, as if the right kernel had been used on a second scan.

The target's finest part is taken window by window, away from edges, and replaced by noise of the same local power spectrum.
It is an estimate: fine anatomy that looks like noise is redrawn too, coarse noise is kept. What a method scores above it, it
owes to noise that source and target share.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

NAME = "target_rescan_estimate"
FINE_SIGMA_PX = 2.0
"""Noise is what is finer than this Gaussian."""
EDGE_FACTOR = 3.0
"""An edge is where the smoothed image rises that many times as fast as it does in the median."""
WINDOW_PX = 32
STEP_PX = 8


def redraw_noise(target_hu: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Slices (Z, Y, X) in HU with other noise, whole numbers inside their own range; the same seed gives the same noise."""
    low, high = target_hu.min(), target_hu.max()
    slices = [_redraw(plane.astype(float), np.random.default_rng([seed, z])) for z, plane in enumerate(target_hu)]
    return np.stack(slices).round().clip(low, high).astype(np.float32)


def _redraw(plane: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    fine = plane - ndimage.gaussian_filter(plane, FINE_SIGMA_PX)
    rise = ndimage.gaussian_gradient_magnitude(plane, FINE_SIGMA_PX)
    typical = np.median(rise[rise > 0]) if (rise > 0).any() else 1.0
    weight = 1 / (1 + (rise / (EDGE_FACTOR * typical)) ** 2)  # 1 where nothing rises, 0 on edges
    weight[(plane == plane.min()) | (plane == plane.max())] = 0  # what is cut off has no noise
    kept = 1 - weight  # of the old noise; the new one makes up for the rest of its variance
    return plane - weight * fine + np.sqrt(1 - kept**2) * _shaped_noise(fine, weight, rng)


def _shaped_noise(
    fine: NDArray[np.float64], weight: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """White noise given the power spectrum of `fine`, window by window, seen where `weight` lets it."""
    size = min(WINDOW_PX, *fine.shape)
    taper = np.outer(np.hanning(size + 2)[1:-1], np.hanning(size + 2)[1:-1])
    padding = [(size, size + -n % STEP_PX) for n in fine.shape]
    mode: Literal["reflect", "edge"] = "reflect" if min(fine.shape) > size else "edge"
    seen, weight = (np.pad(image, padding, mode=mode) for image in (weight * fine, weight))
    white = rng.standard_normal(seen.shape)
    total, weights = np.zeros(seen.shape), np.zeros(seen.shape)
    for y in range(0, seen.shape[0] - size + 1, STEP_PX):
        for x in range(0, seen.shape[1] - size + 1, STEP_PX):
            box = (slice(y, y + size), slice(x, x + size))
            power = np.abs(np.fft.fft2(seen[box] * taper)) ** 2
            power = ndimage.uniform_filter(power, 3, mode="wrap") / max(((taper * weight[box]) ** 2).sum(), 1e-9)
            total[box] += taper * np.fft.ifft2(np.fft.fft2(white[box] * taper) * np.sqrt(power)).real
            weights[box] += taper**2
    inside = tuple(slice(size, size + n) for n in fine.shape)
    return total[inside] / weights[inside]
