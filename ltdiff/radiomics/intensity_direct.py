"""Intensity direct (ID): statistics of a region's HU, 31 scalars; percentiles and quantiles are in `histogram`.

Local features: a value for every voxel, from the voxels of the region in its neighbourhood in the plane; then its statistics over
the region. The neighbourhoods are MATLAB's, which IBEX uses: 3 × 3 for range and standard deviation, 9 × 9 for the entropy.
"""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from ltdiff.radiomics.feature import FeatureTable
from ltdiff.radiomics.matrices import entropies
from ltdiff.radiomics.region import Floats, Levels, Region

FEATURES = FeatureTable()
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
        """Entropy of the grey levels of every voxel's neighbourhood, in bits (N,)."""
        return local_entropy(self.levels)

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


@FEATURES.add("Energy", ibsi="N8CA")
def energy(x: Intensities) -> float:
    """Σ v²"""
    return float((x.values**2).sum())


@FEATURES.add("GlobalEntropy", ibsi="TLU2")
def global_entropy(x: Intensities) -> float:
    """−Σ p_i log₂ p_i over the grey levels"""
    return float(entropies(x.level_shares))


@FEATURES.add("GlobalMax", ibsi="84IY")
def global_max(x: Intensities) -> float:
    """max v"""
    return float(x.values.max())


@FEATURES.add("GlobalMean", ibsi="Q4LE")
def global_mean(x: Intensities) -> float:
    """μ = Σ v / N"""
    return x.mean


@FEATURES.add("GlobalMedian", ibsi="Y12H")
def global_median(x: Intensities) -> float:
    """median of v"""
    return float(np.median(x.values))


@FEATURES.add("GlobalMin", ibsi="1GSF")
def global_min(x: Intensities) -> float:
    """min v"""
    return float(x.values.min())


@FEATURES.add("GlobalStd")
def global_std(x: Intensities) -> float:
    """√(Σ (v − μ)² / (N − 1))

    Undefined for a single voxel.
    """
    return math.sqrt(global_variance(x))


@FEATURES.add("GlobalVariance")
def global_variance(x: Intensities) -> float:
    """Σ (v − μ)² / (N − 1); IBSI and PyRadiomics divide by N

    Undefined for a single voxel.
    """
    return float(x.values.var(ddof=1)) if len(x.values) > 1 else math.nan


@FEATURES.add("GlobalUniformity", ibsi="BJ5W")
def global_uniformity(x: Intensities) -> float:
    """Σ p_i² over the grey levels"""
    return float((x.level_shares**2).sum())


@FEATURES.add("InterQuartileRange", ibsi="SALO")
def _inter_quartile_range(x: Intensities) -> float:
    """75th less 25th percentile of v"""
    return inter_quartile_range(x.values)


@FEATURES.add("Kurtosis")
def _kurtosis(x: Intensities) -> float:
    """Σ (v − μ)⁴ / N / (Σ (v − μ)² / N)²; IBSI subtracts 3

    Undefined where all voxels are alike.
    """
    return kurtosis(x.values)


@FEATURES.add("Skewness", ibsi="KE2A")
def _skewness(x: Intensities) -> float:
    """Σ (v − μ)³ / N / (Σ (v − μ)² / N)^1.5

    Undefined where all voxels are alike.
    """
    return skewness(x.values)


@FEATURES.add("MeanAbsoluteDeviation", ibsi="4FUA")
def _mean_absolute_deviation(x: Intensities) -> float:
    """Σ |v − μ| / N"""
    return mean_absolute_deviation(x.values)


@FEATURES.add("MedianAbsoluteDeviation")
def _median_absolute_deviation(x: Intensities) -> float:
    """median of |v − median of v|; IBSI's feature of that name is a mean"""
    return median_absolute_deviation(x.values)


@FEATURES.add("Range", ibsi="2OJQ")
def _value_range(x: Intensities) -> float:
    """max v − min v"""
    return float(np.ptp(x.values))


@FEATURES.add("RootMeanSquare", ibsi="5ZWQ")
def root_mean_square(x: Intensities) -> float:
    """√(Σ v² / N)"""
    return math.sqrt((x.values**2).mean())


def inter_quartile_range(values: Floats) -> float:
    """75th less 25th percentile, interpolated linearly."""
    low, high = np.percentile(values, [25, 75])
    return float(high - low)


def kurtosis(values: Floats) -> float:
    """Σ (v − μ)⁴ / N / σ⁴, 3 for a normal distribution; NaN where all values are alike."""
    return _standard_moment(values, 4)


def skewness(values: Floats) -> float:
    """Σ (v − μ)³ / N / σ³; NaN where all values are alike."""
    return _standard_moment(values, 3)


def mean_absolute_deviation(values: Floats) -> float:
    """Σ |v − μ| / N."""
    return float(abs(values - values.mean()).mean())


def median_absolute_deviation(values: Floats) -> float:
    """Median of |v − median of v|."""
    return float(np.median(abs(values - np.median(values))))


def local_entropy(levels: Levels) -> Floats:
    """Entropy in bits of the levels above 0 in the 9 × 9 neighbourhood of every voxel above 0 of (Z, Y, X): (N,).

    Sorted, equal levels follow each other; with k counting them, Σ c log c over the levels is Σ (k log k − (k − 1) log(k − 1)).
    """
    padded = np.pad(levels, [(n // 2, n // 2) for n in LOCAL_ENTROPY_SIZE])
    places = np.argwhere(levels > 0)
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


def _standard_moment(values: Floats, order: int) -> float:
    if np.ptp(values) == 0:
        return math.nan
    centred = values - values.mean()
    squares = centred * centred  # numpy's ** takes ten times as long
    powers = squares * {3: centred, 4: squares}[order]
    return float(powers.mean() / squares.mean() ** (order / 2))


def _local_sum(image: Floats) -> Floats:
    return ndimage.uniform_filter(image, LOCAL_SIZE, mode="constant") * math.prod(LOCAL_SIZE)


_STATISTICS: dict[str, Callable[[Floats], float]] = {
    "Max": lambda v: float(v.max()),
    "Mean": lambda v: float(v.mean()),
    "Median": lambda v: float(np.median(v)),
    "Min": lambda v: float(v.min()),
    "Std": lambda v: float(v.std(ddof=1)) if len(v) > 1 else math.nan,
}


def _add_local_features() -> None:
    for name in ("entropy", "range", "std"):
        for statistic, compute in _STATISTICS.items():

            def feature(x: Intensities, name: str = name, compute: Callable[[Floats], float] = compute) -> float:
                return compute(getattr(x, f"local_{name}"))

            feature.__doc__ = f"{statistic} over the region of local_{name}"
            FEATURES.add(f"Local{name.title()}{statistic}")(feature)


_add_local_features()
