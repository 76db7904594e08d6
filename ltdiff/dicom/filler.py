"""Where a slice holds no measurement but a filler: by what the image shows, with PixelPaddingValue as a hint.

Scanners and converters fill what lies outside the round field of view with a value, or with two, that no tissue has. The tag that
names it may be absent, or name a value that tissue has too. Filler is one value over an area; noise and streaks are not.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OUTSIDE_FOV_HU = -1500.0
"""Air and its noise lie above it, a scanner's fillers (−2000, −2048, −3024) below."""
AIR_HU = -900.0
"""What the tag names below it is air at most: as filler it is air too, and nothing is lost."""
MIN_SHARE = 0.001
"""Of the pixels, that a filled area at the image's border has; in its corner one pixel is enough."""
MIN_INNER_SHARE = 0.002
"""The same of an area away from the border, as where a face was removed."""
RUN = 9
"""Pixels in a row that noise gives the same value nowhere; a filled area in a small image has as many, but for a corner."""
NUM_VALUES = 2
"""A scanner has at most so many fillers in one slice."""
VALUES_SHARE = 0.5
"""Of a filled area's pixels, that have the commonest `NUM_VALUES` values; resampling blurs the rest at its edges."""


def find_filler(hu: NDArray[np.float32], *, tagged: NDArray[np.bool_] | None = None, derived: bool = False) -> NDArray[np.bool_]:
    """Pixels (Y, X) of a slice that hold filler; `tagged` are those that have the value of the padding tag.

    What is darker than any air is filler where it is tagged, or is an area of one or two values; in a `derived` image of any, for
    a lossy compression may have changed them. Other tagged pixels are filler where they form a solid area at the border;
    tissue of that value does not.
    """
    dark = hu < OUTSIDE_FOV_HU
    filler = np.zeros(hu.shape, dtype=bool)
    if dark.any():
        filler |= _dark_areas(hu, dark, values_share=0 if derived else VALUES_SHARE)
    if tagged is not None and tagged.any():
        filler |= tagged & (hu < AIR_HU)
        bright = tagged & (hu >= AIR_HU)
        if bright.any():
            filler |= _solid_areas(bright)
    return filler


def _dark_areas(hu: NDArray[np.float32], dark: NDArray[np.bool_], *, values_share: float) -> NDArray[np.bool_]:
    areas, num_areas = ndimage.label(dark, structure=np.ones((3, 3)))
    sizes = np.bincount(areas.ravel(), minlength=num_areas + 1)
    is_large = sizes >= np.maximum(np.where(_reach_border(areas, num_areas), MIN_SHARE, MIN_INNER_SHARE) * hu.size, RUN)
    is_large[areas[[0, 0, -1, -1], [0, -1, 0, -1]]] = True
    is_large[0] = False  # what is not dark
    filler = np.zeros(hu.shape, dtype=bool)
    for number in np.flatnonzero(is_large):
        area = areas == number
        _, counts = np.unique(np.rint(hu[area]), return_counts=True)
        if np.sort(counts)[-NUM_VALUES:].sum() >= values_share * counts.sum():
            filler |= area
    return filler


def _solid_areas(tagged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Areas that reach the border and are somewhere 3 × 3 pixels wide, with what lies beyond it, or `RUN` long right at it."""
    core = ndimage.binary_erosion(tagged, structure=np.ones((3, 3)), border_value=1)
    core[[0, -1]] |= ndimage.binary_erosion(tagged[[0, -1]], structure=np.ones((1, RUN)), border_value=1)
    core[:, [0, -1]] |= ndimage.binary_erosion(tagged[:, [0, -1]], structure=np.ones((RUN, 1)), border_value=1)
    areas, num_areas = ndimage.label(tagged)
    sizes = np.bincount(areas.ravel(), minlength=num_areas + 1)
    is_solid = np.isin(np.arange(num_areas + 1), areas[core])
    return tagged & (is_solid & _reach_border(areas, num_areas) & (sizes >= MIN_SHARE * tagged.size))[areas]


def _reach_border(areas: NDArray[np.int32], num_areas: int) -> NDArray[np.bool_]:
    """For the number of each area, whether it has a pixel at the border."""
    border = np.concatenate([areas[[0, -1]].ravel(), areas[:, [0, -1]].ravel()])
    return np.isin(np.arange(num_areas + 1), border)
