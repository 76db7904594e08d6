"""How much neighbouring slices have in common, beside the target: do standardized slices still belong together?

Compared is what is finer than a Gaussian of HIGH_PASS_SIGMA_PX, which is mostly noise and small vessels: overlapping slices of a
scan share the raw data of what they have in common, and with it the noise. A method that draws the detail of each slice anew
lowers the correlation, one that smooths the noise away raises it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.evaluation.structures import Neighbours, body_mask

HIGH_PASS_SIGMA_PX = 2.0
"""Standard deviation of the Gaussian that is taken away."""
BODY_MARGIN_PX = 8
"""Rim that is left out, as far as the Gaussian reaches: the skin is so strong an edge that it would decide the correlation."""
COLUMNS = ("method", "correlation", "target_correlation", "relative_difference", "num_pairs")


def slice_correlation(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], neighbours: Neighbours
) -> pd.DataFrame:
    """One row per method (COLUMNS) of images and target (Z, Y, X) in HU; empty where no neighbours show a body.

    `correlation` is Pearson's over the pixels that are inside the body in both slices, averaged over the neighbours;
    `relative_difference` is (method − target) / target, NaN where the target's slices have nothing in common.
    """
    bodies = {i: _body(target_hu[i]) for pair in neighbours for i in pair}
    shared = {(i, j): body for i, j in neighbours if (body := bodies[i] & bodies[j]).any()}
    if not shared:
        return pd.DataFrame(columns=list(COLUMNS))
    expected = _mean_correlation(target_hu, shared)
    rows = []
    for method, volume in images.items():
        found = _mean_correlation(volume, shared)
        difference = (found - expected) / expected if expected else np.nan
        rows.append((method, found, expected, difference, len(shared)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def describe_correlation(table: pd.DataFrame) -> str:
    """What a reader of the table needs to know; empty where the table is."""
    if table.empty:
        return ""
    return (
        f"Neighbouring slices: inside the body, what is finer than a Gaussian of {HIGH_PASS_SIGMA_PX:g} pixels correlates by "
        f"{table['target_correlation'].iloc[0]:.3f} from slice to slice of the target (mean of {table['num_pairs'].iloc[0]}); "
        "slice_correlation_difference is each method's deviation from that, as a share of it. See slice_correlation.csv."
    )


def _mean_correlation(volume_hu: NDArray[np.float32], shared: Mapping[tuple[int, int], NDArray[np.bool_]]) -> float:
    fine = {i: _high_pass(volume_hu[i]) for pair in shared for i in pair}
    return float(np.mean([_pearson(fine[i][body], fine[j][body]) for (i, j), body in shared.items()]))


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """0 where one of the two does not vary: what is empty has nothing in common."""
    first, second = first - first.mean(), second - second.mean()
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size else 0.0


def _high_pass(plane_hu: NDArray[np.float32]) -> NDArray[np.float64]:
    plane = plane_hu.astype(np.float64)
    return plane - ndimage.gaussian_filter(plane, HIGH_PASS_SIGMA_PX)


def _body(plane_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask (Y, X) of the body without its rim."""
    body = body_mask(ndimage.gaussian_filter(plane_hu.astype(np.float32), HIGH_PASS_SIGMA_PX))
    return ndimage.binary_erosion(body, iterations=BODY_MARGIN_PX)
