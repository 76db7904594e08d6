"""Agreement of one quantity of several subjects, measured on the target's image and on another one: no score of a group alone."""

import numpy as np
from numpy.typing import NDArray

from ltdiff.evaluation.concordance import ccc

LIMITS_SD = 1.96
"""Standard deviations from the bias to a limit: 95 % of normally distributed differences lie between the two."""
AGREEMENT_COLUMNS = ("num", "mean_absolute_difference", "bias", "sd", "limit_low", "limit_high", "ccc")


def agreement_headings(digits: int) -> dict[str, tuple[str, str]]:
    """Heading and format of the means and of AGREEMENT_COLUMNS in a report, but for `sd`, which the limits tell."""
    number = f".{digits}f"
    return {
        "mean": ("mean", number),
        "target_mean": ("mean of target", number),
        "num": ("n", ""),
        "mean_absolute_difference": ("mean absolute difference", number),
        "bias": ("bias", number),
        "limit_low": ("lower limit", number),
        "limit_high": ("upper limit", number),
        "ccc": ("CCC", ".3f"),
    }


def agreement(values: NDArray[np.float64], target: NDArray[np.float64]) -> dict[str, float]:
    """AGREEMENT_COLUMNS of values (n,) and those of the target (n,), pairs with a NaN left out: in the units of the values.

    `bias` is the mean of value − target and `sd` its sample standard deviation (1/(n−1)); the limits of agreement are bias ±
    LIMITS_SD sd (J. M. Bland, D. G. Altman, Lancet 327 (1986) 307). `ccc` is Lin's. NaN where too few pairs define one.

    >>> agreement(np.array([1.0, 2.0, 6.0]), np.array([0.0, 2.0, 4.0]))["limit_high"]  # differences 1, 0, 2: 1 + 1.96 · 1
    2.96
    """
    difference = (values - target)[np.isfinite(values) & np.isfinite(target)]
    num = len(difference)
    bias = float(difference.mean()) if num else float("nan")
    sd = float(difference.std(ddof=1)) if num > 1 else float("nan")
    mean_absolute = float(np.abs(difference).mean()) if num else float("nan")
    row = (num, mean_absolute, bias, sd, bias - LIMITS_SD * sd, bias + LIMITS_SD * sd, ccc(values, target))
    return dict(zip(AGREEMENT_COLUMNS, row, strict=True))
