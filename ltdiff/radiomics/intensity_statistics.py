"""IBSI's 18 statistics of a region's intensities, and the 23 features of the histogram of its grey levels."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from ltdiff.radiomics import intensity_direct
from ltdiff.radiomics.feature import Feature, entropies
from ltdiff.radiomics.region import Floats, Levels

Row = tuple[str, Callable[[Floats], float]]


def _robust_mean_absolute_deviation(x: Floats) -> float:
    low, high = np.percentile(x, [10, 90])
    return intensity_direct.mean_absolute_deviation(x[(x >= low) & (x <= high)])


def _divide(above: float, below: float) -> float:
    """NaN where there is nothing to divide by."""
    return above / below if below else math.nan


def _quartile_dispersion(x: Floats) -> float:
    low, high = np.percentile(x, [25, 75])
    return _divide(high - low, high + low)


_SHARED: Mapping[str, Row] = {
    "mean": ("μ = Σ x / N", np.mean),
    "var": ("σ² = Σ (x − μ)² / N", np.var),
    "skew": ("Σ (x − μ)³ / N / σ³", lambda x: intensity_direct.standard_moment(x, 3)),
    "kurt": ("Σ (x − μ)⁴ / N / σ⁴ − 3", lambda x: intensity_direct.standard_moment(x, 4) - 3),
    "median": ("median of x", np.median),
    "min": ("min x", np.min),
    "p10": ("10th percentile of x", lambda x: np.percentile(x, 10)),
    "p90": ("90th percentile of x", lambda x: np.percentile(x, 90)),
    "max": ("max x", np.max),
    "iqr": ("75th less 25th percentile of x", intensity_direct.inter_quartile_range),
    "range": ("max x − min x", np.ptp),
    "mad": ("Σ |x − μ| / N", intensity_direct.mean_absolute_deviation),
    "rmad": ("Σ |x − μ| / N over the x between the 10th and 90th percentiles, with their μ", _robust_mean_absolute_deviation),
    "medad": ("Σ |x − median| / N", lambda x: abs(x - np.median(x)).mean()),
    "cov": ("σ / μ", lambda x: _divide(x.std(), x.mean())),
    "qcod": ("(P75 − P25) / (P75 + P25)", _quartile_dispersion),
}
_STATISTICS_IDS = {
    "mean": "Q4LE",
    "var": "ECT3",
    "skew": "KE2A",
    "kurt": "IPH6",
    "median": "Y12H",
    "min": "1GSF",
    "p10": "QG58",
    "p90": "8DWT",
    "max": "84IY",
    "iqr": "SALO",
    "range": "2OJQ",
    "mad": "4FUA",
    "rmad": "1128",
    "medad": "N72L",
    "cov": "7TET",
    "qcod": "9S40",
}
STATISTICS: Mapping[str, Feature[Floats]] = {
    **{tag: Feature(_STATISTICS_IDS[tag], *row) for tag, row in _SHARED.items()},
    "energy": Feature("N8CA", "Σ x²", lambda x: (x**2).sum()),
    "rms": Feature("5ZWQ", "√(Σ x² / N)", lambda x: math.sqrt((x**2).mean())),
}
_HISTOGRAM_IDS = {
    "mean": "X6K6",
    "var": "CH89",
    "skew": "88K1",
    "kurt": "C3I7",
    "median": "WIFQ",
    "min": "1PR8",
    "p10": "GPMT",
    "p90": "OZ0C",
    "max": "3NCY",
    "iqr": "WR0O",
    "range": "5Z3W",
    "mad": "D2ZX",
    "rmad": "WRZB",
    "medad": "4RNL",
    "cov": "CWYJ",
    "qcod": "SLWD",
}


class LevelHistogram:
    """Grey levels of a region's voxels (N,), how often each level from 1 to the highest occurs, and the slope of that."""

    def __init__(self, levels: Levels) -> None:
        self.values = levels.astype(np.float64)
        self.counts = np.bincount(levels)[1:].astype(np.float64)
        self.slope = np.gradient(self.counts) if len(self.counts) > 1 else np.full(1, math.nan)

    @property
    def shares(self) -> Floats:
        """Share of the voxels that has each level."""
        return self.counts / len(self.values)


def _of_levels(row: Row) -> tuple[str, Callable[[LevelHistogram], float]]:
    formula, compute = row
    return formula, lambda h: compute(h.values)


HISTOGRAM: Mapping[str, Feature[LevelHistogram]] = {
    **{tag: Feature(_HISTOGRAM_IDS[tag], *_of_levels(row)) for tag, row in _SHARED.items()},
    "mode": Feature("AMMC", "the most frequent level, the lowest of several", lambda h: h.counts.argmax() + 1),
    "entropy": Feature("TLU2", "−Σ p_i log₂ p_i", lambda h: entropies(h.shares)),
    "uniformity": Feature("BJ5W", "Σ p_i²", lambda h: (h.shares**2).sum()),
    "max_grad": Feature("12CE", "max of the slope n'_i = (n_{i+1} − n_{i−1}) / 2 of the counts", lambda h: h.slope.max()),
    "max_grad_g": Feature("8E6O", "the level where it is", lambda h: h.slope.argmax() + 1),
    "min_grad": Feature("VQB3", "min n'_i", lambda h: h.slope.min()),
    "min_grad_g": Feature("RHQZ", "the level where it is", lambda h: h.slope.argmin() + 1),
}
