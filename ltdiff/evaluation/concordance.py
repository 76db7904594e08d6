"""Lin's concordance correlation coefficient (CCC) of radiomic features, in the two ways the field uses it.

`across_rois`: one CCC per feature over the regions, then mean ± sd over the features of a class. The primary one.
`across_features`: one CCC per region over the features of a class, then mean ± sd over the regions. Features of a
class differ by orders of magnitude (energy 10⁸, entropy 3), so the largest rule it: never mix the two.

Source: L. I-Kuei Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989) 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
_SMALLEST_SCALE = 1e-6
"""Relative to the largest value; with _NO_VARIANCE: a standard deviation of 3·10⁻¹⁴ of a value is rounding."""
_NO_VARIANCE = 1e-15
"""Of columns scaled into [−1, 1]."""


@dataclass(frozen=True)
class Concordance:
    """Mean and sample standard deviation (1/(n−1)) of the CCCs of a class, with a confidence interval of the mean.

    The interval is a percentile bootstrap that resamples regions. Regions of one patient are not independent, so it
    speaks of other regions of these patients, not of other patients. `num_features` and `num_rois` count what entered.
    """

    mean: float
    sd: float
    ci_low: float
    ci_high: float
    num_features: int
    num_rois: int


def ccc(source: Values, target: Values) -> float:
    """Lin's CCC of two vectors (n,): 2 σ_st / (σ_s² + σ_t² + (μ_s − μ_t)²), moments with 1/n.

    >>> ccc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 4.0, 5.0]))  # 2·1.25 / (1.25 + 1.25 + 1²) = 5/7
    0.7142857142857143

    Pairs with a NaN are left out. Two constants define no correlation: 1 when they are identical, else NaN; so are
    fewer than two pairs.
    """
    return float(ccc_per_column(np.asarray(source)[:, None], np.asarray(target)[:, None])[0])


def ccc_per_column(source: Values, target: Values) -> Values:
    """Lin's CCC of each column of two tables (n, columns), as `ccc`: (columns,)."""
    assert source.shape == target.shape, f"tables of different shapes {source.shape} and {target.shape}"
    return weighted_ccc(np.ones((1, len(source))), source, target)[0]


