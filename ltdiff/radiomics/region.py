"""One region of interest, cut out of its image, its grey levels, and the directions in which they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MAX_LEVELS = 65_536
"""More grey levels than any 16-bit image has at a bin width of 1 HU."""

Floats = NDArray[np.float64]
Levels = NDArray[np.int64]
"""Grey levels (Z, Y, X): whole numbers from 1 on, 0 outside the region."""
Box = tuple[slice, slice, slice]
Shift = tuple[int, int, int]
"""A step (z, y, x) in voxels."""
DIRECTIONS_2D: Mapping[str, Shift] = {"0": (0, 0, 1), "45": (0, -1, 1), "90": (0, 1, 0), "135": (0, 1, 1)}
"""Directions in degrees, counter-clockwise on the screen; opposite directions give the same pairs."""
DIRECTIONS_3D: Mapping[str, Shift] = {
    f"z{z:+d}y{y:+d}x{x:+d}".replace("+0", "0"): (z, y, x)
    for z in (0, 1)
    for y in (-1, 0, 1)
    for x in (-1, 0, 1)
    if (z, y, x) > (0, 0, 0)
}
"""Half of the 26 neighbours."""


@dataclass(frozen=True, eq=False)
class Region:
    """The box round a region, grown by a pixel on every side in the plane where the image reaches so far.

    `hu` float64 and `mask` bool (Z, Y, X), `spacing_mm` (y, x).
    """

    hu: Floats
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float]

    @cached_property
    def values_hu(self) -> Floats:
        """HU of the region's voxels (N,)."""
        return self.hu[self.mask]

    def discretise(self, bin_width: float) -> Levels:
        """Grey levels (Z, Y, X) from 1 on, 0 outside the region: fixed bins that start at a multiple of their width.

        That is PyRadiomics' convention; IBSI's fixed bin size starts the first bin at the region's minimum.

        Raises:
            ValueError: more than MAX_LEVELS levels.
        """
        bins = np.floor(self.hu / bin_width)
        inside = bins[self.mask]
        lowest = inside.min()
        if inside.max() - lowest >= MAX_LEVELS:
            low, high = self.values_hu.min(), self.values_hu.max()
            raise ValueError(
                f"A region of interest spans {low:g} … {high:g} HU, more than {MAX_LEVELS} bins of {bin_width:g} HU."
            )
        return np.where(self.mask, bins - lowest + 1, 0).astype(np.int64)


def cut_region(
    hu: NDArray[np.floating] | NDArray[np.integer], mask: NDArray[np.bool_], *, spacing_mm: tuple[float, float]
) -> Region:
    """The region where `mask` (Z, Y, X) is true of an image `hu` (Z, Y, X) with PixelSpacing (y, x).

    Raises:
        ValueError: image and mask differ in shape; the mask is empty; the region holds values that are not finite.
    """
    if hu.shape != mask.shape or hu.ndim != 3:
        raise ValueError(f"A region of interest needs an image and a mask of one shape (Z, Y, X): {hu.shape}, {mask.shape}.")
    around = find_box(mask)
    box = (around[0], *(slice(max(0, part.start - 1), part.stop + 1) for part in around[1:]))
    region = Region(hu[box].astype(np.float64), mask[box].astype(bool), spacing_mm)
    if not np.isfinite(region.values_hu).all():
        raise ValueError("A region of interest holds values that are not finite.")
    return region


def find_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box round the voxels of a mask (Z, Y, X). ValueError where it is empty."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8), max_label=1)
    if box is None:
        raise ValueError("The mask of a region of interest is empty.")
    return box[0], box[1], box[2]


def shifted_views(levels: NDArray[Any], shift: Shift) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two views of equal shape, in which voxels at that shift have the same place."""
    steps = list(zip(shift, levels.shape, strict=True))
    first = levels[tuple(slice(max(0, -step), max(0, n - max(0, step))) for step, n in steps)]
    second = levels[tuple(slice(max(0, step), max(0, n + min(0, step))) for step, n in steps)]
    return first, second
