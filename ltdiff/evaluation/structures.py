"""Cross-sections of vessels and airways, found in the target's slices: what every reconstruction must show as it is."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.rois import Roi, bounding_box, bounding_shape

VESSEL, AIRWAY = "vessel", "airway"
"""The `roi_set` of what is found; a vessel's mask is the vessel, an airway's its lumen."""

SMOOTHING_PX = 1.0
"""In a sharp kernel noise would make vessels and break walls."""
BODY_HU = -300.0
"""Brighter than lung and fat."""
VESSEL_HU, AROUND_VESSEL_HU = -500.0, -650.0
VESSEL_DIAMETER_MM = (3.0, 12.0)
WALL_HU, LUMEN_HU = -750.0, -900.0
LUMEN_DIAMETER_MM = (2.0, 25.0)
MIN_FILL, MAX_ASPECT = 0.5, 1.8
"""Of the bounding box: cross-sections are round, slits and what runs along the slice are not."""
LUNG_RING_PX = (3, 6)

Bool = NDArray[np.bool_]


def find_structures(
    target_hu: NDArray[np.float32], *, spacings_mm: Sequence[Sequence[float]] | NDArray[np.float64], lesions: Sequence[Roi] = ()
) -> list[Roi]:
    """Cross-sections of vessels and airways in (Z, Y, X) HU with spacing (y, x) per slice; without those of `lesions`.

    A vessel is a round spot of 3 to 12 mm brighter than −500 HU with lung around it (a nodule looks the same), an airway a
    round hole of 2 to 25 mm, darker than −900 HU, that a wall of more than −750 HU closes (gas in a bowel looks the same).
    Both inside the body. Every cross-section has a label of its own.
    """
    found = []
    for z, (plane, spacing) in enumerate(zip(target_hu, spacings_mm, strict=True)):
        smooth = ndimage.gaussian_filter(plane.astype(np.float64), SMOOTHING_PX)
        spacing_mm = (float(spacing[0]), float(spacing[1]))
        known = np.any([roi.mask for roi in lesions if roi.slice_index == z], axis=0)
        for roi_set, masks in ((VESSEL, _vessels(smooth, spacing_mm)), (AIRWAY, _lumens(smooth, spacing_mm))):
            found += [Roi(roi_set, z, mask, _label(mask, z)) for mask in masks if not (mask & known).any()]
    return found


def body_mask(smooth_hu: NDArray[np.floating]) -> Bool:
    """The body (Y, X) in a smoothed slice: the largest part above BODY_HU, with all that it encloses, the lungs among it."""
    parts, _ = ndimage.label(ndimage.binary_opening(smooth_hu > BODY_HU, iterations=2))
    sizes = np.bincount(parts.ravel())[1:]
    return ndimage.binary_fill_holes(parts == 1 + sizes.argmax()) if len(sizes) else np.zeros(smooth_hu.shape, bool)


def _vessels(smooth: NDArray[np.float64], spacing_mm: tuple[float, float]) -> Iterator[Bool]:
    def lies_in_lung(mask: Bool) -> bool:
        near = bounding_box(mask, margin_px=LUNG_RING_PX[1])
        distance = ndimage.distance_transform_edt(~mask[near])
        ring = (distance >= LUNG_RING_PX[0]) & (distance <= LUNG_RING_PX[1])
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
