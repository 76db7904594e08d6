"""What noise and fine texture a noise-reduced source lacks: drawn into a matched source, where there are no networks.

How much is missing at a place, and of which texture, is fitted to made sources (physics/degradation): the target that each was
made of is known. The noise match (physics/noise_match) adds what noise soft tissue lacks; in the lung noise reduction takes
texture besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ltdiff.model.residual_noise import ResidualNoiseModel, fit_residual_noise

Image = NDArray[np.float32]


@dataclass(frozen=True)
class DrawnNoise:
    """Residual noise of matched sources, and the PixelSpacing (y, x) in mm of the slices that it was fitted to."""

    residual_noise: ResidualNoiseModel
    spacing_mm: tuple[float, float]

    @classmethod
    def fit(
        cls,
        matched: Sequence[Image],
        targets: Sequence[Image],
        spacings_mm: Sequence[tuple[float, float]],
        *,
        range_hu: tuple[float, float],
    ) -> "DrawnNoise":
        """Fit to matched made sources and their targets, (Y, X) in HU; ValueError where there is none."""
        noise = fit_residual_noise(matched, targets, range_hu=range_hu)
        y_mm, x_mm = np.median(spacings_mm, axis=0)
        return cls(noise, (float(y_mm), float(x_mm)))

    def __call__(self, matched: Image, source_hu: Image, spacing_mm: tuple[float, float]) -> Image:
        """A matched source (H, W) in HU with what it lacks, in whole HU, as `NoiseMatch`: one source always gets the same."""
        generator = np.random.default_rng(crc32(np.ascontiguousarray(source_hu).tobytes()))
        pixel = (spacing_mm[0] / self.spacing_mm[0], spacing_mm[1] / self.spacing_mm[1])
        texture = self.residual_noise.texture(generator.standard_normal(matched.shape), pixel=pixel)
        return self.residual_noise.add(matched, self.residual_noise.sigma(matched) * texture)
