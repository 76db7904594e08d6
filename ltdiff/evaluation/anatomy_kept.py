"""Is the anatomy of the source still there? Judged against the source itself, where no target shows the same patient.

Another kernel changes what is fine. What must not change is coarse: HU once details are smoothed away, and the places of strong
edges. Vessels, airways and lesions are looked for in the source, to see whether the standardized image still has them, and in the
standardized image, to see whether the source had them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.rois import Roi
from ltdiff.evaluation.structures import ERASED_CONTRAST, Neighbours, body_mask, find_structures, structure_table

CONTENT_SIGMA_MM = 3.0
"""Of the Gaussian behind which two kernels show the same: their responses are both near 1 below .05 cycles/mm."""
RIM_MM = 6.0
"""Of the body, left out: a sharper image is brighter inside the skin and darker outside."""
EDGE_SIGMA_MM = 1.5
EDGE_LEVEL_HU, EDGE_BAND_HU = -500.0, 100.0
"""Half way between air and tissue, at skin and lung; pixels of the smoothed source so near to it lie on an edge …"""
MIN_SLOPE_HU_PER_MM = 40.0
"""… if it is so steep: a shift of 1 mm is then a difference of 40 HU."""
EDGE_REACH_MM = 2.0
"""Larger shifts count as this large: elsewhere than at an edge the quotient says nothing."""
CONTENT_COLUMNS = ("method", "content_bias_hu", "content_sd_hu", "edge_shift_mm", "edge_shift_mm_p95")
STRUCTURE_COLUMNS = ("method", "roi_set", "number", "judged", "erased", "new_number", "new_judged", "created")


def content_kept(
    images: Mapping[str, NDArray[np.float32]], *, source_hu: NDArray[np.float32], spacings_mm: NDArray[np.float64]
) -> pd.DataFrame:
    """CONTENT_COLUMNS for each method's images (N, Y, X) of sources (N, Y, X) in HU, with spacing (y, x) per slice (N, 2).

    Bias and standard deviation of A' − A behind a Gaussian of CONTENT_SIGMA_MM, over the body without its rim. Of the edges the
    mean of their shift, outwards in the direction of the denser side, and the 95th percentile of its size: what a difference
    behind a Gaussian of EDGE_SIGMA_MM moves the level by, (A' − A) / |∇A|. NaN where no slice shows a body, or an edge.
    """
    rows = []
    for method, volume in images.items():
        contents, shifts = [np.empty(0)], [np.empty(0)]
        for plane, source, spacing in zip(volume, source_hu, spacings_mm, strict=True):
            difference = plane.astype(np.float64) - source
            body = _inner_body(source, spacing)
            contents.append(_smooth(difference, CONTENT_SIGMA_MM, spacing)[body])
            shifts.append(_edge_shifts_mm(source, difference, spacing))
        content, shift = np.concatenate(contents), np.concatenate(shifts)
        of_content = (content.mean(), content.std()) if len(content) else (np.nan, np.nan)
        of_edges = (shift.mean(), np.quantile(np.abs(shift), 0.95)) if len(shift) else (np.nan, np.nan)
        rows.append((method, *of_content, *of_edges))
    return pd.DataFrame(rows, columns=list(CONTENT_COLUMNS))


def structures_kept(
    images: Mapping[str, NDArray[np.float32]],
    *,
    source_hu: NDArray[np.float32],
    spacings_mm: NDArray[np.float64],
    lesions: Sequence[Roi],
    neighbours: Neighbours,
) -> pd.DataFrame:
    """STRUCTURE_COLUMNS for each method and set of structures: what the source had, and what is new.

    `number` are found in the source (or are `lesions`), `judged` of them have a contrast, `erased` have lost more than half of it
    in A'. `new_number` are found in A'; `created` are those that have less than half of their contrast in the source.
    """
    rois = [*lesions, *find_structures(source_hu, spacings_mm=spacings_mm, lesions=lesions)]
    kept = _count(structure_table(images, target_hu=source_hu, rois=rois, neighbours=neighbours))
    counts = []
    for method, volume in images.items():
        found = find_structures(volume, spacings_mm=spacings_mm, lesions=lesions)
        new = _count(structure_table({method: source_hu}, target_hu=volume, rois=found, neighbours=neighbours))
        new = new.rename(columns={"number": "new_number", "judged": "new_judged", "erased": "created"})
        counts.append(kept[kept["method"] == method].merge(new, on=["method", "roi_set"], how="outer", sort=False))
    numbers = list(STRUCTURE_COLUMNS[2:])
    table = pd.concat(counts, ignore_index=True) if counts else pd.DataFrame(columns=list(STRUCTURE_COLUMNS))
    return table.reindex(columns=list(STRUCTURE_COLUMNS)).fillna(dict.fromkeys(numbers, 0)).astype(dict.fromkeys(numbers, int))


def _count(table: pd.DataFrame) -> pd.DataFrame:
    """Structures of each method and set of a `structure_table`, those that could be judged, and the erased ones."""
    judged = table.assign(is_erased=table["contrast_ratio"] < ERASED_CONTRAST).groupby(["method", "roi_set"], sort=False)
    counts = judged.agg(number=("label", "size"), judged=("contrast_ratio", "count"), erased=("is_erased", "sum"))
    return counts.reset_index()


def _inner_body(source_hu: NDArray[np.float32], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The body (Y, X) without its rim."""
    body = body_mask(_smooth(source_hu, EDGE_SIGMA_MM, spacing_mm))
    inner: NDArray[np.bool_] = ndimage.distance_transform_edt(body, sampling=spacing_mm) > RIM_MM
    return inner


def _edge_shifts_mm(
    source_hu: NDArray[np.float32], difference_hu: NDArray[np.float64], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shifts of all pixels of a slice that lie on a strong edge."""
    smooth = _smooth(source_hu, EDGE_SIGMA_MM, spacing_mm)
    slope = np.hypot(*np.gradient(smooth, *spacing_mm))
    edge = (np.abs(smooth - EDGE_LEVEL_HU) < EDGE_BAND_HU) & (slope > MIN_SLOPE_HU_PER_MM)
    moved = _smooth(difference_hu, EDGE_SIGMA_MM, spacing_mm)[edge] / slope[edge]
    return np.clip(moved, -EDGE_REACH_MM, EDGE_REACH_MM)


def _smooth(plane: NDArray[np.floating], sigma_mm: float, spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(plane.astype(np.float64), sigma_mm / spacing_mm)
