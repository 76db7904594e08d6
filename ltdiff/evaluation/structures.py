"""What standardizing does to what the images show: is each structure still there, with its density and size, and none new?

Judged against the target's image, for lesions, vessels and airways one by one, each in the slice where its mask is largest; and,
over whole slices, by counting the places as large as the smallest lesion where the two images differ by more than noise. Vessels
and airways are found in the target's slices.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.rois import MIN_LESION_PIXELS, Roi, RoiSummary, bounding_box, bounding_shape

VESSEL, AIRWAY = "vessel", "airway"
"""The `roi_set` of what is found; a vessel's mask is the vessel, an airway's its lumen."""

SMOOTHING_PX = 1.0
"""In a sharp kernel noise would make vessels and break walls, and decide where a half maximum lies."""
BODY_HU = -300.0
"""Brighter than lung and fat."""
VESSEL_HU, AROUND_VESSEL_HU = -500.0, -650.0
VESSEL_DIAMETER_MM = (3.0, 12.0)
WALL_HU, LUMEN_HU = -750.0, -900.0
LUMEN_DIAMETER_MM = (2.0, 25.0)
MIN_FILL, MAX_ASPECT = 0.5, 1.8
"""Of the bounding box: cross-sections are round, slits and what runs along the slice are not."""
MARGIN_PX = 8
"""Round the mask, for the background and for what grows out of it."""
RING_PX = (3, 6)
"""The background is the ring between these distances from the mask; of an airway's wall it is the lumen."""
WALL_PX = 2
"""An airway's wall is what lies within this distance of its lumen."""
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

Bool = NDArray[np.bool_]
Neighbours = Sequence[tuple[int, int]]
"""Indices of slices that follow each other."""


def find_structures(
    target_hu: NDArray[np.float32],
    *,
    spacings_mm: Sequence[Sequence[float]] | NDArray[np.float64],
    lesions: Sequence[Roi] = (),
    first: int = 0,
) -> list[Roi]:
    """Cross-sections of vessels and airways in (Z, Y, X) HU with spacing (y, x) per slice; without those of `lesions`.

    A vessel is a round spot of 3 to 12 mm brighter than −500 HU with lung around it (a nodule looks the same), an airway a
    round hole of 2 to 25 mm, darker than −900 HU, that a wall of more than −750 HU closes (gas in a bowel looks the same).
    Both inside the body. Every cross-section has a label of its own, in which slices are counted
    from `first` on.
    """
    found = []
    for z, (plane, spacing) in enumerate(zip(target_hu, spacings_mm, strict=True)):
        smooth = ndimage.gaussian_filter(plane.astype(np.float64), SMOOTHING_PX)
        spacing_mm = (float(spacing[0]), float(spacing[1]))
        known = np.any([roi.mask for roi in lesions if roi.slice_index == z], axis=0)
        for roi_set, masks in ((VESSEL, _vessels(smooth, spacing_mm)), (AIRWAY, _lumens(smooth, spacing_mm))):
            found += [Roi(roi_set, z, mask, _label(mask, first + z)) for mask in masks if not (mask & known).any()]
    return found


def body_mask(smooth_hu: NDArray[np.floating]) -> Bool:
    """The body (Y, X) in a smoothed slice: the largest part above BODY_HU, with all that it encloses, the lungs among it."""
    parts, _ = ndimage.label(ndimage.binary_opening(smooth_hu > BODY_HU, iterations=2))
    sizes = np.bincount(parts.ravel())[1:]
    return ndimage.binary_fill_holes(parts == 1 + sizes.argmax()) if len(sizes) else np.zeros(smooth_hu.shape, bool)


def _vessels(smooth: NDArray[np.float64], spacing_mm: tuple[float, float]) -> Iterator[Bool]:
    def lies_in_lung(mask: Bool) -> bool:
        near = bounding_box(mask, margin_px=RING_PX[1])
        distance = ndimage.distance_transform_edt(~mask[near])
        ring = (distance >= RING_PX[0]) & (distance <= RING_PX[1])
        return bool(np.median(smooth[near][ring]) < AROUND_VESSEL_HU)

    return _round_parts((smooth > VESSEL_HU) & body_mask(smooth), VESSEL_DIAMETER_MM, spacing_mm, lies_in_lung)


def _lumens(smooth: NDArray[np.float64], spacing_mm: tuple[float, float]) -> Iterator[Bool]:
    wall = smooth > WALL_HU
    holes = ndimage.binary_fill_holes(wall) & ~wall & body_mask(smooth)
    return _round_parts(holes, LUMEN_DIAMETER_MM, spacing_mm, lambda mask: bool(smooth[mask].min() < LUMEN_HU))


