"""Histograms of values: percentiles, quantiles, and the nine kinds of features of IH and GOH.

IH, the intensity histogram, is of the region's HU, cut to the histogram's range. GOH, the gradient orientation histogram, is of
the directions in which HU rise in the plane, in degrees from 0 to 180.
"""

import math
from dataclasses import dataclass

import numpy as np

from ltdiff.radiomics import intensity_direct
from ltdiff.radiomics.region import Floats, Region

PERCENTILES = tuple(range(5, 100, 5))
PERCENTILE_IDS = {"Percentile10": "QG58", "Percentile90": "8DWT"}
"""IBSI ids, of the percentiles of HU."""
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


@dataclass(frozen=True)
class Histogram:
    """Bins of one width.

    Args:
        low: where the first begins.
        high: where the last ends.
        width: of each.
    """

    low: float
    high: float
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0 or self.num_bins < 1 or not math.isclose(self.low + self.num_bins * self.width, self.high):
            raise ValueError(f"a histogram from {self.low:g} to {self.high:g} has no whole number of bins of {self.width:g}")

    @property
    def num_bins(self) -> int:
        """Number of bins."""
        return round((self.high - self.low) / self.width)

    def count(self, values: Floats) -> Floats:
        """Values in each bin (num_bins,); those outside the range belong to the first and the last."""
        index = np.floor((values - self.low) / self.width).clip(0, self.num_bins - 1).astype(np.int64)
        return np.bincount(index, minlength=self.num_bins).astype(np.float64)

    def invert(self, values: Floats, shares: Floats) -> Floats:
        """Values (K,) at which the cumulative histogram reaches each of `shares` (K,), interpolated linearly within a bin."""
        cumulative = np.cumsum(self.count(values)) / len(values)
        bins = np.searchsorted(cumulative, shares - 1e-12)
        before = np.concatenate([[0.0], cumulative])[bins]
        return self.low + self.width * (bins + (shares - before) / (cumulative[bins] - before))


INTENSITY_HISTOGRAM = Histogram(-1000.0, 1000.0, 10.0)
ORIENTATION_HISTOGRAM = Histogram(0.0, 180.0, 1.0)


def percentiles(values: Floats) -> dict[str, float]:
    """The 19 percentiles and the 5 quantiles of values (N,), interpolated linearly."""
    at = np.concatenate([np.array(PERCENTILES) / 100, QUANTILES])
    return dict(zip(_percentile_names(), np.quantile(values, at).tolist(), strict=True))


def describe(values: Floats, histogram: Histogram) -> dict[str, float]:
    """IQR, kurtosis, MAD, median AD, range and skewness, percentiles, percentile areas and quantiles of values (N,).

    A percentile area is where the area under the histogram reaches that share (`Histogram.invert`). NaN for no values.
    """
    if not len(values):
        return dict.fromkeys(HISTOGRAM_FEATURES, math.nan)
    values = values.clip(histogram.low, histogram.high)
    areas = histogram.invert(values, np.array(PERCENTILES) / 100)
    return {
        "InterQuartileRange": intensity_direct.inter_quartile_range(values),
        "Kurtosis": intensity_direct.standard_moment(values, 4),
        "MeanAbsoluteDeviation": intensity_direct.mean_absolute_deviation(values),
        "MedianAbsoluteDeviation": intensity_direct.median_absolute_deviation(values),
        "Range": float(np.ptp(values)),
        "Skewness": intensity_direct.standard_moment(values, 3),
        **percentiles(values),
        **{f"PercentileArea{p:02d}": float(area) for p, area in zip(PERCENTILES, areas, strict=True)},
    }


def gradient_orientations(region: Region) -> Floats:
    """Directions of the in-plane gradient of the region's voxels, degrees in 0…180; voxels without a gradient have none: (≤ N,).

    atan(F_y / F_x), + 180 where negative, of central differences per mm, taken in the image, so also across the region's edge.
    """
    if min(region.hu.shape[1:]) < 2:
        return np.empty(0)
    f_y, f_x = (np.gradient(region.hu, mm, axis=a)[region.mask] for a, mm in zip((1, 2), region.spacing_mm, strict=True))
    rises = np.isfinite(f_y) & np.isfinite(f_x) & ((f_y != 0) | (f_x != 0))
    return np.degrees(np.arctan2(f_y[rises], f_x[rises])) % 180


def _percentile_names() -> list[str]:
    return [f"Percentile{p:02d}" for p in PERCENTILES] + [f"Quantile{q:g}" for q in QUANTILES]


PERCENTILE_FEATURES = tuple(_percentile_names())
HISTOGRAM_FEATURES = tuple(describe(np.array([0.0, 1.0]), INTENSITY_HISTOGRAM))
