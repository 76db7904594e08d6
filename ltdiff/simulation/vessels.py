"""Branching tubes in the lungs: vessels down to a fraction of a millimetre, and bronchi."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.special

from ltdiff.simulation.shapes import Grid

_MURRAY_EXPONENT = 2.7  # of radius in the law of branching, measured 2.3 … 3 in lungs
_STEP_MM = 0.4


@dataclass(frozen=True)
class Tubes:
    """Points (N, 3) along tubes in mm sorted by z, each standing for `length_mm` of a tube of `radius_mm`; all (N,).

    Drawing takes one Fourier transform for each different radius, of which a tree has few.
    """

    points_mm: np.ndarray
    radius_mm: np.ndarray
    length_mm: np.ndarray

    def fill(self, grid: Grid, *, z_mm: float, thickness_mm: float) -> np.ndarray:
        """Share (size, size) of each pixel, averaged over the slice's thickness, that is inside the tubes; 0 … 1.

        Centre lines are summed over the slice and convolved with a disc of the tube's radius: exact for a tube along z
        and for one that lies in the slice.
        """
        reach_mm = thickness_mm / 2 + float(self.radius_mm.max(initial=0))
        near = slice(*np.searchsorted(self.points_mm[:, 2], (z_mm - reach_mm, z_mm + reach_mm)))
        points, radius = self.points_mm[near], self.radius_mm[near]
        share = _share_within(points[:, 2] - z_mm, radius, thickness_mm)
        volume = np.pi * radius**2 * self.length_mm[near] * share / (thickness_mm * grid.pixel_mm**2)
        index = np.round(points[:, :2] / grid.pixel_mm).astype(int) + grid.size // 2
        inside = ((index >= 0) & (index < grid.size)).all(axis=1) & (volume > 0)
        flat = index[:, 1] * grid.size + index[:, 0]
        spectrum = np.zeros((grid.size, grid.size // 2 + 1), np.complex64)
        for radius_mm in np.unique(radius[inside]):
            chosen = inside & (radius == radius_mm)
            image = np.bincount(flat[chosen], volume[chosen], grid.size**2).astype(np.float32)
            spectrum += scipy.fft.rfft2(image.reshape(grid.size, grid.size)) * _disc(grid, float(radius_mm))
        return np.clip(scipy.fft.irfft2(spectrum, s=(grid.size, grid.size)), 0, 1)


def grow_tree(root_mm: np.ndarray, targets_mm: np.ndarray, *, leaf_radius_mm: float, rng: np.random.Generator) -> Tubes:
    """A tree from `root_mm` (3,) that ends at every target (2^k, 3): each branch serves half of its parent's targets.

    Radii follow Murray's law from `leaf_radius_mm` at the targets.
    """
    assert len(targets_mm).bit_count() == 1, "the targets are halved until one is left"
    groups, starts, parts = targets_mm[None], root_mm[None], []
    while True:
        size = groups.shape[1]
        step = 1.0 if size == 1 else 0.4
        ends = starts + step * (groups.mean(axis=1) - starts)
        parts.append(_sample_tubes(starts, ends, leaf_radius_mm * size ** (1 / _MURRAY_EXPONENT), rng))
        if size == 1:
            return _join(parts)
        groups, starts = _halve(groups, rng), np.repeat(ends, 2, axis=0)


def accompany(tubes: Tubes, *, min_radius_mm: float, relative_radius: float) -> Tubes:
    """Tubes beside those of at least `min_radius_mm`: bronchi run along arteries."""
    wide = tubes.radius_mm >= min_radius_mm
    radius = tubes.radius_mm[wide] * relative_radius
    points = tubes.points_mm[wide].copy()
    points[:, 1] += (1.1 * tubes.radius_mm[wide] + radius).astype(points.dtype)
    return Tubes(points, radius, tubes.length_mm[wide])


def merge(*tubes: Tubes) -> Tubes:
    """All tubes as one set."""
    return _join([(t.points_mm, t.radius_mm, t.length_mm) for t in tubes])


def _halve(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups (G, n, 3) split across a long extent, mostly the longest, into (2 G, n / 2, 3)."""
    variance = groups.var(axis=1)
    axis = (variance * rng.lognormal(sigma=0.7, size=variance.shape)).argmax(axis=1)
    key = np.take_along_axis(groups, axis[:, None, None], axis=2)[..., 0]
    ordered = np.take_along_axis(groups, key.argsort(axis=1)[..., None], axis=1)
    return ordered.reshape(2 * len(groups), -1, 3)


def _sample_tubes(
    starts: np.ndarray, ends: np.ndarray, radius_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along slightly bent lines (G, 3) → (G, 3), with radius and length."""
    length = np.linalg.norm(ends - starts, axis=1)
    bend = rng.normal(scale=0.08, size=starts.shape) * length[:, None]
    num = np.maximum(1, np.ceil(length / _STEP_MM)).astype(int)
    tube = np.repeat(np.arange(len(num)), num)
    t = ((np.arange(len(tube)) - np.repeat(num.cumsum() - num, num) + 0.5) / num[tube])[:, None]
    points = starts[tube] * (1 - t) + ends[tube] * t + 4 * t * (1 - t) * bend[tube]
    return points, np.full(len(tube), radius_mm), (length / num)[tube]


def _join(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Tubes:
    points, radius, length = (np.concatenate(p).astype(np.float32) for p in zip(*parts, strict=True))
    order = points[:, 2].argsort(kind="stable")
    return Tubes(points[order], radius[order], length[order])


def _share_within(offset_mm: np.ndarray, radius_mm: np.ndarray, thickness_mm: float) -> np.ndarray:
    """Share of a disc's area, centred `offset_mm` from the slice's middle and seen edge-on, within its thickness."""

    def area_below(z: np.ndarray) -> np.ndarray:
        u = np.clip(z / radius_mm, -1, 1)
        return 0.5 + (u * np.sqrt(1 - u * u) + np.arcsin(u)) / np.pi

    return area_below(thickness_mm / 2 - offset_mm) - area_below(-thickness_mm / 2 - offset_mm)


@lru_cache(maxsize=64)
def _disc(grid: Grid, radius_mm: float) -> np.ndarray:
    """Transform (size, size // 2 + 1) of a disc of integral 1."""
    frequency = scipy.fft.fftfreq(grid.size, grid.pixel_mm)
    radial = np.hypot(frequency[:, None], scipy.fft.rfftfreq(grid.size, grid.pixel_mm))
    argument = np.maximum(2 * np.pi * radial * radius_mm, 1e-6)
    return (2 * scipy.special.j1(argument) / argument).astype(np.float32)
