"""Noise reduction of a source protocol: filters that take as much noise as it does, for made sources.

What a vendor's iterative reconstruction or denoiser does is not public. Here several edge-preserving filters stand for it: the
diffusion of Perona & Malik with edges of several heights, and total variation. Each is made so strong that it leaves the noise of
the source protocol, and those whose noise has another texture than the protocol's are left out. A network that has seen several
does not learn to undo one of them alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_windows import FIRST_RING, RING_PER_MM, NoiseModel, NoiseWindows, noise_windows

DIFFUSION_STEP = 0.2
"""At most 1/4 keeps the explicit scheme stable."""
NUM_PROJECTIONS = 20
"""Iterations of total variation: more change less than the strength is known."""
EDGES_SIGMA = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Heights of edges of the diffusions, in standard deviations of the noise that is to be reduced."""
MAX_DIFFUSION_STEPS, MAX_WEIGHT_SIGMA = 20.0, 4.0
LEAST_STRENGTH, STRENGTH_TOLERANCE = 0.02, 0.02
"""Share of the largest strength from which on it is looked for, and how near it is found, as a logarithm."""
SHAPE_TOLERANCE = 2.0
"""Filters are used whose noise has at most so many times the spectral misfit of the best one's."""

Image = NDArray[np.float32]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseFilter:
    """A filter that takes noise away and keeps edges.

    `strength` is the number of steps of a `diffusion`, which need not be whole, with edges of `edge_hu`; or the weight in HU of
    `total_variation`.
    """

    kind: Literal["diffusion", "total_variation"]
    strength: float
    edge_hu: float = 0.0

    def __call__(self, hu: Image) -> Image:
        """(H, W) in HU → the same with less noise."""
        if self.kind == "diffusion":
            return diffuse(hu, edge_hu=self.edge_hu, num_steps=self.strength)
        return smooth_total_variation(hu, weight_hu=self.strength)


def diffuse(hu: NDArray[np.floating], *, edge_hu: float, num_steps: float) -> Image:
    """Smooth an image (H, W) in HU where its steps are small (Perona & Malik 1990, conductance exp(−(∇/edge)²)).

    Noise falls in flat tissue, edges from some `edge_hu` on stay, and the response depends on contrast. Of a number of steps that
    is not whole, the last one is a part.
    """
    result = hu.astype(np.float32)
    for number in range(int(np.ceil(num_steps))):
        length = DIFFUSION_STEP * min(1.0, num_steps - number)
        change = np.zeros_like(result)
        for axis in (0, 1):
            step = np.diff(result, axis=axis)
            flow = length * step * np.exp(-((step / edge_hu) ** 2))
            before = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
            after = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            change[before] += flow
            change[after] -= flow
        result += change
    return result


def smooth_total_variation(hu: NDArray[np.floating], *, weight_hu: float, num_iterations: int = NUM_PROJECTIONS) -> Image:
    """Minimize ½‖u − hu‖² + weight·TV(u) over images u (H, W) by the projection of Chambolle (2004)."""
    wanted = hu.astype(np.float32)
    p = np.zeros((2, *wanted.shape), np.float32)
    for _ in range(num_iterations):
        image = wanted + weight_hu * _divergence(p)
        gradient = np.stack([np.diff(image, axis=axis, append=0) for axis in (0, 1)]) / np.float32(weight_hu)
        gradient[0, -1], gradient[1, :, -1] = 0, 0
        p = (p + 0.24 * gradient) / (1 + 0.24 * np.sqrt((gradient**2).sum(axis=0)))
    return wanted + weight_hu * _divergence(p)


def _divergence(p: Image) -> Image:
    return np.diff(p[0], axis=0, prepend=0) + np.diff(p[1], axis=1, prepend=0)


