"""What standardizing does to what the images show: is each structure still there, with its density and size, and none new?

Judged against the target's image, for lesions, vessels and airways one by one, each in the slice where its mask is largest; and,
over whole slices, by counting the places as large as the smallest lesion where the two images differ by more than noise.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.rois import MIN_LESION_PIXELS, Roi, bounding_box
from ltdiff.evaluation.slice_correlation import Neighbours
from ltdiff.evaluation.structures import AIRWAY

MARGIN_PX = 8
"""Round the mask, for the background and for what grows out of it."""
RING_PX = (3, 6)
"""The background is the ring between these distances from the mask; of an airway's wall it is the lumen."""
WALL_PX = 2
"""An airway's wall is what lies within this distance of its lumen."""
SMOOTHING_PX = 1.0
"""Noise would decide where the half maximum lies; both images are smoothed alike."""
FINER = 4
"""Areas are counted on a grid this much finer."""
MIN_CONTRAST_HU = 30.0
"""Structures that stand out less from their surroundings in the target have no half maximum."""
ERASED_CONTRAST = 0.5
"""What has less than this share of its contrast in the target counts as erased."""
CHANGED_HU = 50.0
CHANGED_DIAMETER_MM = 3.0
"""A place has changed where the smoothed difference exceeds CHANGED_HU over a disc of this diameter: a lesion made or lost."""
COLUMNS = ("method", "roi_set", "slice_index", "label", "mean_difference_hu", "diameter_difference_px", "contrast_ratio")


def structure_table(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], rois: Sequence[Roi], neighbours: Neighbours
) -> pd.DataFrame:
    """One row per method and structure (COLUMNS): A' − B of its mean and of its diameter at half maximum.

    A structure is what has one label in slices of which each is the neighbour of the one before. Of an airway the wall's mean
    is compared, and the lumen's diameter. The diameter is that of a disc with the area in which the image is nearer to the
    structure than to its background; NaN, as is the ratio of the contrasts, where the target shows too little of one.
    """
    rows = []
    for roi in _largest(rois, neighbours):
        target = _Structure(target_hu[roi.slice_index], roi)
        for method, volume in images.items():
            structure = _Structure(volume[roi.slice_index], roi)
            shows = abs(target.contrast_hu) >= MIN_CONTRAST_HU
            size = structure.diameter_px(target) - target.diameter_px(target) if shows else np.nan
            ratio = structure.contrast_hu / target.contrast_hu if shows else np.nan
            difference = structure.mean_hu - target.mean_hu
            rows.append((method, roi.roi_set, roi.slice_index, roi.label, difference, size, ratio))
    numbers = dict.fromkeys(("mean_difference_hu", "diameter_difference_px", "contrast_ratio"), float)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(numbers)


