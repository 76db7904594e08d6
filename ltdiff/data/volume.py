"""A CT volume in memory: HU and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Volume:
    """Axial slices in ascending z, rows from anterior to posterior, columns from right to left ("LPS").

    `hu` float32 (Z, Y, X); `spacing_mm` (z, y, x); `origin_mm` (x, y, z) of the first voxel and `direction` (3 x 3,
    row-major, columns are the x, y and z axes) in DICOM's patient coordinates; both belong to the array as it is here.
    `stored_orientation` is the axis code of the file that it was read from, so that it can be written back unchanged.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    stored_orientation: str = "LPS"

    @property
    def num_slices(self) -> int:
        """Number of axial slices."""
        return self.hu.shape[0]
