"""How much error a method leaves beside another: the ratio of 1 − CCC, class by class, with a paired bootstrap over slices.

Both methods are scored on the same regions of the same slices, and regions of one slice are alike: so whole slices are drawn,
the same ones for both.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ltdiff.evaluation.concordance import NUM_RESAMPLES, nan_mean, percentile_interval, weighted_ccc
from ltdiff.evaluation.scoring import TARGET

MIN_SLICES = 5
"""Regions of fewer slices than this have no interval: drawn again they are nearly always the same few."""
COLUMNS = ("method", "other", "roi_set", "feature_class", "remaining_error", "ratio", "ci_low", "ci_high", "num_slices")


def remaining_error_ratios(features: pd.DataFrame, *, method: str, seed: int = 0) -> pd.DataFrame:
    """COLUMNS for every other method, roi_set and class of a feature table (see `Scores`).

    `remaining_error` is the method's own 1 − mean CCC, `ratio` that divided by the other's; NaN where the other leaves none.
    Its interval is NaN with fewer than MIN_SLICES slices.
    """
    others = [name for name in features["method"].unique() if name not in (method, TARGET)]
    rows = []
    for (roi_set, feature_class), table in features.groupby(["roi_set", "feature_class"], sort=False):
        wide = table.pivot(index=["method", "roi_index"], columns="feature", values="value")
        slices = table.drop_duplicates("roi_index").set_index("roi_index")["slice_index"]
        weights = _resample(slices.to_numpy(), seed=seed)
        target = wide.loc[TARGET].to_numpy()
        own = 1 - nan_mean(weighted_ccc(weights, wide.loc[method].to_numpy(), target))
        for other in others:
            error = 1 - nan_mean(weighted_ccc(weights, wide.loc[other].to_numpy(), target))
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = np.where(error > 0, own / error, np.nan)
            low, high = percentile_interval(ratios[1:]) if slices.nunique() >= MIN_SLICES else (np.nan, np.nan)
            row = (method, other, roi_set, feature_class, own[0], ratios[0], low, high, slices.nunique())
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def largest_shares(features: pd.DataFrame) -> pd.DataFrame:
    """Per method and roi_set, the region with most of the squared error: a CCC may hang on a single region.

    Columns: method, roi_set, slice_index, label, share. Of all features, each in units of its standard deviation over the
    target's regions; a feature that a region does not define, or that is the same everywhere, does not count.
    """
    keys = ["roi_set", "roi_index", "slice_index", "label"]
    wide = features.pivot_table(
        index=keys, columns=["method", "feature_class", "feature"], values="value", observed=True
    )
    rows = []
    for roi_set, table in wide.groupby(level="roi_set", sort=False):
        target = table[TARGET]
        spread = pd.Series(target.std(ddof=0)).replace(0, np.nan)
        for method in features["method"].unique():
            if method == TARGET:
                continue
            errors = (((table[method] - target) / spread) ** 2).sum(axis=1)
            _, _, slice_index, label = errors.idxmax()
            share = errors.max() / errors.sum() if errors.sum() > 0 else np.nan
            rows.append((method, roi_set, slice_index, label, share))
    return pd.DataFrame(rows, columns=["method", "roi_set", "slice_index", "label", "share"])


def _resample(slices: np.ndarray, *, seed: int) -> np.ndarray:
    """How often each region counts (1 + NUM_RESAMPLES, rois): once each first, then with slices drawn at random."""
    numbers = np.unique(slices, return_inverse=True)[1]
    num_slices = numbers.max() + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_slices, np.full(num_slices, 1 / num_slices), size=NUM_RESAMPLES)
    return np.concatenate([np.ones((1, len(slices))), counts[:, numbers]]).astype(float)
