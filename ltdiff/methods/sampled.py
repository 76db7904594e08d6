"""A sample of any method: its image and a draw of what it leaves over on validation pairs (see inference/residual_noise)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from ltdiff.data.slice_pairs import ValidationPair, find_neighbours
from ltdiff.inference.method import Method, Slices
from ltdiff.model.residual_noise import ResidualNoiseModel, fit_residual_noise


class Sampled(Method):
    """A `Method` that draws around the image of another; the noise of a slice is a function of its number."""

    def __init__(self, method: Method, residual_noise: ResidualNoiseModel) -> None:
        self.method, self.residual_noise = method, residual_noise

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        means = self.method.standardize(hu, spacing_mm, first_slice=first_slice)
        return np.stack(
            [self.residual_noise.draw(mean, seed=0, number=first_slice + i) for i, mean in enumerate(means)]
        )


def fit_sampled(method: Method, pairs: Sequence[ValidationPair], *, range_hu: tuple[float, float]) -> Sampled:
    """Of a fitted method; `range_hu` is the target's. ValueError without pairs."""
    standardized = [method.standardize(pair.source_hu[None], pair.spacing_mm)[0] for pair in pairs]
    return Sampled(
        method,
        fit_residual_noise(
            [image[:, pair.columns] for image, pair in zip(standardized, pairs, strict=True)],
            [pair.target_hu[:, pair.columns] for pair in pairs],
            range_hu=range_hu,
            neighbours=find_neighbours(pairs),
        ),
    )
