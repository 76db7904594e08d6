"""Which of several kernels is the sharpest, judged by the images themselves: kernel names follow no common rule."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.scan import Scan
from ltdiff.physics.spectrum import radial_frequency, tapered_power

logger = logging.getLogger(__name__)

NUM_SLICES = 3
CUTOFF = 0.5
"""Fraction of the Nyquist frequency above which soft kernels let almost nothing pass."""


def sharpest_kernel(grid: Sequence[Scan]) -> str:
    """The kernel with the highest high-frequency power among scans of one acquisition; logged with the figures.

    Raises ValueError naming the file when a middle slice cannot be read.
    """
    power_hu2 = {scan.kernel: _power_hu2(scan) for scan in reversed(grid)}
    sharpest = max(power_hu2, key=lambda kernel: power_hu2[kernel])
    measured = ", ".join(f"{kernel} {power:.3g}" for kernel, power in sorted(power_hu2.items()))
    logger.info("the sharpest kernel is %s (high-frequency power in HU²: %s)", sharpest, measured)
    return sharpest


def _power_hu2(scan: Scan) -> float:
    first = max(0, (scan.num_slices - NUM_SLICES) // 2)
    middle = range(first, min(first + NUM_SLICES, scan.num_slices))
    return float(np.mean([high_frequency_power_hu2(scan.read_slice(index)) for index in middle]))


def high_frequency_power_hu2(hu: NDArray[np.float32]) -> float:
    """Power (HU²) of a slice (Y, X) above half the Nyquist frequency.

    White noise of variance σ² has (1 − π/16)·σ²: a disc of π/16 of the spectrum lies below.
    """
    return float(tapered_power(hu - hu.mean())[radial_frequency(hu.shape) > CUTOFF / 2].sum() / hu.size)
