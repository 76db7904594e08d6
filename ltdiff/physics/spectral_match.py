"""The spectral match: the linear kernel match h of two protocols from series of different patients, without pairs.

For a filter with a real, positive response, h² is the ratio of the power spectra of target and source, whoever was scanned.
Windows are compared with those of their own class (`window_power`), so that size, lungs and couch cancel; and log h is an even
polynomial without a constant, so that it is smooth and h(0) = 1. Fitted by least squares to the classes' log ratios, each
weighted by its windows. Series (or slices, where a side has one series) are drawn again and again for the uncertainty.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdiff.model.degradation import Degradation
from ltdiff.model.kernel_match import NUM_KNOTS, KernelMatch, StoredRange, corner_frequency
from ltdiff.physics.window_power import NUM_CLASSES, RING_PER_MM, WindowPower, window_power

NUM_TERMS = 5
"""Of the polynomial in f²: three are too stiff for sharp kernels, seven follow the noise."""
LOW_PER_MM, LOW_WEIGHT = 0.12, 0.1
"""Below, anatomy differs from patient to patient more than kernels do."""
MIN_WINDOWS = 8
"""Of a class on each side: the median of fewer says little. Where no class has so many, all windows are one class."""
NUM_BOOTSTRAPS = 24
Float, Classes = NDArray[np.float64], NDArray[np.int64]


@dataclass(frozen=True)
class SpectralMatch:
    """log h(f) = ½ Σ_k c_k (f/f_max)^{2k}, k from 1, up to `max_per_mm` = f_max; beyond it h stays as it is there.

    `draws` (B, NUM_TERMS) are the coefficients of resampled series; the ranges are what either protocol stores.
    """

    coefficients: Float
    draws: Float
    max_per_mm: float
    corner_per_mm: float
    source_range_hu: tuple[float, float]
    target_range_hu: tuple[float, float]

    def gain(self, frequencies_per_mm: Float, coefficients: Float | None = None) -> Float:
        """h at frequencies (F,)."""
        chosen = self.coefficients if coefficients is None else coefficients
        return np.exp(0.5 * _terms(frequencies_per_mm, self.max_per_mm) @ chosen)

    def kernel_match(self) -> KernelMatch:
        """The filter of these gains, source → target."""
        return KernelMatch.of(self._knots, self.gain(self._knots), self.target_range_hu)

    def degradation(self) -> Degradation:
        """The way back, target → source, by the gains of all draws."""
        gains = np.stack([self.gain(self._knots, draw) for draw in self.draws])
        return Degradation.inverting(self._knots, gains, self.source_range_hu)

    @property
    def _knots(self) -> Float:
        return np.linspace(0, self.corner_per_mm, NUM_KNOTS)


class SpectralMatchFit:
    """Takes slices of the source and of the target protocol, in any order; `solve` gives the match."""

    def __init__(self) -> None:
        self._windows: dict[str, list[WindowPower]] = {"source": [], "target": []}
        self._nyquists_per_mm: list[float] = []
        self._corner_per_mm = 0.0
        self._ranges = {"source": StoredRange(), "target": StoredRange()}

    def add(self, role: str, hu: NDArray[np.float32], *, spacing_mm: tuple[float, float], series: int) -> None:
        """Add a slice (H, W) in HU with PixelSpacing (y, x), of series number `series` of its role: source or target."""
        windows = self._windows[role]
        windows.append(window_power(hu, spacing_mm, series=series, number=len(windows)))
        self._nyquists_per_mm.append(0.5 / max(spacing_mm))
        self._corner_per_mm = max(self._corner_per_mm, corner_frequency(spacing_mm))
        self._ranges[role].add(hu)

    def solve(self) -> SpectralMatch:
        """The match of all slices.

        Raises:
            ValueError: a side has no slice, or no windows of a class that the other side has.
        """
        for role, windows in self._windows.items():
            if not sum(map(len, windows)):
                raise ValueError(f"a spectral match needs at least one slice of the {role} that shows a patient")
        source, target = (WindowPower.join(self._windows[role]) for role in ("source", "target"))
        limit = min(self._nyquists_per_mm)
        coefficients = _fit(source, target, limit)
        generator = np.random.default_rng(0)
        draws = [_fit(_resample(source, generator), _resample(target, generator), limit) for _ in range(NUM_BOOTSTRAPS)]
        ranges_hu = (self._ranges[role].range_hu for role in ("source", "target"))
        return SpectralMatch(coefficients, np.array(draws), limit, self._corner_per_mm, *ranges_hu)


def _fit(source: WindowPower, target: WindowPower, limit_per_mm: float) -> Float:
    """Coefficients (NUM_TERMS,)."""
    ratio, weight = _log_ratio(source, target, np.median)
    rings = np.arange(len(ratio)) * RING_PER_MM
    used = (rings > 0) & (rings <= limit_per_mm) & np.isfinite(ratio) & (weight > 0)
    terms = _terms(rings[used], limit_per_mm)
    root = np.sqrt(weight[used] * np.where(rings[used] < LOW_PER_MM, LOW_WEIGHT, 1.0))
    solution: Float = np.linalg.lstsq(terms * root[:, None], ratio[used] * root, rcond=None)[0]
    return solution


def _log_ratio(source: WindowPower, target: WindowPower, statistic: Callable[..., Float]) -> tuple[Float, Float]:
    """log of target over source power (R,), averaged over the classes with weights √(n_source n_target), and these weights."""
    num_rings = min(source.power.shape[1], target.power.shape[1])
    total, weights = np.zeros(num_rings), np.zeros(num_rings)
    for sides in _classes(source.power[:, :num_rings], target.power[:, :num_rings], source.classes, target.classes):
        levels = [statistic(power, axis=0) for power in sides]
        weight = np.sqrt(len(sides[0]) * len(sides[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(levels[1] / levels[0])
        valid = np.isfinite(ratio)
        total[valid] += weight * ratio[valid]
        weights[valid] += weight
    return total / np.where(weights > 0, weights, np.nan), weights


def _classes(source: Float, target: Float, source_classes: Classes, target_classes: Classes) -> list[tuple[Float, Float]]:
    """The powers of source and target windows of each class that both have enough of."""
    sides = [(source[source_classes == number], target[target_classes == number]) for number in range(NUM_CLASSES)]
    return [one for one in sides if min(map(len, one)) >= MIN_WINDOWS] or [(source, target)]


def _terms(frequencies_per_mm: Float, limit_per_mm: float) -> Float:
    """(f/f_max)^{2k} (F, NUM_TERMS); beyond f_max as at f_max."""
    share = np.minimum(frequencies_per_mm / limit_per_mm, 1.0)
    return share[:, None] ** (2 * np.arange(1, NUM_TERMS + 1))


def _resample(windows: WindowPower, generator: np.random.Generator) -> WindowPower:
    """Windows of as many series, or of as many slices where there is one series, drawn with replacement."""
    groups = windows.series if len(np.unique(windows.series)) > 1 else windows.slices
    names = np.unique(groups)
    if len(names) == 1:  # of a single slice, its windows
        return windows[generator.integers(len(windows), size=len(windows))]
    drawn: Sequence[NDArray[np.int64]] = [np.flatnonzero(groups == name) for name in generator.choice(names, size=len(names))]
    return windows[np.concatenate(drawn)]
