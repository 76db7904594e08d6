"""Small windows of soft tissue with little structure, and the noise spectrum that they show, per unit of `noise_place`.

Patients of one protocol differ in their noise by their size. Divided by a mixture of the place's relative variances, which the
windows themselves tell, it is the protocol's own.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import nnls

from ltdiff.physics.noise_spectrum import SOFT_TISSUE_HU, without_plane
from ltdiff.physics.spectrum import half_overlapping_windows, hann_taper
from ltdiff.physics.window_power import ring_shares

WINDOW_MM = 20.0
RING_PER_MM = 1 / WINDOW_MM
LEAST_HU = -300.0
"""Of each pixel of a window: no lung, no air."""
STRUCTURE_SIGMA_MM = 2.5
QUIET_SHARE, MIN_WINDOWS = 0.35, 24
"""Of the windows, those with the least structure count."""
NOISE_PER_MM = 0.25
"""From here on, quiet windows hold noise alone."""
FIRST_RING = int(np.ceil(NOISE_PER_MM / RING_PER_MM))
"""Of those."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseWindows:
    """Power (N, R) in HU² mm² of N windows at rings of RING_PER_MM, with structure in HU, relative variances of the place
    (N, SOURCES), series and slice (N,) of each."""

    power: Float
    structure_hu: Float
    place: Float
    series: NDArray[np.int64]
    slices: NDArray[np.int64]

    @classmethod
    def join(cls, parts: "list[NoiseWindows]") -> "NoiseWindows":
        """Of several slices, up to the last ring that all have."""
        num_rings = min(part.power.shape[1] for part in parts)
        joined = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("structure_hu", "place", "series", "slices")
        )
        return cls(np.concatenate([part.power[:, :num_rings] for part in parts]), *joined)

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "NoiseWindows":
        """Some of the windows."""
        return NoiseWindows(
            self.power[chosen], self.structure_hu[chosen], self.place[chosen], self.series[chosen], self.slices[chosen]
        )

    def __len__(self) -> int:
        return len(self.power)

    @property
    def quiet(self) -> "NoiseWindows":
        """Those with the least structure for the noise of their place; none where there are too few, or pixels too large."""
        is_enough = len(self) >= MIN_WINDOWS and self.power.shape[1] > FIRST_RING
        num = max(MIN_WINDOWS, round(QUIET_SHARE * len(self))) if is_enough else 0
        return self[np.argsort(self.structure_hu / np.sqrt(self.place[:, 1]))[:num]]

    def model(self) -> "NoiseModel":
        """The noise of these windows, which are quiet."""
        usual = np.median(self.power, axis=0)
        level = (np.maximum(self.power, 1e-9) / usual)[:, FIRST_RING:].mean(axis=1)
        mixture = nnls(self.place / level[:, None], np.ones(len(level)))[0]
        return NoiseModel(np.median(self.power / (self.place @ mixture)[:, None], axis=0), mixture)


@dataclass(frozen=True)
class NoiseModel:
    """Noise power (R,) in HU² mm² at rings of RING_PER_MM, times a mixture (SOURCES,) of the relative variances of its place."""

    power: Float
    mixture: Float

    @property
    def frequencies_per_mm(self) -> Float:
        """Middles (R,) of the rings."""
        return RING_PER_MM * np.arange(len(self.power), dtype=np.float64)

    def at(self, frequencies_per_mm: Float, place: Float) -> Float:
        """Noise power at frequencies (F,) and a place (SOURCES,)."""
        return np.interp(frequencies_per_mm, self.frequencies_per_mm, self.power) * float(place @ self.mixture)


def noise_windows(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, place: Float, series: int = 0, number: int = 0
) -> NoiseWindows:
    """The windows of soft tissue of a slice (H, W) in HU with PixelSpacing (y, x) and its `noise_place`; there may be none."""
    rows, columns = (min(n, 2 * round(WINDOW_MM / mm / 2)) for n, mm in zip(hu.shape, spacing_mm, strict=True))
    size = rows, columns
    windows = half_overlapping_windows(hu.astype(np.float32), size)
    mean = windows.mean(axis=(1, 2), dtype=np.float64)
    soft = (mean > SOFT_TISSUE_HU[0]) & (mean < SOFT_TISSUE_HU[1]) & (windows.min(axis=(1, 2)) > LEAST_HU)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [STRUCTURE_SIGMA_MM / mm for mm in spacing_mm])
    structure = half_overlapping_windows(smooth, size)[soft].std(axis=(1, 2), dtype=np.float64)
    of_windows = np.stack([half_overlapping_windows(one, size)[soft].mean(axis=(1, 2)) for one in place], axis=1)
    shares = ring_shares(size, spacing_mm, RING_PER_MM)
    detail = without_plane(windows[soft].astype(np.float64)).astype(np.float32)
    spectra = scipy.fft.rfft2(detail * hann_taper(size).astype(np.float32))
    power = (spectra.real**2 + spectra.imag**2).reshape(-1, len(shares)) @ shares
    num = int(soft.sum())
    return NoiseWindows(power.astype(np.float64), structure, of_windows, np.full(num, series), np.full(num, number))