def fit_noise_filters(
    images: Sequence[Image], spacings_mm: Sequence[tuple[float, float]], wanted: NoiseModel, *, max_per_mm: float
) -> tuple[NoiseFilter, ...]:
    """The filters that leave of the noise of `images` (H, W) in HU what a noise-reduced protocol has, `wanted`.

    Noise is compared up to a frequency. There are no filters where quiet windows are too few, or the images have less noise as
    they are.
    """
    fit = _FilterFit(images, spacings_mm, wanted, max_per_mm)
    if not fit.is_possible:
        return ()
    sigma_hu = fit.sigma_hu
    kinds = [(NoiseFilter("diffusion", MAX_DIFFUSION_STEPS, edge * sigma_hu)) for edge in EDGES_SIGMA]
    kinds.append(NoiseFilter("total_variation", MAX_WEIGHT_SIGMA * sigma_hu))
    found = [one for one in map(fit.solve, kinds) if one is not None]
    least = min((misfit for _, misfit in found), default=0.0)
    return tuple(one for one, misfit in found if misfit <= SHAPE_TOLERANCE * least)


class _FilterFit:
    """Measures what noise is left over in quiet windows of filtered images, beside what is wanted."""

    def __init__(
        self, images: Sequence[Image], spacings_mm: Sequence[tuple[float, float]], wanted: NoiseModel, max_per_mm: float
    ) -> None:
        self.images, self.spacings_mm, self.wanted = images, spacings_mm, wanted
        self.places = [noise_place(image, spacing_mm) for image, spacing_mm in zip(images, spacings_mm, strict=True)]
        before = self._quiet(images)
        num_rings = min(before.power.shape[1], len(wanted.power), int(max_per_mm / RING_PER_MM + 0.5) + 1)
        self.rings_per_mm = np.arange(FIRST_RING, num_rings) * RING_PER_MM
        self.is_possible = len(before) > 0 and len(self.rings_per_mm) > 0
        if self.is_possible:
            self.place = np.median(before.place, axis=0)
            self.sigma_hu = _sigma_hu(self.rings_per_mm, before.model().at(self.rings_per_mm, self.place))
            self.is_possible = bool(self._log_ratio(images).mean() > 0)

    def solve(self, strongest: NoiseFilter) -> tuple[NoiseFilter, float] | None:
        """The filter of a strength up to this that leaves as much noise as wanted, and the spread of the log ratio of its power
        over frequencies; None where none leaves so little."""

        def excess(log_share: float) -> float:
            return float(self._log_ratio(self._filtered(_of_share(strongest, log_share))).mean())

        least = float(np.log(LEAST_STRENGTH))
        if excess(0.0) > 0 or excess(least) < 0:
            return None
        fitted = _of_share(strongest, brentq(excess, least, 0.0, xtol=STRENGTH_TOLERANCE))
        return fitted, float(self._log_ratio(self._filtered(fitted)).std())

    def _filtered(self, noise_filter: NoiseFilter) -> list[Image]:
        return [noise_filter(image) for image in self.images]

    def _log_ratio(self, images: Sequence[Image]) -> Float:
        """Of the noise power left over to that wanted, at each ring."""
        quiet = self._quiet(images).model()
        return np.log(quiet.at(self.rings_per_mm, self.place) / self.wanted.at(self.rings_per_mm, self.place))

    def _quiet(self, images: Sequence[Image]) -> NoiseWindows:
        parts = zip(images, self.spacings_mm, self.places, strict=True)
        return NoiseWindows.join([noise_windows(image, spacing_mm, place=place) for image, spacing_mm, place in parts]).quiet


def _of_share(strongest: NoiseFilter, log_share: float) -> NoiseFilter:
    return replace(strongest, strength=float(strongest.strength * np.exp(log_share)))


def _sigma_hu(frequencies_per_mm: Float, power: Float) -> float:
    """Standard deviation of noise of this power in HU² mm², which falls to 0 with the frequency below the first one (the ramp of
    filtered back-projection)."""
    low = power[0] * frequencies_per_mm[0] ** 2 / 3
    return float(np.sqrt(2 * np.pi * (low + np.trapezoid(power * frequencies_per_mm, frequencies_per_mm))))
