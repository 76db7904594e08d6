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
from ltdiff.physics.outline import find_outlines

CONTENT_SIGMA_MM = 3.0
"""Of the Gaussian behind which two kernels show the same: their responses are both near 1 below .05 cycles/mm."""
RIM_MM = 6.0
"""Of the body, left out: a sharper image is brighter inside the skin and darker outside."""
EDGE_SIGMA_MM = 1.5
"""Of the Gaussian behind which edges are compared: it hardly moves an edge that is nearly straight, whatever its sharpness."""
CLEAR_MM = np.array([3.0, 4.0, 5.0])
"""Distances from an outline at which both sides must be what they should be: no vessel, rib or couch lies near."""
STRUCTURE_SIGMA_MM = 1.0
"""Of the Gaussian behind which structures are looked for: without it even the true images of a sharp kernel have many that a
smooth kernel's show by less than half of their contrast (see docs/notes/evaluation-without-pairs.md)."""
CONTENT_COLUMNS = ("method", "content_bias_hu", "content_sd_hu", "edge_shift_mm", "edge_shift_mm_p95")
STRUCTURE_COLUMNS = ("method", "roi_set", "number", "judged", "erased", "new_number", "new_judged", "created")


def content_kept(
    images: Mapping[str, NDArray[np.float32]], *, source_hu: NDArray[np.float32], spacings_mm: NDArray[np.float64]
) -> pd.DataFrame:
    """CONTENT_COLUMNS for each method's images (N, Y, X) of sources (N, Y, X) in HU, with spacing (y, x) per slice (N, 2).

    Bias and standard deviation of A' − A behind a Gaussian of CONTENT_SIGMA_MM, over the body without its rim. Of the outlines of
    skin and lungs the mean of their shift, positive where the tissue grows, and the 95th percentile of its size: a difference
    behind a Gaussian of EDGE_SIGMA_MM moves the outline by (A' − A) / |∇A|. NaN where no slice shows a body, or a clear edge.
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

    Images are compared behind a Gaussian of STRUCTURE_SIGMA_MM. `number` are found in the source (or are `lesions`), `judged` of
    them have a contrast, `erased` have lost more than half of it in A'. `new_number` are found in A'; `created` are those that
    have less than half of their contrast in the source.
    """
    source = _smooth_all(source_hu, spacings_mm)
    kept, new = [], []
    rois = [*lesions, *find_structures(source, spacings_mm=spacings_mm, lesions=lesions)]
    for method, volume in images.items():
        image = _smooth_all(volume, spacings_mm)
        kept.append(structure_table({method: image}, target_hu=source, rois=rois, neighbours=neighbours))
        found = find_structures(image, spacings_mm=spacings_mm, lesions=lesions)
        new.append(structure_table({method: source}, target_hu=image, rois=found, neighbours=neighbours))
    if not kept:
        return pd.DataFrame(columns=list(STRUCTURE_COLUMNS))
    of_new = {"number": "new_number", "judged": "new_judged", "erased": "created"}
    keys, numbers = ["method", "roi_set"], list(STRUCTURE_COLUMNS[2:])
    table = _count(pd.concat(kept)).merge(_count(pd.concat(new)).rename(columns=of_new), on=keys, how="outer")
    table = table.sort_values("method", key=lambda names: names.map(list(images).index), kind="stable", ignore_index=True)
    return table[list(STRUCTURE_COLUMNS)].fillna(dict.fromkeys(numbers, 0)).astype(dict.fromkeys(numbers, int))


def _smooth_all(slices_hu: NDArray[np.float32], spacings_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    smooth = [_smooth(plane, STRUCTURE_SIGMA_MM, spacing) for plane, spacing in zip(slices_hu, spacings_mm, strict=True)]
    return np.stack(smooth).astype(np.float32)


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
    """Shifts (points,) along the outlines of a slice."""
    spacing = (float(spacing_mm[0]), float(spacing_mm[1]))
    slope = np.hypot(*np.gradient(_smooth(source_hu, EDGE_SIGMA_MM, spacing_mm), *spacing))
    difference = _smooth(difference_hu, EDGE_SIGMA_MM, spacing_mm)
    outlines = find_outlines(source_hu, spacing, clear_mm=CLEAR_MM).values()
    places = np.concatenate([np.empty((0, 2)), *(outline.points_mm[outline.valid] for outline in outlines)]) / spacing
    moved, steepness = (ndimage.map_coordinates(image, places.T, order=1, mode="nearest") for image in (difference, slope))
    shifts_mm: NDArray[np.float64] = moved / steepness
    return shifts_mm


def _smooth(plane: NDArray[np.floating], sigma_mm: float, spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(plane.astype(np.float64), sigma_mm / spacing_mm)
