"""Small windows of soft tissue with little structure, and the noise spectrum that they show, per unit of `noise_place`.

Patients of one protocol differ in their noise by their size. Divided by the place's relative variance, raised to a power that the
windows themselves tell (low doses have electronic noise besides, and tube currents are modulated), it is the protocol's own.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.model.spectrum import half_overlapping_windows, hann_taper
from ltdiff.physics.window_power import ring_shares

WINDOW_MM = 20.0
RING_PER_MM = 1 / WINDOW_MM
SOFT_TISSUE_HU, LEAST_HU = (-20.0, 120.0), -300.0
"""Of a window's mean, and of each of its pixels: no lung, no air."""
STRUCTURE_SIGMA_MM = 2.5
QUIET_SHARE, MIN_WINDOWS = 0.35, 24
"""Of the windows, those with the least structure count."""
NOISE_PER_MM = 0.25
"""From here on, quiet windows hold noise alone."""
EXPONENTS = (0.5, 2.0)
"""What the power of the place's variance may be: tube currents that follow the patient, and electronic noise alone."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseWindows:
    """Power (N, R) in HU² mm² of N windows at rings of RING_PER_MM, with structure in HU, relative variance of the place, series
    and slice (N,) of each."""

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
        """Those with the least structure for the noise of their place; none where there are too few."""
        num = max(MIN_WINDOWS, round(QUIET_SHARE * len(self))) if len(self) >= MIN_WINDOWS else 0
        return self[np.argsort(self.structure_hu / np.sqrt(self.place))[:num]]

    def spectrum(self, exponent: float) -> Float:
        """Noise power (R,) at a place of relative variance 1, of quiet windows."""
        return np.median(self.power / self.place[:, None] ** exponent, axis=0)  # type: ignore[no-any-return]


def fit_exponent(*sides: NoiseWindows) -> float:
    """The power of the place's variance by which the noise of quiet windows rises, the same on all sides."""
    above = int(np.ceil(NOISE_PER_MM / RING_PER_MM))
    levels, places = [], []
    for side in sides:
        level = np.log(np.maximum(side.power[:, above:], 1e-9) / np.median(side.power[:, above:], axis=0)).mean(axis=1)
        place = np.log(side.place)
        levels.append(level - level.mean())
        places.append(place - place.mean())
    x, y = np.concatenate(places), np.concatenate(levels)
    if x.std() < 0.1:  # all at one place
        return 1.0
    return float(np.clip((x @ y) / (x @ x), *EXPONENTS))


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
    of_windows = half_overlapping_windows(place, size)[soft].mean(axis=(1, 2))
    shares = ring_shares(size, spacing_mm, RING_PER_MM)
    spectra = scipy.fft.rfft2(_without_plane(windows[soft]) * hann_taper(size).astype(np.float32))
    power = (spectra.real**2 + spectra.imag**2).reshape(-1, len(shares)) @ shares
    num = int(soft.sum())
    return NoiseWindows(power.astype(np.float64), structure, of_windows, np.full(num, series), np.full(num, number))


def _without_plane(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Windows (N, h, w) less the plane that fits each best: no structure of the whole window counts as noise."""
    height, width = windows.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    basis = np.stack([np.ones(height * width), (y - y.mean()).ravel(), (x - x.mean()).ravel()], axis=1)
    basis = (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)  # orthonormal
    flat = windows.reshape(len(windows), height * width)
    return (flat - (flat @ basis) @ basis.T).reshape(windows.shape)  # type: ignore[no-any-return]
