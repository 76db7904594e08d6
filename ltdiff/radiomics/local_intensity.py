"""IBSI's 2 local intensity features: means of the image in a ball of 1 cm³ round a voxel of the region."""

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.region import Floats

RADIUS_MM = (0.75 * 1000 / math.pi) ** (1 / 3)
"""Of a ball of 1 cm³: 6.2 mm."""


class LocalIntensities:
    """An image (Z, Y, X) that reaches RADIUS_MM beyond the region or ends before, and the region in it; spacing (z, y, x)."""

    def __init__(self, image: Floats, mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> None:
        self.image, self.mask, self.spacing_mm = image, mask, spacing_mm
        self.values = image[mask]

    @cached_property
    def local_mean(self) -> Floats:
        """Mean over the voxels whose centre lies in the ball round each voxel of the region (N,)."""
        steps = [np.arange(-n, n + 1) * mm for n, mm in ((int(RADIUS_MM / mm), mm) for mm in self.spacing_mm)]
        z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
        ball = (z**2 + y**2 + x**2 <= RADIUS_MM**2).astype(np.float64)
        total, count = (signal.fftconvolve(part, ball, mode="same") for part in (self.image, np.ones_like(self.image)))
        means: Floats = (total / count.round())[self.mask]
        return means


FEATURES: Mapping[str, Feature[LocalIntensities]] = {
    "peak_loc": Feature(
        "VJGA",
        "mean in the ball round the brightest voxel, the highest of several",
        lambda x: x.local_mean[x.values == x.values.max()].max(),
    ),
    "peak_glob": Feature("0F91", "the highest mean in the ball round any voxel of the region", lambda x: x.local_mean.max()),
}
