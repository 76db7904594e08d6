"""Which of several kernels is the sharpest, judged by the images themselves: kernel names follow no common rule."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.series import Series, read_slice_hu
from ltdiff.model.spectrum import radial_frequency, tapered_power

logger = logging.getLogger(__name__)

NUM_SLICES: Final = 3
"""From the middle of each series."""
CUTOFF: Final = 0.5
"""Of the Nyquist frequency: above it soft kernels let almost nothing pass."""


def sharpest_kernel(grid: Sequence[Series]) -> str:
    """The kernel with the highest high-frequency power among series of one acquisition; logged with the figures.

    Raises ValueError naming the file when a middle slice cannot be read.
    """
    power_hu2 = {series.kernel: _series_power_hu2(series) for series in reversed(grid)}
    sharpest = max(power_hu2, key=lambda kernel: power_hu2[kernel])
    measured = ", ".join(f"{kernel} {power:.3g}" for kernel, power in sorted(power_hu2.items()))
    logger.info("the sharpest kernel is %s (high-frequency power in HU²: %s)", sharpest, measured)
    return sharpest


def _series_power_hu2(series: Series) -> float:
    first = max(0, (series.num_slices - NUM_SLICES) // 2)
    headers = series.slices[first : first + NUM_SLICES]
    return float(np.mean([high_frequency_power_hu2(read_slice_hu(header.path)) for header in headers]))


def high_frequency_power_hu2(hu: NDArray[np.float32]) -> float:
    """Power (HU²) of a slice (Y, X) above half the Nyquist frequency.

    White noise of variance σ² has (1 − π/16)·σ²: a disc of π/16 of the spectrum lies below.
    """
    return float(tapered_power(hu - hu.mean())[radial_frequency(hu.shape) > CUTOFF / 2].sum() / hu.size)
