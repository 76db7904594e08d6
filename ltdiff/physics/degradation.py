"""Made sources: what the source protocol could have made of a target's anatomy, for training where there are no pairs.

A* = clip(round(g ∗ B')), with g = 1/h of a spectral match, and B' the target with a matched source's noise: more of it, drawn
anew, where the source's dose was lower, and less where it was higher (`NoiseMatch.reversed`). Where the source protocol reduces
noise, g ∗ B is filtered instead (`noise_reduction`), for no spectrum tells what that does to texture. Each time another h of the
match's bootstrap: a network that is always fed with the same h learns to undo its errors, and is lost on a true source. Rounded
and clipped as the source is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.physics.noise_match import NoiseMatch, NoisePlace
from ltdiff.physics.noise_reduction import NoiseFilter

Image = NDArray[np.float32]
DegradePart = Callable[[Image, tuple[int, int], np.random.Generator], Image]
"""(part of a target (h, w) in HU, its corner (y, x) in the slice, random numbers) → that part of a source in HU"""

MAX_INVERSE_GAIN = 20.0
"""Where h is smaller than one over it, the target holds too little to make a source of."""


def inverse_gains(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gains g = 1/h, as far as the target holds something."""
    return np.minimum(1 / gains, MAX_INVERSE_GAIN)


@dataclass(frozen=True)
class Degradation:
    """Gains g (B, K) of several draws at `knots_per_mm` (K,), the ends of what a source stores, and where the doses differ what
    gives a target the noise of a matched source; or the filters of a protocol that reduces noise.
    """

    knots_per_mm: tuple[float, ...]
    gains: tuple[tuple[float, ...], ...]
    range_hu: tuple[float, float]
    noise_match: NoiseMatch | None = None
    noise_filters: tuple[NoiseFilter, ...] = ()

    @classmethod
    def inverting(
        cls,
        knots_per_mm: NDArray[np.float64],
        gains: NDArray[np.float64],
        range_hu: tuple[float, float],
        noise_match: NoiseMatch | None = None,
        noise_filters: tuple[NoiseFilter, ...] = (),
    ) -> "Degradation":
        """Of the gains h (B, K), of the noise match source → target, and of the source's noise filters, which come first."""
        rows = tuple(tuple(row) for row in inverse_gains(gains).tolist())
        back = None if noise_match is None or noise_filters else noise_match.reversed
        return cls(tuple(knots_per_mm.tolist()), rows, range_hu, back, noise_filters)

    def __call__(self, hu: Image, spacing_mm: tuple[float, float]) -> DegradePart:
        """What makes sources, in whole HU, of a target (H, W) in HU with PixelSpacing (y, x), or of parts of it."""
        place = None if self.noise_match is None else NoisePlace.of(hu, spacing_mm)

        def degrade(part: Image, corner: tuple[int, int], generator: np.random.Generator) -> Image:
            number = int(generator.integers(len(self.gains)))
            if self.noise_match is not None and place is not None:
                part = self.noise_match.match_part(part, corner, place, generator, steps_per_window=2)
            made = self._filter(number)(torch.from_numpy(np.ascontiguousarray(part)), spacing_mm).numpy()
            if self.noise_filters:
                made = self.noise_filters[int(generator.integers(len(self.noise_filters)))](made)
            return made.round()

        return degrade

    def _filter(self, number: int) -> KernelMatch:
        return KernelMatch.of(self.knots_per_mm, self.gains[number], self.range_hu)
