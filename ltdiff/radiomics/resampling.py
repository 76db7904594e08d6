"""Resampling of images and masks to another voxel size, grids aligned at their centres (IBSI, VDDS)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.radiomics.region import Box, Floats

Spacing = tuple[float, float, float]
MASK_THRESHOLD = 0.5
INTERPOLATION_REACH = {"linear": 1, "cubic": 16}
"""How many voxels away a voxel still counts; of cubic splines the rest is below 1e-9."""
_ORDER = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Resampling:
    """From a grid of `shape` voxels (Z, Y, X) of `spacing_mm` (z, y, x) to one of `new_spacing_mm`."""

    shape: tuple[int, ...]
    spacing_mm: Spacing
    new_spacing_mm: Spacing

    @property
    def new_shape(self) -> tuple[int, ...]:
        """⌈n s / s'⌉ voxels on each axis."""
        sides = zip(self.shape, self.steps, strict=True)
        return tuple(max(1, math.ceil(round(n / step, 9))) for n, step in sides)

    @property
    def steps(self) -> Floats:
        """Distance of new voxels, in old ones (3,)."""
        return np.array(self.new_spacing_mm) / np.array(self.spacing_mm)

    @property
    def origin(self) -> Floats:
        """Where the first new voxel lies, in old ones (3,)."""
        return (np.array(self.shape) - 1 - self.steps * (np.array(self.new_shape) - 1)) / 2

    def new_box(self, box: Box, *, margin_mm: float) -> Box:
        """The new voxels that cover those of a box of the old grid, and `margin_mm` beyond, as far as the grid reaches."""
        found = []
        for part, origin, step, n, mm in zip(box, self.origin, self.steps, self.new_shape, self.new_spacing_mm, strict=True):
            margin = n if margin_mm >= n * mm else math.ceil(margin_mm / mm) + 1
            first, last = math.floor((part.start - 1 - origin) / step), math.ceil((part.stop - origin) / step)
            found.append(slice(max(0, first - margin), min(n, last + 1 + margin)))
        return found[0], found[1], found[2]

    def resample(
        self, values: NDArray[np.floating] | NDArray[np.integer], box: Box, *, interpolation: Literal["linear", "cubic"]
    ) -> Floats:
        """The new voxels of a box; beyond the old grid its edge goes on."""
        starts = np.array([part.start for part in box])
        shape = tuple(part.stop - part.start for part in box)
        first = self.origin + self.steps * starts
        last = first + self.steps * (np.array(shape) - 1)
        reach = INTERPOLATION_REACH[interpolation]
        low = np.clip(np.floor(first) - reach, 0, np.array(self.shape) - 1).astype(int)
        high = np.clip(np.ceil(last) + reach + 1, low + 1, self.shape).astype(int)
        part = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float64)
        made: Floats = ndimage.affine_transform(
            part, self.steps, first - low, output_shape=shape, order=_ORDER[interpolation], mode="nearest"
        )
        return made

    def resample_mask(self, mask: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
        """The new voxels of a box that are inside a mask by at least MASK_THRESHOLD, interpolated linearly."""
        share = self.resample(mask.astype(np.float64), box, interpolation="linear")
        inside: NDArray[np.bool_] = share >= MASK_THRESHOLD - 1e-9  # half a voxel, but for rounding
        return inside
