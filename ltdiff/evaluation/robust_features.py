"""Which features are reproducible between two protocols: the list that a study of several scanners needs.

One number is no answer: with few regions a CCC of .87 may be one of .75. A feature counts as reproducible where all of the
interval is above the limit.
"""

import numpy as np
import pandas as pd

from ltdiff.evaluation.concordance import CONFIDENCE, resample_groups, weighted_ccc
from ltdiff.evaluation.error_ratio import MIN_SLICES
from ltdiff.evaluation.feature_values import FeatureArray
from ltdiff.evaluation.scoring import REPRODUCIBLE_CCC

YES, UNCERTAIN, NO, UNDEFINED = "yes", "uncertain", "no", ""
KEYS = ("method", "roi_set", "feature_set", "feature_class", "feature")


def verdict_column(limit: float) -> str:
    """The name of the column that answers for one of REPRODUCIBLE_CCC."""
    return f"reproducible_{limit:.2f}"


def robust_features(features: FeatureArray, *, seed: int = 0) -> pd.DataFrame:
    """KEYS, ccc, ci_low, ci_high, num_rois, num_slices, and a `verdict_column` for each limit; for every method and feature.

    `ccc` is Lin's across regions with a percentile bootstrap over slices. The verdict is YES where the interval lies above the
    limit, NO where it lies below, UNCERTAIN where it holds it or where fewer than MIN_SLICES slices give none, UNDEFINED without
    a CCC.
    """
    tables = []
    for block in features.blocks():
        weights, num_slices = resample_groups([roi.slice_index for roi in block.rois], seed)
        for method, values in block.values.items():
            drawn = weighted_ccc(weights, values, block.target)
            table = pd.DataFrame({"feature": block.features, "ccc": drawn[0]})
            for name, value in zip(KEYS, (method, block.roi_set, features.feature_set.name, block.feature_class), strict=False):
                table[name] = value
            table["ci_low"], table["ci_high"] = _intervals(drawn[1:]) if num_slices >= MIN_SLICES else (np.nan, np.nan)
            table["num_rois"] = np.isfinite(values - block.target).sum(axis=0)
            table["num_slices"] = num_slices
            tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    for limit in REPRODUCIBLE_CCC:
        result[verdict_column(limit)] = np.select(
            [result["ccc"].isna(), result["ci_low"] >= limit, result["ci_high"] < limit], [UNDEFINED, YES, NO], UNCERTAIN
        )
    verdicts = [verdict_column(limit) for limit in REPRODUCIBLE_CCC]
    return result[[*KEYS, "ccc", "ci_low", "ci_high", *verdicts, "num_rois", "num_slices"]]


def count_verdicts(robust: pd.DataFrame) -> pd.DataFrame:
    """How many features of each method and set of regions are defined, and how many of them are YES and UNCERTAIN."""
    defined = robust[robust["ccc"].notna()]
    answers = {
        f"{verdict}_{limit:.2f}": defined[verdict_column(limit)] == verdict
        for limit in REPRODUCIBLE_CCC
        for verdict in (YES, UNCERTAIN)
    }
    counted = defined[["roi_set", "method"]].assign(num_features=1, **answers)
    return counted.groupby(["roi_set", "method"], sort=False).sum().reset_index()


def _intervals(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle CONFIDENCE of each column of bootstrap values (resamples, features); NaN without any."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.full((2, drawn.shape[1]), np.nan)
    some = np.isfinite(drawn).any(axis=0)
    low[some], high[some] = np.nanquantile(drawn[:, some], [tail, 1 - tail], axis=0)
    return low, high
