"""Lin's concordance correlation coefficient (CCC) of radiomic features, in the two ways the field uses it.

`across_rois`: one CCC per feature over the regions, then mean ± sd over the features of a class. The primary one.
`across_features`: one CCC per region over the features of a class, then mean ± sd over the regions. Features of a
class differ by orders of magnitude (energy 10⁸, entropy 3), so the largest rule it: never mix the two.

Source: L. I-Kuei Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989) 255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
_SMALLEST_SCALE = 1e-6  # relative to the largest value; with _NO_VARIANCE: an sd of 3·10⁻¹⁴ of a value is rounding
_NO_VARIANCE = 1e-15  # of columns scaled into [−1, 1]


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


def ccc(source: np.ndarray, target: np.ndarray) -> float:
    """Lin's CCC of two vectors (n,): 2 σ_st / (σ_s² + σ_t² + (μ_s − μ_t)²), moments with 1/n.

    >>> ccc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 4.0, 5.0]))  # 2·1.25 / (1.25 + 1.25 + 1²) = 5/7
    0.7142857142857143

    Pairs with a NaN are left out. Two constants define no correlation: 1 when they are identical, else NaN; so are
    fewer than two pairs.
    """
    return float(ccc_per_column(np.asarray(source)[:, None], np.asarray(target)[:, None])[0])


def ccc_per_column(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lin's CCC of each column of two tables (n, columns), as `ccc`: (columns,)."""
    assert source.shape == target.shape, f"tables of different shapes {source.shape} and {target.shape}"
    return weighted_ccc(np.ones((1, len(source))), source, target)[0]


def ccc_across_rois(
    source: np.ndarray, target: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Concordance:
    """Primary definition, for the features of one class (num_rois, num_features)."""

    def class_means(weights: np.ndarray) -> np.ndarray:
        return nan_mean(weighted_ccc(weights, source, target))

    per_feature = ccc_per_column(source, target)
    interval = _bootstrap(class_means, len(source), num_resamples=num_resamples, seed=seed)
    used = np.isfinite(source) & np.isfinite(target)
    return _summary(per_feature, interval, num_features=_count(per_feature), num_rois=int(used.any(axis=1).sum()))


def ccc_across_features(
    source: np.ndarray, target: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Concordance:
    """Second definition, for the features of one class (num_rois, num_features)."""
    per_roi = ccc_per_column(source.T, target.T)

    def resampled_means(weights: np.ndarray) -> np.ndarray:
        defined = np.isfinite(per_roi)
        with np.errstate(invalid="ignore"):
            return weights @ np.where(defined, per_roi, 0.0) / (weights @ defined)

    interval = _bootstrap(resampled_means, len(source), num_resamples=num_resamples, seed=seed)
    used = np.isfinite(source) & np.isfinite(target)
    return _summary(per_roi, interval, num_features=int(used.any(axis=0).sum()), num_rois=_count(per_roi))


def weighted_ccc(weights: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """CCC of each column under each row of weights: (resamples, n), (n, columns), (n, columns) → (resamples, columns).

    A bootstrap resample is a vector of counts, so all resamples are a few matrix products.
    """
    used = np.isfinite(source) & np.isfinite(target)
    s, t = _standardized(source, target, used)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = weights @ used
        mean_s, mean_t = weights @ s / n, weights @ t / n
        var_s, var_t = weights @ s**2 / n - mean_s**2, weights @ t**2 / n - mean_t**2
        covariance = weights @ (s * t) / n - mean_s * mean_t
        values = 2 * covariance / (var_s + var_t + (mean_s - mean_t) ** 2)
    constant = (var_s <= _NO_VARIANCE) & (var_t <= _NO_VARIANCE)
    identical = (mean_s - mean_t) ** 2 <= _NO_VARIANCE
    values = np.where(constant, np.where(identical, 1.0, np.nan), values)
    return np.where((weights > 0) @ used.astype(float) >= 2, values, np.nan)


def _standardized(source: np.ndarray, target: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], num_rois: int, *, num_resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of counts: (resamples, num_rois) → (resamples,)."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_rois, np.full(num_rois, 1 / max(num_rois, 1)), size=num_resamples)
    return percentile_interval(statistic(counts.astype(float)))


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle CONFIDENCE of bootstrap values (resamples,), those that are not finite left out; NaN without any."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _summary(values: np.ndarray, interval: tuple[float, float], *, num_features: int, num_rois: int) -> Concordance:
    defined = values[np.isfinite(values)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    sd = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    return Concordance(mean, sd, *interval, num_features=num_features, num_rois=num_rois)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN, without a warning, where nothing is left."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0.0).sum(axis=-1) / defined.sum(axis=-1)


def _count(values: np.ndarray) -> int:
    return int(np.isfinite(values).sum())
