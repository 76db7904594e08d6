"""The noise power spectrum (NPS) of soft tissue: in windows with little coarse structure, averaged over directions.

The spectrum is that of the windows less their fitted plane, tapered; it holds noise and whatever fine structure the tissue has.
Source: ICRU Report 87 (2012), chapter 4, with a Hann taper instead of overlapping rectangles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.physics.spectrum import radial_frequency, tapered_power

WINDOW_PX = 32
STEP_PX = 16
SOFT_TISSUE_HU = (-20.0, 120.0)
STRUCTURE_SIGMA_PX = 3.0
MAX_STRUCTURE_HU = 15.0
"""Standard deviation within a window after smoothing by STRUCTURE_SIGMA_PX; above it, edges rule the spectrum."""
MAX_WINDOWS_PER_SLICE = 40
RING_PER_MM, MAX_PER_MM = 0.04, 1.2
"""Width of a ring, a window's frequency step at 0.8 mm, and where the last one ends, at pixels of 0.42 mm."""


@dataclass(frozen=True)
class NoiseSpectrum:
    """Radial NPS (F,) of all windows; frequencies are the middles of the rings, up to the largest pixel's Nyquist frequency."""

    frequencies_per_mm: NDArray[np.float64]
    power_hu2_mm2: NDArray[np.float64]
    num_windows: int


class NoiseSpectrumMeter:
    """Takes slices of any pixel size, one after the other, and gives the spectrum of all. Two of them can be merged."""

    def __init__(self) -> None:
        self.rings = Rings(np.arange(0, MAX_PER_MM + RING_PER_MM / 2, RING_PER_MM))
        self.num_windows = 0
        self.largest_mm = 0.0

    def add(self, hu: NDArray[Any], spacing_mm: tuple[float, float]) -> None:
        """Take the windows of a slice (Y, X) in HU; there may be none. `spacing_mm` is (y, x)."""
        corners = homogeneous_windows(hu)
        corners = corners[:: -(-len(corners) // MAX_WINDOWS_PER_SLICE) or 1]
        if not corners:
            return
        windows = np.stack([hu[y : y + WINDOW_PX, x : x + WINDOW_PX] for y, x in corners]).astype(float)
        for spectrum in window_spectra(windows):
            self.rings.add(spectrum, spacing_mm)
        self.num_windows += len(corners)
        self.largest_mm = max(self.largest_mm, *spacing_mm)

    def merge(self, other: "NoiseSpectrumMeter") -> None:
        """Take all that another one has taken."""
        self.rings.total += other.rings.total
        self.rings.counts += other.rings.counts
        self.num_windows += other.num_windows
        self.largest_mm = max(self.largest_mm, other.largest_mm)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, to go on with elsewhere."""
        rings = {"total": self.rings.total.tolist(), "counts": self.rings.counts.tolist()}
        return {**rings, "num_windows": self.num_windows, "largest_mm": self.largest_mm}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        meter = cls()
        meter.rings.total, meter.rings.counts = np.array(values["total"]), np.array(values["counts"])
        meter.num_windows, meter.largest_mm = values["num_windows"], values["largest_mm"]
        return meter

    def spectrum(self) -> NoiseSpectrum | None:
        """The spectrum of all windows; None where there was none."""
        if not self.num_windows:
            return None
        frequencies, power = self.rings.mean()
        kept = frequencies + RING_PER_MM / 2 <= 0.5 / self.largest_mm
        return NoiseSpectrum(frequencies[kept], power[kept], self.num_windows)


def homogeneous_windows(hu: NDArray[Any]) -> list[tuple[int, int]]:
    """Corners (y, x) of the windows of a slice (Y, X) that lie in soft tissue and have little structure."""
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), STRUCTURE_SIGMA_PX)
    found = []
    for y, x in product(*(range(0, n - WINDOW_PX + 1, STEP_PX) for n in hu.shape)):
        window = smooth[y : y + WINDOW_PX, x : x + WINDOW_PX]
        if SOFT_TISSUE_HU[0] <= window.mean() <= SOFT_TISSUE_HU[1] and window.std() <= MAX_STRUCTURE_HU:
            found.append((y, x))
    return found


def window_spectra(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power spectra (N, n, n) of windows (N, n, n) in HU, less their planes: the mean of one is its window's variance."""
    return tapered_power(without_plane(windows))


class Rings:
    """The mean of spectra (n, n) over rings of frequency between `edges`, whatever their pixel size."""

    def __init__(self, edges: NDArray[np.float64]) -> None:
        self.edges = edges
        self.total, self.counts = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)

    def add(self, spectrum: NDArray[np.float64], spacing_mm: tuple[float, float] | NDArray[np.float64]) -> None:
        """Take a spectrum in HU² of pixels of `spacing_mm` (y, x)."""
        frequency = radial_frequency(spectrum.shape, (spacing_mm[0], spacing_mm[1]))
        self.total += np.histogram(frequency, self.edges, weights=spectrum * np.prod(spacing_mm))[0]
        self.counts += np.histogram(frequency, self.edges)[0]

    def mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middles of the rings in 1/mm, power in HU² mm²; without empty rings and the first, which lacks what the plane took."""
        kept = np.flatnonzero(self.counts[1:]) + 1
        return (self.edges[:-1] + self.edges[1:])[kept] / 2, self.total[kept] / self.counts[kept]


def without_plane(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows (N, h, w) less the plane that fits each best: no structure of the whole window counts as noise."""
    height, width = windows.shape[1:]
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    basis = np.stack([np.ones(height * width), y.ravel(), x.ravel()], axis=1)
    flat = windows.reshape(len(windows), height * width)
    plane = flat @ basis @ np.linalg.inv(basis.T @ basis) @ basis.T
    return (flat - plane).reshape(windows.shape)
