"""Intervals for radiomic features: where the feature of the target lies, given its value in draws of what the target may be.

The draws alone are no good distribution: their noise shifts texture features. Each feature is therefore recentred and rescaled by
split-conformal prediction (Vovk 2005; Romano 2019): the signed error of regions that took no part in training, in units of the
draws' own standard deviation, has quantiles, and those are the distribution for any other region. Regions must be like those of
the calibration for the coverage to hold (size, kind of tissue), and those of one patient are not independent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Table = NDArray[np.float64]
"""(regions, features)"""

LEVEL = 0.9
PROBABILITIES = tuple(float(p) for p in (np.arange(50) + 0.5) / 50)
"""Probabilities of the stored quantiles: 50 equally likely values of the error."""
FLOOR_SHARE = 0.25
"""Least scale, as a share of the median scale: an error is possible even where all draws agree."""
COVERAGE_COLUMNS = ("feature_class", "coverage", "relative_width", "crps", "crps_of_value", "num_features", "num_rois")


@dataclass(frozen=True)
class FeatureIntervals:
    """Per feature: the least scale, and quantiles of the scaled error at PROBABILITIES."""

    features: tuple[str, ...]
    floors: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FeatureIntervals":
        """Make the intervals from the output of `dataclasses.asdict`."""
        return cls(tuple(values["features"]), tuple(values["floors"]), tuple(map(tuple, values["quantiles"])))

    def distribution(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Equally likely values (50, regions, features) of the target's features, from those of draws (N, regions, features)."""
        centre, scale = _summarize(draws)
        scale = scale + np.asarray(self.floors)
        return centre + scale * np.asarray(self.quantiles).T[:, None, :]

    def interval(self, draws: NDArray[np.float64]) -> tuple[Table, Table]:
        """Ends of the interval that holds the target's feature with probability LEVEL, (regions, features) each."""
        tail = (1 - LEVEL) / 2
        centre, scale = _summarize(draws)
        scale = scale + np.asarray(self.floors)
        low, high = (np.array([np.interp(p, PROBABILITIES, quantiles) for quantiles in self.quantiles]) for p in (tail, 1 - tail))
        return centre + scale * low, centre + scale * high


def fit_intervals(features: tuple[str, ...], *, draws: NDArray[np.float64], target: Table) -> FeatureIntervals:
    """From regions whose target is known: draws (N, regions, features) and target (regions, features); NaN are left out.

    Raises:
        ValueError: fewer than two draws or no region.
    """
    if len(draws) < 2 or not len(target):
        raise ValueError(f"intervals need at least two draws and one region, got {len(draws)} and {len(target)}")
    centre, scale = _summarize(draws)
    floors = np.nan_to_num(FLOOR_SHARE * np.nanmedian(_or_nan(scale), axis=0))
    floors = np.maximum(floors, 1e-9 * np.nan_to_num(np.nanmax(np.abs(_or_nan(target)), axis=0)) + 1e-300)
    scaled = (target - centre) / (scale + floors)
    quantiles = np.nanquantile(_or_nan(scaled), PROBABILITIES, axis=0).T
    return FeatureIntervals(
        features, tuple(map(float, floors)), tuple(tuple(map(float, row)) for row in np.nan_to_num(quantiles))
    )


def coverage_table(intervals: FeatureIntervals, *, draws: NDArray[np.float64], value: Table, target: Table) -> pd.DataFrame:
    """COVERAGE_COLUMNS per feature class over held-out regions.

    `coverage`: share of true values inside their interval. `relative_width`: median over the features of the mean width over the
    standard deviation of the true values between regions. `crps`: continuous ranked probability score in the same unit, lower is
    better; `crps_of_value` is that of the single `value` (regions, features), its absolute error.
    """
    low, high = intervals.interval(draws)
    inside = np.where(np.isfinite(target) & np.isfinite(low), (target >= low) & (target <= high), np.nan)
    unit = _or_nan(np.nanstd(_or_nan(target), axis=0))
    unit = np.where(unit > 0, unit, np.nan)
    scores = {
        "coverage": np.nanmean(_or_nan(inside), axis=0),
        "relative_width": np.nanmean(_or_nan(high - low), axis=0) / unit,
        "crps": np.nanmean(_or_nan(crps(intervals.distribution(draws), target)), axis=0) / unit,
        "crps_of_value": np.nanmean(_or_nan(np.abs(value - target)), axis=0) / unit,
    }
    table = pd.DataFrame(scores).assign(feature_class=[name.split("_")[0] for name in intervals.features])
    by_class = table.dropna().groupby("feature_class", sort=False)
    combined = by_class.agg({"coverage": "mean", "relative_width": "median", "crps": "median", "crps_of_value": "median"})
    combined["num_features"] = by_class.size()
    combined["num_rois"] = len(target)
    return combined.reset_index()[list(COVERAGE_COLUMNS)]


def crps(members: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """CRPS of N equally likely members (N, …) against the truth (…): mean|x − y| − ½·mean|x − x'| (Gneiting 2007, eq. 21).

    >>> float(crps(np.array([1.0, 3.0]), np.array(2.0)))  # mean(1, 1) − ½·mean(0, 2, 2, 0)
    0.5
    """
    num = len(members)
    ordered = np.sort(members, axis=0)
    weights = (2 * np.arange(1, num + 1) - num - 1).reshape(-1, *[1] * (members.ndim - 1))
    return np.abs(members - truth).mean(axis=0) - (weights * ordered).sum(axis=0) / num**2


def _summarize(draws: NDArray[np.float64]) -> tuple[Table, Table]:
    return np.median(draws, axis=0), draws.std(axis=0, ddof=1)


def _or_nan(values: NDArray[Any]) -> NDArray[Any]:
    """Replace what is not finite by NaN; a column without any number gets one 0, so that its statistics do not warn."""
    cleaned = np.where(np.isfinite(values), values, np.nan)
    if cleaned.ndim == 2:
        cleaned[0, np.isnan(cleaned).all(axis=0)] = 0.0
    return cleaned