def structure_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per set and method: how many, how many of these could be judged by their contrast, and how many of those are erased; and of
    the differences the mean and the 95th percentile of the size.
    """
    differences = table.assign(
        is_erased=table["contrast_ratio"] < ERASED_CONTRAST,
        density=table["mean_difference_hu"].abs(),
        size=table["diameter_difference_px"].abs(),
    )
    groups = differences.groupby(["roi_set", "method"], sort=False)
    percentiles = groups[["density", "size"]].quantile(0.95)
    summary = groups.agg(
        number=("method", "size"),
        judged=("contrast_ratio", "count"),
        erased=("is_erased", "sum"),
        mean_difference_hu=("mean_difference_hu", "mean"),
        diameter_difference_px=("diameter_difference_px", "mean"),
    )
    summary.insert(4, "mean_difference_hu_p95", percentiles["density"])
    summary["diameter_difference_px_p95"] = percentiles["size"]
    return summary.reset_index()


def describe_lesions(structures: pd.DataFrame, rois: Sequence[Roi], num_cross_sections: int | None) -> str:
    """How many lesions of a structure table the regions belong to, and how many cross-sections were too small for one.

    Empty where there is no mask, and so no count of its cross-sections.
    """
    if num_cross_sections is None:
        return ""
    found = structures[structures["roi_set"].isin([roi.roi_set for roi in rois])]
    num_lesions, num_rois = len(found.drop_duplicates(["slice_index", "label"])), len(rois)
    note = "The mask shows no region in the scored slices that can be scored."
    if rois:
        note = f"They show {num_lesions} lesion{'' if num_lesions == 1 else 's'}."
    if num_cross_sections > num_rois:
        note += (
            f" {num_cross_sections - num_rois} of {num_cross_sections} cross-sections are left out: fewer than "
            f"{MIN_LESION_PIXELS} pixels, or only one high or wide."
        )
    return note


def count_changed_places(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], spacings_mm: NDArray[np.float64]
) -> pd.DataFrame:
    """Per method, over all slices: places where something is that the target does not show, or the other way round.

    `spacings_mm` (Z, 2) is (y, x) of each slice.
    """
    min_pixels = np.pi / 4 * CHANGED_DIAMETER_MM**2 / spacings_mm.prod(axis=1)
    rows = []
    for method, volume in images.items():
        num_places = 0
        for plane, target, least in zip(volume, target_hu, min_pixels, strict=True):
            difference = ndimage.gaussian_filter(plane.astype(np.float64) - target, SMOOTHING_PX)
            for sign in (1, -1):
                places, _ = ndimage.label(sign * difference > CHANGED_HU)
                num_places += int((np.bincount(places.ravel())[1:] >= least).sum())
        rows.append((method, num_places))
    return pd.DataFrame(rows, columns=["method", "num_changed_places"])


def _largest(rois: Sequence[Roi], neighbours: Neighbours) -> list[Roi]:
    """Of each structure the region with most pixels."""
    previous = {after: before for before, after in neighbours}
    largest: list[Roi] = []
    places: dict[tuple[int | None, str, str], int] = {}  # slice, set and label: its place in `largest`
    for roi in sorted(rois, key=lambda roi: roi.slice_index):
        place = places.get((previous.get(roi.slice_index), roi.roi_set, roi.label))
        if place is None:
            place = len(largest)
            largest.append(roi)
        elif roi.mask.sum() > largest[place].mask.sum():
            largest[place] = roi
        places[roi.slice_index, roi.roi_set, roi.label] = place
    return largest


class _Structure:
    """A structure in one image: its mean, its contrast to the background, and the size of its mask's part."""

    def __init__(self, plane_hu: NDArray[np.float32], roi: Roi) -> None:
        near = bounding_box(roi.mask, margin_px=MARGIN_PX)
        mask, plane = roi.mask[near], plane_hu[near].astype(np.float64)
        distance = ndimage.distance_transform_edt(~mask)
        ring = (distance >= RING_PX[0]) & (distance <= RING_PX[1])
        wall = (distance > 0) & (distance <= WALL_PX)
        inside, background = (wall, mask) if roi.roi_set == AIRWAY else (mask, ring)
        self.mean_hu = float(plane[inside].mean())
        self.contrast_hu = self.mean_hu - float(np.median(plane[background])) if background.any() else 0.0
        self.level_hu = self.mean_hu - self.contrast_hu / 2
        self.is_mask_above = (self.contrast_hu > 0) == (inside is mask)
        self.reach = ndimage.zoom(distance, FINER, order=1, grid_mode=True, mode="nearest") <= RING_PX[0]
        smooth = ndimage.gaussian_filter(plane, SMOOTHING_PX)
        self.smooth = ndimage.zoom(smooth, FINER, order=1, grid_mode=True, mode="nearest")

    def diameter_px(self, target: "_Structure") -> float:
        """Of a disc as large as the area in and just round the mask that lies on the mask's side of the target's half maximum."""
        beyond = self.smooth > target.level_hu if target.is_mask_above else self.smooth < target.level_hu
        return float(2 * np.sqrt((beyond & self.reach).sum() / np.pi) / FINER)
