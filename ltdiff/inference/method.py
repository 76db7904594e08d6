"""What can standardize slices, and the simplest that can: the linear kernel match."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.physics.noise_match import NoiseMatch

Slices = NDArray[np.float32]


class Method(Protocol):
    """Anything that standardizes source slices, in several threads at a time. It gets the source alone, never the target."""

    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        """A' in HU, whole numbers, (Z, H, W) of source slices (Z, H, W) with PixelSpacing (y, x).

        `first_slice` is the number of hu[0] in its series, for methods that draw noise.
        """


class SamplingMethod(Method, Protocol):
    """A method that knows the distribution of B, and can draw images from it."""

    def samples(
        self,
        slices_hu: Sequence[Slices] | Slices,
        spacings_mm: Iterable[Sequence[float]],
        *,
        numbers: Sequence[int],
        num: int,
        num_workers: int = 1,
    ) -> Iterator[list[Slices]]:
        """`num` sets of what B may be, (Y, X) in whole HU, of source slices (Y, X) with PixelSpacings (y, x); several at a time.

        The noise depends on the number of slice and set alone.
        """


class LinearMatch(Method):
    """Ã = h∗A, clipped to the target's range (see `KernelMatch`); and where the target has another dose, or the source was
    noise-reduced, with the target's noise."""

    def __init__(self, kernel_match: KernelMatch, noise_match: NoiseMatch | DrawnNoise | None = None) -> None:
        self.kernel_match, self.noise_match = kernel_match, noise_match

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        matched: Slices = self.kernel_match(torch.from_numpy(hu), spacing_mm).numpy()
        if self.noise_match is not None:
            low, high = (float(value) for value in self.kernel_match.range_hu)
            made = [self.noise_match(one, source, spacing_mm) for one, source in zip(matched, hu, strict=True)]
            matched = np.stack(made).clip(low, high)
        return matched.round()
