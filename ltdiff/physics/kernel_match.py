"""The linear kernel match h: one radial frequency response between two reconstruction kernels, fitted in closed form.

Two kernels applied to the same raw data differ, to first order, by a filter that depends on spatial frequency alone. The
filter here is piecewise linear in frequency with knots in cycles/mm, so it carries over to any PixelSpacing. It is fitted
by least squares over all frequencies of all training pairs (a Wiener filter: where the source holds only noise, its gain
falls by itself), and its output Ã = h∗A is what LTDiff++ starts from.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltdiff.physics.spectrum import half_overlapping_windows, hann_taper, radial_frequency

Gains = NDArray[np.float64]

NUM_KNOTS = 64
WINDOW_PX = 64
"""Side of the windows over which spectra are averaged: h needs no finer steps of frequency."""
DEFAULT_RANGE_HU = (-1024.0, 3071.0)
"""Range of 12 bits from −1024 HU, used where the target's own range does not show."""
NUM_SATURATED = 16
"""Number of pixels at a slice's extreme value that marks it as the end of the stored range."""
PADDING_MM = 32.0
"""Slices are extended by reflection before the FFT, else its periodicity wraps one border into the other."""


class KernelMatch(nn.Module):
    """h: gains at knots in cycles/mm, and the range of HU that the target series can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.linspace(0, 1, NUM_KNOTS, dtype=torch.float64))
        self.register_buffer("gains", torch.ones(NUM_KNOTS, dtype=torch.float64))
        self.register_buffer("range_hu", torch.tensor(DEFAULT_RANGE_HU, dtype=torch.float64))
        self.knots: Tensor
        self.gains: Tensor
        self.range_hu: Tensor

    @classmethod
    def of(cls, knots: Sequence[float] | Gains, gains: Sequence[float] | Gains, range_hu: tuple[float, float]) -> "KernelMatch":
        """With NUM_KNOTS gains at knots in cycles/mm, clipped to a range in HU."""
        match = cls()
        for buffer, values in ((match.knots, knots), (match.gains, gains), (match.range_hu, range_hu)):
            buffer.copy_(torch.as_tensor(np.asarray(values)))
        return match

    def forward(self, hu: Tensor, spacing_mm: tuple[float, float]) -> Tensor:
        """Ã in HU, (…, H, W) float32, of slices (…, H, W) with PixelSpacing (y, x); clipped to the target's range."""
        height, width = hu.shape[-2:]
        pad_y, pad_x = (min(round(PADDING_MM / s), n - 1) for s, n in zip(spacing_mm, (height, width), strict=True))
        x = hu.reshape(-1, 1, height, width).float()
        x = functional.pad(x, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
        frequency = _half_plane(x.shape[-2:], spacing_mm)
        gain = torch.from_numpy(np.interp(frequency, self.knots.cpu().numpy(), self.gains.cpu().numpy()))
        spectrum = torch.fft.rfft2(x) * gain.to(device=x.device, dtype=torch.float32)
        y = torch.fft.irfft2(spectrum, s=x.shape[-2:])[..., pad_y : pad_y + height, pad_x : pad_x + width]
        low, high = (float(v) for v in self.range_hu)
        return y.clamp(low, high).reshape(hu.shape)


class StoredRange:
    """The ends of what a protocol stores, where its slices show them: one extreme pixel is anatomy, many alike are an end."""

    def __init__(self) -> None:
        self._extremes_hu = self._saturated_hu = (np.inf, -np.inf)

    def add(self, hu: NDArray[np.float32]) -> None:
        """Add a slice in HU."""
        low, high = float(hu.min()), float(hu.max())
        self._extremes_hu = min(self._extremes_hu[0], low), max(self._extremes_hu[1], high)
        if (hu == low).sum() >= NUM_SATURATED:
            self._saturated_hu = min(self._saturated_hu[0], low), self._saturated_hu[1]
        if (hu == high).sum() >= NUM_SATURATED:
            self._saturated_hu = self._saturated_hu[0], max(self._saturated_hu[1], high)

    @property
    def range_hu(self) -> tuple[float, float]:
        """(lowest, highest) in HU, DEFAULT_RANGE_HU or wider where an end does not show."""
        (low, high), saturated = self._extremes_hu, self._saturated_hu
        return (
            low if low == saturated[0] else min(low, DEFAULT_RANGE_HU[0]),
            high if high == saturated[1] else max(high, DEFAULT_RANGE_HU[1]),
        )


class KernelMatchFit:
    """Accumulates the normal equations of h over slice pairs; `solve` gives the filter. Memory does not grow."""

    def __init__(self, *, max_frequency: float) -> None:
        """`max_frequency` in cycles/mm: the corner frequency of the finest PixelSpacing that is to come."""
        self.knots = np.linspace(0, max_frequency, NUM_KNOTS)
        # A knot overlaps only with its neighbours, so the normal matrix is tridiagonal.
        self.diagonal = np.zeros(NUM_KNOTS)
        self.off_diagonal = np.zeros(NUM_KNOTS)
        self.moment = np.zeros(NUM_KNOTS)
        self.stored_range = StoredRange()

    def add(self, source_hu: NDArray[np.float32], target_hu: NDArray[np.float32], *, spacing_mm: tuple[float, float]) -> None:
        """Add one slice pair (H, W) in HU with PixelSpacing (y, x)."""
        if source_hu.shape != target_hu.shape:
            raise ValueError(f"source {source_hu.shape} and target {target_hu.shape} slices differ in size")
        self.stored_range.add(target_hu)
        source, target = _unclipped_windows(source_hu, target_hu)
        spectrum_a, spectrum_b = (_windowed_spectrum(windows) for windows in (source, target))
        frequency = _half_plane(source.shape[-2:], spacing_mm).ravel()
        lower, weight = _hat_weights(frequency, self.knots)
        power = (np.abs(spectrum_a) ** 2).sum(axis=0).ravel()
        cross = (spectrum_a.conj() * spectrum_b).real.sum(axis=0).ravel()
        self.moment += _sum_at(lower, (1 - weight) * cross) + _sum_at(lower + 1, weight * cross)
        self.diagonal += _sum_at(lower, (1 - weight) ** 2 * power) + _sum_at(lower + 1, weight**2 * power)
        self.off_diagonal += _sum_at(lower, weight * (1 - weight) * power)

    def solve(self) -> KernelMatch:
        """h minimizing Σ|B − hA|² over all added pairs. Knots that no frequency reached keep their neighbour's gain."""
        if not self.diagonal.any():
            raise ValueError("a kernel match needs at least one slice pair")
        reached = self.diagonal > 1e-12 * self.diagonal.max()
        normal = np.diag(self.diagonal) + np.diag(self.off_diagonal[:-1], 1) + np.diag(self.off_diagonal[:-1], -1)
        gains = np.linalg.solve(normal[np.ix_(reached, reached)], self.moment[reached])
        return KernelMatch.of(self.knots, np.interp(self.knots, self.knots[reached], gains), self.stored_range.range_hu)


def corner_frequency(spacing_mm: tuple[float, float]) -> float:
    """The highest radial frequency, in cycles/mm, that pixels of this size can hold."""
    return float(np.hypot(0.5 / spacing_mm[0], 0.5 / spacing_mm[1]))


def _unclipped_windows(
    source_hu: NDArray[np.float32], target_hu: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Half-overlapping windows (N, h, w) of both slices; those where either is clipped are left out if others remain.

    A clipped value is no linear function of anything: air at −1024 HU in the target has lost its noise.
    """
    shape = tuple(min(WINDOW_PX, n) for n in source_hu.shape)
    source, target = (half_overlapping_windows(hu, shape) for hu in (source_hu, target_hu))
    usable = _inside_range(source, source_hu) & _inside_range(target, target_hu)
    return (source[usable], target[usable]) if usable.any() else (source, target)


def _inside_range(windows: NDArray[np.float32], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    axes = (1, 2)
    return (windows.min(axis=axes) > hu.min()) & (windows.max(axis=axes) < hu.max())


def _windowed_spectrum(windows: NDArray[np.float32]) -> NDArray[np.complex128]:
    """`rfft2` of tapered windows (N, h, w). The mean is not tapered: it gives the gain at frequency 0."""
    mean = windows.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    return np.fft.rfft2(mean + (windows - mean) * hann_taper(windows.shape[1:]))


@lru_cache(maxsize=8)
def _half_plane(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Frequencies (H, W // 2 + 1) in cycles/mm of an `rfft2` of pixels (H, W)."""
    return radial_frequency(shape, spacing_mm)[:, : shape[1] // 2 + 1]


def _sum_at(index: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(index, weights=values, minlength=NUM_KNOTS).astype(np.float64)


def _hat_weights(frequency: NDArray[np.float64], knots: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    position = np.clip(frequency / knots[1], 0, len(knots) - 1)
    lower = np.minimum(position.astype(np.int64), len(knots) - 2)
    return lower, position - lower
