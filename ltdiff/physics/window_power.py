"""Power of windows of CT slices at rings of spatial frequency, kept apart by what the windows show.

Two ensembles of patients differ in size, in their share of lung and in the couch. Windows of the same mean HU show the same
kind of tissue, so that their power differs by the protocol alone.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ltdiff.physics.spectrum import half_overlapping_windows, hann_taper, radial_frequency

WINDOW_MM = 54.0
"""Side of a window: a kernel's response needs no finer steps of frequency."""
RING_PER_MM = 1 / WINDOW_MM
"""Width of a ring in cycles/mm, the same for all pixel sizes."""
CLASS_EDGES_HU = (-950.0, -700.0, -400.0, -150.0, 150.0, 3000.0)
"""Of a window's mean: lung, its border, fat and skin, soft tissue, bone. Emptier windows show no patient."""
NUM_CLASSES = len(CLASS_EDGES_HU) - 1
MAX_METAL_HU = 2900.0
"""A window that reaches it holds metal, whose streaks are no texture."""
MIN_WINDOW_PX = 16


@dataclass(frozen=True)
class WindowPower:
    """Power (N, R) in HU² mm² of N windows at R rings of frequency, with the class (N,), the relative noise variances of the
    place (N, SOURCES) as of `noise_place`, series and slice (N,) of each.

    A ring that a slice's pixels cannot hold is NaN.
    """

    power: NDArray[np.float64]
    classes: NDArray[np.int64]
    place: NDArray[np.float64]
    series: NDArray[np.int64]
    slices: NDArray[np.int64]

    @classmethod
    def join(cls, parts: "list[WindowPower]") -> "WindowPower":
        """Of several slices; rings that some do not have are NaN there."""
        num_rings = max(part.power.shape[1] for part in parts)
        padded = [np.pad(part.power, [(0, 0), (0, num_rings - part.power.shape[1])], constant_values=np.nan) for part in parts]
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("classes", "place", "series", "slices"))
        return cls(np.concatenate(padded), *joined)

    def __getitem__(self, chosen: NDArray[np.int64]) -> "WindowPower":
        """Some of the windows, each as often as it is chosen."""
        return WindowPower(self.power[chosen], self.classes[chosen], self.place[chosen], self.series[chosen], self.slices[chosen])

    def __len__(self) -> int:
        return len(self.power)


def window_power(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, place: NDArray[np.float64], series: int = 0, number: int = 0
) -> WindowPower:
    """Of the windows of one slice (H, W) with PixelSpacing (y, x) and its `noise_place` that show a patient and no metal.

    Those with clipped air stay: without them the lungs of one side would be other lungs than those of the other.
    """
    rows, columns = (
        min(n, max(MIN_WINDOW_PX, 2 * round(WINDOW_MM / mm / 2))) for n, mm in zip(hu.shape, spacing_mm, strict=True)
    )
    size = rows, columns
    windows = half_overlapping_windows(hu.astype(np.float32), size)
    mean = windows.mean(axis=(1, 2), dtype=np.float64)
    usable = windows.max(axis=(1, 2)) < MAX_METAL_HU
    usable &= (mean > CLASS_EDGES_HU[0]) & (mean < CLASS_EDGES_HU[-1])
    windows, mean = windows[usable], mean[usable]
    share = ring_shares(size, spacing_mm, RING_PER_MM)
    spectra = scipy.fft.rfft2((windows - mean[:, None, None]).astype(np.float32) * hann_taper(size).astype(np.float32))
    squared = (spectra.real**2 + spectra.imag**2).reshape(len(windows), share.shape[0])
    classes = np.digitize(mean, CLASS_EDGES_HU) - 1
    power = (squared @ share).astype(np.float64)
    of_windows = np.stack([half_overlapping_windows(one, size)[usable].mean(axis=(1, 2)) for one in place], axis=1)
    return WindowPower(power, classes, of_windows, np.full(len(mean), series), np.full(len(mean), number))


@lru_cache(maxsize=64)
def ring_shares(size: tuple[int, int], spacing_mm: tuple[float, float], ring_per_mm: float) -> NDArray[np.float32]:
    """What each frequency of an `rfft2` of tapered windows adds to the power of each ring, `ring_per_mm` wide, (F, R) in HU² mm².

    The rings end with the Nyquist frequency: beyond, they have gaps.
    """
    frequency = radial_frequency(size, spacing_mm)[:, : size[1] // 2 + 1]
    ring = np.rint(frequency / ring_per_mm).astype(np.int64)
    num_rings = int(0.5 / max(spacing_mm) / ring_per_mm) + 1
    times = np.full(frequency.shape, 2.0)  # each frequency and its negative
    times[:, 0] = 1.0
    if size[1] % 2 == 0:
        times[:, -1] = 1.0
    inside = np.flatnonzero(ring < num_rings)
    share = np.zeros((ring.size, num_rings))
    share[inside, ring.ravel()[inside]] = times.ravel()[inside]
    norm = spacing_mm[0] * spacing_mm[1] / (hann_taper(size) ** 2).sum()
    return (share / share.sum(axis=0) * norm).astype(np.float32)
