"""The noise floor: how far features of two scans of the same anatomy with the same protocol differ, and methods beside that.

The target was scanned again, so target and repeat differ by noise alone. An error of that size cannot be told from noise. A
method may come below it, for source and target are two reconstructions of one scan, and share their noise.

Repeatability coefficient: RC = 1.96 √2 wSD, with wSD² the mean over the regions of the variance of their two measurements. Two
scans of one region differ by less in 95 % of the cases. Source: D. L. Raunig et al., "Quantitative imaging biomarkers: a review
of statistical methods for technical performance assessment", Stat Methods Med Res 24 (2015) 27; N. A. Obuchowski, J. Bullen,
"Quantitative imaging biomarkers: effect of sample size and bias on confidence interval coverage", ibid. 27 (2018) 3139.
"""

import numpy as np
import pandas as pd

from ltdiff.evaluation.agreement import LIMITS_SD
from ltdiff.evaluation.concordance import Values, nan_mean, percentile_interval, resample_groups, weighted_ccc
from ltdiff.evaluation.error_ratio import MIN_SLICES
from ltdiff.evaluation.feature_values import REPEAT, FeatureArray, FeatureBlock

FLOOR_COLUMNS = (
    *("method", "roi_set", "feature_class", "remaining_error", "floor", "multiple", "ci_low", "ci_high", "within_rc"),
    *("num_rois", "num_slices"),
)
REPEATABILITY_COLUMNS = (
    *("roi_set", "feature_class", "feature", "target_mean", "wsd", "rc", "rc_low", "rc_high", "ccc", "ci_low", "ci_high"),
    *("num_rois", "num_slices"),
)


def noise_floor(features: FeatureArray, *, seed: int = 0) -> pd.DataFrame:
    """FLOOR_COLUMNS for every method, set of regions and class of features, over the regions that were scanned again.

    `remaining_error` is 1 − mean CCC, `floor` that of the repeat, `multiple` their ratio with a bootstrap interval over slices
    (NaN with fewer than MIN_SLICES). `within_rc` is the share of regions, in the mean over the features, in which the method
    differs from the target by no more than the RC: .95 of a method that adds as much noise as a scan. Empty without a repeat.
    """
    rows = []
    for block in _repeated_blocks(features):
        weights, num_slices = resample_groups([roi.slice_index for roi in block.rois], seed)
        errors = {name: 1 - nan_mean(weighted_ccc(weights, values, block.target)) for name, values in block.values.items()}
        floor = errors.pop(REPEAT)
        rc = _repeatability(weights[:1], block)[0]
        for method, error in errors.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                multiples = np.where(floor > 0, error / floor, np.nan)
            interval = percentile_interval(multiples[1:]) if num_slices >= MIN_SLICES else (np.nan, np.nan)
            within = _share_within(block.values[method] - block.target, rc)
            keys = (method, block.roi_set, block.feature_class)
            rows.append((*keys, error[0], floor[0], multiples[0], *interval, within, len(block.rois), num_slices))
    return pd.DataFrame(rows, columns=list(FLOOR_COLUMNS))


def repeatability(features: FeatureArray, *, seed: int = 0) -> pd.DataFrame:
    """REPEATABILITY_COLUMNS for every set of regions and feature; empty without a repeat.

    `rc` with its interval and `wsd` are in the units of the feature; `ccc` is Lin's between the two scans. Intervals are
    bootstraps over slices, NaN with fewer than MIN_SLICES.
    """
    rows = []
    for block in _repeated_blocks(features):
        weights, num_slices = resample_groups([roi.slice_index for roi in block.rois], seed)
        rc = _repeatability(weights, block)
        ccc = weighted_ccc(weights, block.values[REPEAT], block.target)
        used = np.isfinite(block.values[REPEAT] - block.target)
        means = nan_mean(block.target.T)
        for i, feature in enumerate(block.features):
            intervals = [
                percentile_interval(drawn[1:, i]) if num_slices >= MIN_SLICES else (np.nan, np.nan) for drawn in (rc, ccc)
            ]
            keys = (block.roi_set, block.feature_class, feature, means[i])
            of_rc = (rc[0, i] / (LIMITS_SD * np.sqrt(2)), rc[0, i], *intervals[0])
            rows.append((*keys, *of_rc, ccc[0, i], *intervals[1], int(used[:, i].sum()), num_slices))
    return pd.DataFrame(rows, columns=list(REPEATABILITY_COLUMNS))


def _repeated_blocks(features: FeatureArray) -> list[FeatureBlock]:
    """The blocks with the regions alone that were scanned again; none where nothing was."""
    if REPEAT not in features.methods:
        return []
    chosen = []
    for block in features.blocks():
        (there,) = np.nonzero(np.isfinite(block.values[REPEAT]).any(axis=1))
        if len(there):
            values = {name: of_method[there] for name, of_method in block.values.items()}
            rois = [block.rois[i] for i in there]
            chosen.append(block._replace(rois=rois, target=block.target[there], values=values))
    return chosen


def _repeatability(weights: Values, block: FeatureBlock) -> Values:
    """RC (resamples, features) under each row of weights (resamples, regions); NaN where no region defines one.

    The variance of two measurements is half their squared difference.
    """
    squared = (block.values[REPEAT] - block.target) ** 2
    used = np.isfinite(squared)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (weights @ np.where(used, squared, 0.0)) / (2 * (weights @ used))
    return LIMITS_SD * np.sqrt(2 * variance)


def _share_within(difference: Values, rc: Values) -> float:
    """Mean over the features of the share of regions (regions, features) whose difference is at most the RC (features,)."""
    defined = np.isfinite(difference) & np.isfinite(rc)
    return float(nan_mean(nan_mean(np.where(defined, np.abs(difference) <= rc, np.nan).T)))
