"""Intensity direct (ID): statistics of a region's HU, 31 scalars; percentiles and quantiles are in `histogram`.

Local features: a value for every voxel, from the voxels of the region in its neighbourhood in the plane; then its statistics over
the region. The neighbourhoods are MATLAB's, which IBEX uses: 3 × 3 for range and standard deviation, 9 × 9 for the entropy.
"""

import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from ltdiff.radiomics.feature import Feature, entropies
from ltdiff.radiomics.region import Floats, Levels, Region

LOCAL_SIZE, LOCAL_ENTROPY_SIZE = (1, 3, 3), (1, 9, 9)
_CHUNK_VOXELS = 8192
"""Number of neighbourhoods sorted at a time: 8192 of 81 levels take 5 MB."""


class Intensities:
    """Input of the features: the region's HU, and its grey levels (Z, Y, X; see `Region.discretise`)."""

    def __init__(self, region: Region, levels: Levels) -> None:
        self.region = region
        self.values = region.values_hu
        self.levels = levels

    @cached_property
    def mean(self) -> float:
        """μ, the mean of the values."""
        return float(self.values.mean())

    @cached_property
    def level_shares(self) -> Floats:
        """Shares of the grey levels among the voxels."""
        return np.bincount(self.levels[self.region.mask]) / len(self.values)

    @cached_property
    def local_entropy(self) -> Floats:
        """Entropy of the grey levels of every voxel's neighbourhood, in bits (N,).

        Sorted, equal levels follow each other; k counts them, and Σ c log c over the levels is Σ (k log k − (k − 1) log(k − 1)).
        """
        padded = np.pad(self.levels, [(n // 2, n // 2) for n in LOCAL_ENTROPY_SIZE])
        places = np.argwhere(self.levels > 0)
        windows = sliding_window_view(padded, LOCAL_ENTROPY_SIZE)
        size = math.prod(LOCAL_ENTROPY_SIZE)
        n_log_n = np.arange(size + 1) * np.log2(np.maximum(np.arange(size + 1), 1))
        steps = np.diff(n_log_n, prepend=0.0)
        result = np.empty(len(places))
        for first in range(0, len(places), _CHUNK_VOXELS):
            chunk = places[first : first + _CHUNK_VOXELS]
            rows = np.sort(windows[tuple(chunk.T)].reshape(len(chunk), size).astype(np.int32), axis=1)
            position = np.arange(size)
            is_new = np.diff(rows, axis=1, prepend=-1) != 0
            k = position - np.maximum.accumulate(np.where(is_new, position, 0), axis=1) + 1
            inside = rows > 0
            n = inside.sum(axis=1)
            result[first : first + len(chunk)] = np.log2(n) - np.where(inside, steps[k], 0).sum(axis=1) / n
        return np.where(result > 1e-12, result, 0)  # one level alone leaves rounding

    @cached_property
    def local_range(self) -> Floats:
        """Highest less lowest value of every voxel's neighbourhood in HU (N,)."""
        hu, mask = self.region.hu, self.region.mask
        highest = ndimage.maximum_filter(np.where(mask, hu, -np.inf), LOCAL_SIZE, mode="constant", cval=-np.inf)
        lowest = ndimage.minimum_filter(np.where(mask, hu, np.inf), LOCAL_SIZE, mode="constant", cval=np.inf)
        return (highest - lowest)[mask]

    @cached_property
    def local_std(self) -> Floats:
        """Standard deviation (n − 1) of every voxel's neighbourhood in HU, 0 for a voxel without neighbours (N,)."""
        mask = self.region.mask
        centred = np.where(mask, self.region.hu - self.mean, 0)
        count, total, squares = (_local_sum(part) for part in (mask.astype(float), centred, centred**2))
        n = count[mask]
        variance = (squares[mask] - total[mask] ** 2 / n) / np.maximum(n - 1, 1)
        return np.sqrt(np.maximum(variance, 0))


def inter_quartile_range(values: Floats) -> float:
    """75th less 25th percentile, interpolated linearly."""
    low, high = np.percentile(values, [25, 75])
    return float(high - low)


def median_absolute_deviation(values: Floats) -> float:
    """Median of |v − median of v|."""
    return float(np.median(abs(values - np.median(values))))


def mean_absolute_deviation(values: Floats) -> float:
    """Σ |v − μ| / N."""
    return float(abs(values - values.mean()).mean())


def standard_moment(values: Floats, order: int) -> float:
    """Σ (v − μ)ᵏ / N / σᵏ, k = 3 (skewness) or 4 (kurtosis, 3 for a normal distribution); NaN where all values are alike."""
    if np.ptp(values) == 0:
        return math.nan
    centred = values - values.mean()
    squares = centred * centred  # numpy's ** takes ten times as long
    powers = squares * {3: centred, 4: squares}[order]
    return float(powers.mean() / squares.mean() ** (order / 2))


def _local_sum(image: Floats) -> Floats:
    return ndimage.uniform_filter(image, LOCAL_SIZE, mode="constant") * math.prod(LOCAL_SIZE)


_STATISTICS: Mapping[str, Callable[[Floats], Any]] = {
    "Max": np.max,
    "Mean": np.mean,
    "Median": np.median,
    "Min": np.min,
    "Std": lambda v: v.std(ddof=1) if len(v) > 1 else math.nan,
}


def _local(x: Intensities, *, name: str, statistic: str) -> float:
    return _STATISTICS[statistic](getattr(x, f"local_{name}"))


def _variance(x: Intensities) -> float:
    """NaN for a single voxel."""
    return x.values.var(ddof=1) if len(x.values) > 1 else math.nan


FEATURES: Mapping[str, Feature[Intensities]] = {
    "Energy": Feature("N8CA", "Σ v²", lambda x: (x.values**2).sum()),
    "GlobalEntropy": Feature("TLU2", "−Σ p_i log₂ p_i over the grey levels", lambda x: entropies(x.level_shares)),
    "GlobalMax": Feature("84IY", "max v", lambda x: x.values.max()),
    "GlobalMean": Feature("Q4LE", "μ = Σ v / N", lambda x: x.mean),
    "GlobalMedian": Feature("Y12H", "median of v", lambda x: np.median(x.values)),
    "GlobalMin": Feature("1GSF", "min v", lambda x: x.values.min()),
    "GlobalStd": Feature("", "√(Σ (v − μ)² / (N − 1))", lambda x: math.sqrt(_variance(x))),
    "GlobalVariance": Feature("", "Σ (v − μ)² / (N − 1); IBSI and PyRadiomics divide by N", _variance),
    "GlobalUniformity": Feature("BJ5W", "Σ p_i² over the grey levels", lambda x: (x.level_shares**2).sum()),
    "InterQuartileRange": Feature("SALO", "75th less 25th percentile of v", lambda x: inter_quartile_range(x.values)),
    "Kurtosis": Feature("", "Σ (v − μ)⁴ / N / (Σ (v − μ)² / N)²; IBSI subtracts 3", lambda x: standard_moment(x.values, 4)),
    "Skewness": Feature("KE2A", "Σ (v − μ)³ / N / (Σ (v − μ)² / N)^1.5", lambda x: standard_moment(x.values, 3)),
    "MeanAbsoluteDeviation": Feature("4FUA", "Σ |v − μ| / N", lambda x: mean_absolute_deviation(x.values)),
    "MedianAbsoluteDeviation": Feature(
        "", "median of |v − median of v|; IBSI's feature of that name is a mean", lambda x: median_absolute_deviation(x.values)
    ),
    "Range": Feature("2OJQ", "max v − min v", lambda x: np.ptp(x.values)),
    "RootMeanSquare": Feature("5ZWQ", "√(Σ v² / N)", lambda x: math.sqrt((x.values**2).mean())),
    **{
        f"Local{name.title()}{statistic}": Feature(
            "", f"{statistic} over the region of local_{name}", partial(_local, name=name, statistic=statistic)
        )
        for name in ("entropy", "range", "std")
        for statistic in _STATISTICS
    },
}