def _round_parts(
    where: Bool, diameter_mm: tuple[float, float], spacing_mm: tuple[float, float], accept: Callable[[Bool], bool]
) -> Iterator[Bool]:
    """Masks (Y, X) of the connected parts that have such a diameter (of a disc of their area), are round, and accepted."""
    parts, _ = ndimage.label(where)
    low, high = (np.pi / 4 * diameter**2 / (spacing_mm[0] * spacing_mm[1]) for diameter in diameter_mm)
    sizes = np.bincount(parts.ravel())
    for part in 1 + np.flatnonzero((sizes[1:] >= low) & (sizes[1:] <= high)):
        mask: Bool = parts == part
        height, width = bounding_shape(mask)
        sides_mm = height * spacing_mm[0], width * spacing_mm[1]
        is_round = sizes[part] >= MIN_FILL * height * width and max(sides_mm) <= MAX_ASPECT * min(sides_mm)
        if is_round and accept(mask):
            yield mask


def _label(mask: Bool, z: int) -> str:
    y, x = ndimage.center_of_mass(mask)
    return f"z{z}_y{y:.0f}_x{x:.0f}"


def structure_table(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], rois: Sequence[Roi], neighbours: Neighbours
) -> pd.DataFrame:
    """One row per method and structure (COLUMNS): A' − B of its mean and of its diameter at half maximum.

    A structure is what has one label in slices of which each is the neighbour of the one before. Of an airway the wall's mean
    is compared, and the lumen's diameter. The diameter is that of a disc with the area in which the image is nearer to the
    structure than to its background; NaN, as is the ratio of the contrasts, where the target shows too little of one.
    """
    return _to_table(row for _, roi in _largest(rois, neighbours) for row in _compare(images, target_hu, roi))


def scan_structure_table(
    images: Mapping[str, NDArray[np.float32]],
    *,
    target_hu: NDArray[np.float32],
    spacings_mm: NDArray[np.float64],
    lesions: Sequence[Roi],
    neighbours: Neighbours,
    first: int,
) -> pd.DataFrame:
    """The table of `structure_table` for lesions and for what `find_structures` finds in each slice of a scan.

    Slices are counted from `first` on. Masks of one slice are in memory at a time: there may be fifty in each.
    """

    def rows() -> Iterator[tuple[Any, ...]]:
        largest = _largest(lesions, neighbours)
        for z in range(len(target_hu)):
            known = [replace(roi, slice_index=0) for roi in lesions if roi.slice_index == z]
            plane, spacing_mm = slice(z, z + 1), spacings_mm[z : z + 1]
            found = find_structures(target_hu[plane], spacings_mm=spacing_mm, lesions=known, first=first + z)
            rois = [roi for begins, roi in largest if begins == z] + [replace(roi, slice_index=z) for roi in found]
            for roi in rois:
                yield from _compare(images, target_hu, roi)

    table = _to_table(rows())
    return table.assign(slice_index=table["slice_index"] + first)


def _compare(images: Mapping[str, NDArray[np.float32]], target_hu: NDArray[np.float32], roi: Roi) -> Iterator[tuple[Any, ...]]:
    """A row of COLUMNS for every method."""
    target = _Structure(target_hu[roi.slice_index], roi)
    shows = abs(target.contrast_hu) >= MIN_CONTRAST_HU
    for method, volume in images.items():
        structure = _Structure(volume[roi.slice_index], roi)
        size = structure.diameter_px(target) - target.diameter_px(target) if shows else np.nan
        ratio = structure.contrast_hu / target.contrast_hu if shows else np.nan
        difference = structure.mean_hu - target.mean_hu
        yield method, roi.roi_set, roi.slice_index, roi.label, difference, size, ratio


def _to_table(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    numbers = dict.fromkeys(("mean_difference_hu", "diameter_difference_px", "contrast_ratio"), float)
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(numbers)


def structure_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per set and method: how many, how many of these could be judged by their contrast, and how many of those are erased; and of
    the differences the mean and the 95th percentile of the size.
    """

    def p95(differences: pd.Series) -> float:
        return float(differences.abs().quantile(0.95))

    summary = (
        table.assign(is_erased=table["contrast_ratio"] < ERASED_CONTRAST)
        .groupby(["roi_set", "method"], sort=False)
        .agg(
            number=("method", "size"),
            judged=("contrast_ratio", "count"),
            erased=("is_erased", "sum"),
            mean_difference_hu=("mean_difference_hu", "mean"),
            mean_difference_hu_p95=("mean_difference_hu", p95),
            diameter_difference_px=("diameter_difference_px", "mean"),
            diameter_difference_px_p95=("diameter_difference_px", p95),
        )
    )
    return summary.reset_index()


def describe_lesions(structures: pd.DataFrame, rois: Sequence[RoiSummary], num_cross_sections: int | None) -> str:
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


def _largest(rois: Sequence[Roi], neighbours: Neighbours) -> list[tuple[int, Roi]]:
    """Of each structure the slice in which it begins, and the region with most pixels."""
    previous = {after: before for before, after in neighbours}
    largest: list[tuple[int, Roi]] = []
    places: dict[tuple[int | None, str, str], int] = {}  # slice, set and label: its place in `largest`
    for roi in sorted(rois, key=lambda roi: roi.slice_index):
        place = places.get((previous.get(roi.slice_index), roi.roi_set, roi.label))
        if place is None:
            place = len(largest)
            largest.append((roi.slice_index, roi))
        elif roi.mask.sum() > largest[place][1].mask.sum():
            largest[place] = (largest[place][0], roi)
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
