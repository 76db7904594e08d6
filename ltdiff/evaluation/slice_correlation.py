"""How much neighbouring slices have in common, beside the target: do standardized slices still belong together?

Compared is what is finer than a Gaussian of HIGH_PASS_SIGMA_PX, which is mostly noise and small vessels: overlapping slices of a
scan share the raw data of what they have in common, and with it the noise. A method that draws the detail of each slice anew
lowers the correlation, one that smooths the noise away raises it.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.structures import Neighbours, body_mask

HIGH_PASS_SIGMA_PX = 2.0
"""Standard deviation of the Gaussian that is taken away."""
BODY_MARGIN_PX = 8
"""Rim that is left out, as far as the Gaussian reaches: the skin is so strong an edge that it would decide the correlation."""
COLUMNS = ("method", "correlation", "target_correlation", "relative_difference", "num_pairs")


def neighbour_correlations(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], neighbours: Neighbours
) -> pd.DataFrame:
    """Columns method and correlation: a row for every method of images (Z, Y, X) in HU, and TARGET, and neighbours with a body.

    The correlation is Pearson's over the pixels that are inside the body in both slices.
    """
    bodies = {i: _body(target_hu[i]) for pair in neighbours for i in pair}
    shared = {(i, j): body for i, j in neighbours if (body := bodies[i] & bodies[j]).any()}
    rows = [
        (method, correlation)
        for method, volume in {TARGET: target_hu, **images}.items()
        for correlation in _correlations(volume, shared)
    ]
    return pd.DataFrame(rows, columns=["method", "correlation"])


def slice_correlation(correlations: pd.DataFrame) -> pd.DataFrame:
    """One row per method (COLUMNS) of what `neighbour_correlations` found; empty where no neighbours show a body.

    `correlation` is the mean over the neighbours; `relative_difference` is (method − target) / target, NaN where the target's
    slices have nothing in common.
    """
    found = {method: rows.to_numpy(float) for method, rows in correlations.groupby("method", sort=False)["correlation"]}
    expected = found.pop(TARGET).mean() if found else np.nan
    rows = [
        (method, of.mean(), expected, (of.mean() - expected) / expected if expected else np.nan, len(of))
        for method, of in found.items()
    ]
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


def _correlations(volume_hu: NDArray[np.float32], shared: Mapping[tuple[int, int], NDArray[np.bool_]]) -> Iterator[float]:
    fine: dict[int, NDArray[np.float64]] = {}
    for (i, j), body in shared.items():
        fine = {z: fine[z] if z in fine else _high_pass(volume_hu[z]) for z in (i, j)}  # of two slices, not of all
        yield _pearson(fine[i][body], fine[j][body])


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