def ccc_across_rois(source: Values, target: Values, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Concordance:
    """Primary definition, for the features of one class (num_rois, num_features)."""
    per_feature = ccc_per_column(source, target)
    resampled = weighted_ccc(resample(len(source), num_resamples, seed), source, target)
    used = np.isfinite(source) & np.isfinite(target)
    num_rois = int(used.any(axis=1).sum())
    return _summary(per_feature, nan_mean(resampled), num_features=int(np.isfinite(per_feature).sum()), num_rois=num_rois)


def ccc_across_features(source: Values, target: Values, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Concordance:
    """Second definition, for the features of one class (num_rois, num_features)."""
    per_roi = ccc_per_column(source.T, target.T)
    defined = np.isfinite(per_roi)
    weights = resample(len(source), num_resamples, seed)[:, defined]
    with np.errstate(invalid="ignore"):
        resampled = weights @ per_roi[defined] / weights.sum(axis=1)
    used = np.isfinite(source) & np.isfinite(target)
    num_features = int(used.any(axis=0).sum())
    return _summary(per_roi, resampled, num_features=num_features, num_rois=int(defined.sum()))


def weighted_ccc(weights: Values, source: Values, target: Values) -> Values:
    """CCC of each column under each row of weights: (resamples, n), (n, columns), (n, columns) → (resamples, columns).

    A bootstrap resample is a vector of counts, so all resamples are a few matrix products. Columns without a NaN, nearly all
    of them, share the sums of the weights.
    """
    used = np.isfinite(source) & np.isfinite(target)
    s, t = _standardized(source, target, used)
    complete = used.all(axis=0)
    values = np.empty((len(weights), source.shape[1]))
    for columns, counted in ((complete, np.ones((len(source), 1))), (~complete, used[:, ~complete].astype(float))):
        if columns.any():
            values[:, columns] = _moments_ccc(weights, s[:, columns], t[:, columns], counted)
    return values


def _moments_ccc(weights: Values, s: Values, t: Values, used: Values) -> Values:
    """`weighted_ccc` of standardized columns, 0 where unused; `used` (n, columns), or (n, 1) for all of them alike.

    The denominator σ_s² + σ_t² + (μ_s − μ_t)² is the mean of s² + t² less 2 μ_s μ_t.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = 1 / (weights @ used)
        mean_s, mean_t = (weights @ s) * scale, (weights @ t) * scale
        squares = (weights @ (s**2 + t**2)) * scale
        products = (weights @ (s * t)) * scale
        means = mean_s * mean_t
        values = 2 * (products - means) / (squares - 2 * means)
        constant = squares - mean_s**2 - mean_t**2 <= 2 * _NO_VARIANCE
    if constant.any():
        identical = (mean_s - mean_t) ** 2 <= _NO_VARIANCE
        values[constant] = np.where(identical[constant], 1.0, np.nan)
    too_few = (weights > 0).astype(float) @ used < 2
    if too_few.any():
        values[np.broadcast_to(too_few, values.shape)] = np.nan
    return values


def _standardized(source: Values, target: Values, used: NDArray[np.bool_]) -> tuple[Values, Values]:
    """Both tables shifted and scaled column by column into [−1, 1], 0 where unused.

    CCC does not change by it, and the moments of energies round 10⁸ lose no digits. Columns that vary by less than
    _SMALLEST_SCALE of their size are not blown up: what is left of them is rounding.
    """
    num_used = np.maximum(used.sum(axis=0), 1)
    s, t = np.where(used, source, 0.0), np.where(used, target, 0.0)
    shift = (s + t).sum(axis=0) / (2 * num_used)
    size = np.maximum(np.abs(s), np.abs(t)).max(axis=0, initial=0.0)
    s, t = np.where(used, s - shift, 0.0), np.where(used, t - shift, 0.0)
    scale = np.maximum(np.maximum(np.abs(s), np.abs(t)).max(axis=0, initial=0.0), _SMALLEST_SCALE * size)
    scale[scale == 0] = 1.0
    return s / scale, t / scale


@lru_cache(maxsize=16)
def resample(num: int, num_resamples: int, seed: int) -> Values:
    """How often each of so many regions counts in each resample (num_resamples, num); kept: it is the same for every class."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num, np.full(num, 1 / max(num, 1)), size=num_resamples).astype(float)


def resample_groups(groups: Sequence[int] | NDArray[np.int64], seed: int) -> tuple[Values, int]:
    """How often each region (n,) counts, first once and then in NUM_RESAMPLES resamples of whole groups; and how many groups.

    Regions of one slice are alike: drawn one by one, they would make every interval too narrow.
    """
    found, numbers = np.unique(groups, return_inverse=True)
    drawn = resample(len(found), NUM_RESAMPLES, seed)[:, numbers]
    return np.concatenate([np.ones((1, len(numbers))), drawn]), len(found)


def percentile_interval(values: Values) -> tuple[float, float]:
    """The middle CONFIDENCE of bootstrap values (resamples,), those that are not finite left out; NaN without any."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _summary(values: Values, resampled: Values, *, num_features: int, num_rois: int) -> Concordance:
    """Of the CCCs of a class (n,) and their mean in each resample (num_resamples,)."""
    defined = values[np.isfinite(values)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    sd = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    return Concordance(mean, sd, *percentile_interval(resampled), num_features=num_features, num_rois=num_rois)


def nan_mean(values: Values) -> Values:
    """Mean over the last axis of what is not NaN; NaN, without a warning, where nothing is left."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0.0).sum(axis=-1) / defined.sum(axis=-1)
