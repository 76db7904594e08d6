"""How much error a method leaves beside another: the ratio of 1 − CCC, class by class, with a paired bootstrap over slices.

Both methods are scored on the same regions of the same slices, and regions of one slice are alike: so whole slices are drawn,
the same ones for both.
"""

import numpy as np
import pandas as pd

from ltdiff.evaluation.concordance import nan_mean, percentile_interval, resample_groups, weighted_ccc
from ltdiff.evaluation.feature_values import REPEAT, TARGET, FeatureArray

MIN_SLICES = 5
"""Regions of fewer slices than this have no interval: drawn again they are nearly always the same few."""
COLUMNS = ("method", "other", "roi_set", "feature_class", "remaining_error", "ratio", "ci_low", "ci_high", "num_slices")


def remaining_error_ratios(features: FeatureArray, *, method: str | None, seed: int = 0) -> pd.DataFrame:
    """COLUMNS for every other method, set of regions and class of features; empty without a method.

    `remaining_error` is the method's own 1 − mean CCC, `ratio` that divided by the other's; NaN where the other leaves none.
    Its interval is NaN with fewer than MIN_SLICES slices.
    """
    if method is None:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = []
    for block in features.blocks():
        weights, num_slices = resample_groups([roi.slice_index for roi in block.rois], seed)
        of_methods = {name: values for name, values in block.values.items() if name != REPEAT}  # see noise_floor
        errors = {name: 1 - nan_mean(weighted_ccc(weights, values, block.target)) for name, values in of_methods.items()}
        own = errors.pop(method)
        for other, error in errors.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = np.where(error > 0, own / error, np.nan)
            low, high = percentile_interval(ratios[1:]) if num_slices >= MIN_SLICES else (np.nan, np.nan)
            rows.append((method, other, block.roi_set, block.feature_class, own[0], ratios[0], low, high, num_slices))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def largest_shares(features: FeatureArray) -> pd.DataFrame:
    """Per method and roi_set, the region with most of the squared error: a CCC may hang on a single region.

    Columns: method, roi_set, slice_index, label, share. Of all features, each in units of its standard deviation over the
    target's regions; a feature that a region does not define, or that is the same everywhere, does not count.
    """
    roi_sets = np.array([roi.roi_set for roi in features.rois])
    rows = []
    for roi_set in dict.fromkeys(roi_sets.tolist()):
        chosen = np.flatnonzero(roi_sets == roi_set)
        values = dict(zip(features.methods, features.values[:, chosen], strict=True))
        target = values.pop(TARGET)
        unit = pd.DataFrame(target).std(ddof=0).replace(0, np.nan).to_numpy()
        for method, of_method in values.items():
            errors = np.nansum(((of_method - target) / unit) ** 2, axis=1)
            roi = features.rois[chosen[errors.argmax()]]
            share = errors.max() / errors.sum() if errors.sum() > 0 else np.nan
            rows.append((method, roi_set, roi.slice_index, roi.label, share))
    return pd.DataFrame(rows, columns=["method", "roi_set", "slice_index", "label", "share"])
