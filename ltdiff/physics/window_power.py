"""Power of windows of CT slices at rings of spatial frequency, kept apart by what the windows show.

Two ensembles of patients differ in size, in their share of lung and in the couch. Windows of the same mean HU show the same
kind of tissue, so that their power differs by the protocol alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdiff.model.spectrum import half_overlapping_windows, radial_frequency, tapered_power

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
    """Power (N, R) in HU² mm² of N windows at R rings of frequency, with the class, series and slice (N,) of each.

    A ring that a slice's pixels cannot hold is NaN.
    """

    power: NDArray[np.float64]
    classes: NDArray[np.int64]
    series: NDArray[np.int64]
    slices: NDArray[np.int64]

    @property
    def frequencies_per_mm(self) -> NDArray[np.float64]:
        """Middles (R,) of the rings."""
        return np.arange(self.power.shape[1]) * RING_PER_MM

    @classmethod
    def join(cls, parts: "list[WindowPower]") -> "WindowPower":
        """Of several slices; rings that some do not have are NaN there."""
        num_rings = max(part.power.shape[1] for part in parts)
        padded = [np.pad(part.power, [(0, 0), (0, num_rings - part.power.shape[1])], constant_values=np.nan) for part in parts]
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("classes", "series", "slices"))
        return cls(np.concatenate(padded), *joined)

    def __getitem__(self, chosen: NDArray[np.int64]) -> "WindowPower":
        """Some of the windows, each as often as it is chosen."""
        return WindowPower(self.power[chosen], self.classes[chosen], self.series[chosen], self.slices[chosen])

    def __len__(self) -> int:
        return len(self.power)


def window_power(hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, series: int = 0, number: int = 0) -> WindowPower:
    """Of the windows of one slice (H, W) with PixelSpacing (y, x) that show a patient and no metal.

    Those with clipped air stay: without them the lungs of one side would be other lungs than those of the other.
    """
    size = tuple(min(n, max(MIN_WINDOW_PX, 2 * round(WINDOW_MM / mm / 2))) for n, mm in zip(hu.shape, spacing_mm, strict=True))
    windows = half_overlapping_windows(hu.astype(np.float32), size)
    mean = windows.mean(axis=(1, 2), dtype=np.float64)
    usable = windows.max(axis=(1, 2)) < MAX_METAL_HU
    usable &= (mean > CLASS_EDGES_HU[0]) & (mean < CLASS_EDGES_HU[-1])
    windows, mean = windows[usable], mean[usable]
    frequency = radial_frequency(size, spacing_mm)[:, : size[1] // 2 + 1]
    ring = np.rint(frequency / RING_PER_MM).astype(np.int64)
    num_rings = int(0.5 / max(spacing_mm) / RING_PER_MM) + 1  # up to the Nyquist frequency: beyond, rings have gaps
    inside = ring < num_rings
    twice = np.full(frequency.shape, 2.0)  # each frequency and its negative
    twice[:, 0] = 1.0
    if size[1] % 2 == 0:
        twice[:, -1] = 1.0
    ring, twice = ring[inside], twice[inside]
    weight = np.bincount(ring, twice, minlength=num_rings)
    share = np.zeros((len(ring), num_rings))
    share[np.arange(len(ring)), ring] = twice / weight[ring]
    spectra = tapered_power(windows - mean[:, None, None])[:, :, : size[1] // 2 + 1]
    power = spectra[:, inside] @ share * (spacing_mm[0] * spacing_mm[1])
    classes = np.digitize(mean, CLASS_EDGES_HU) - 1
    return WindowPower(power, classes, np.full(len(mean), series), np.full(len(mean), number))
