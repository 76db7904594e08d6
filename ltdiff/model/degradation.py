"""Made sources: what the source protocol could have made of a target's anatomy, for training where there are no pairs.

A* = clip(round(g ∗ B)), with g = 1/h of a spectral match. Every time another h of the match's bootstrap: a network that is always
fed with the same h learns to undo its errors, and is lost on a true source. Then rounded and clipped as the source is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ltdiff.model.kernel_match import KernelMatch

Image = NDArray[np.float32]

MAX_INVERSE_GAIN = 20.0
"""Where h is smaller than one over it, the target holds too little to make a source of."""


@dataclass(frozen=True)
class Degradation:
    """Gains g (B, K) of several draws at `knots_per_mm` (K,), and the ends of what a source stores."""

    knots_per_mm: tuple[float, ...]
    gains: tuple[tuple[float, ...], ...]
    range_hu: tuple[float, float]

    @classmethod
    def inverting(
        cls, knots_per_mm: NDArray[np.float64], gains: NDArray[np.float64], range_hu: tuple[float, float]
    ) -> "Degradation":
        """Of the gains h (B, K)."""
        inverse = np.minimum(1 / gains, MAX_INVERSE_GAIN)
        return cls(tuple(knots_per_mm.tolist()), tuple(tuple(row) for row in inverse.tolist()), range_hu)

    def __call__(self, hu: Image, spacing_mm: tuple[float, float], generator: np.random.Generator) -> Image:
        """A source in whole HU (H, W) of a target (H, W) in HU with PixelSpacing (y, x)."""
        made = self._filter(int(generator.integers(len(self.gains))))(torch.from_numpy(np.ascontiguousarray(hu)), spacing_mm)
        return made.round().numpy()

    def _filter(self, number: int) -> KernelMatch:
        return KernelMatch.of(self.knots_per_mm, self.gains[number], self.range_hu)
