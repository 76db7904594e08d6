"""Lung lesions: their shapes, densities and places, and how much of a pixel they fill."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ltdiff.simulation.shapes import Coordinate, Grid, coverage, union

LESION_HU = (-800.0, -630.0, -10.0, 100.0)
SHAPES = ("spherical", "elliptical", "lobulated", "spiculated")
DIAMETER_RANGE_MM = (3.0, 20.0)
_SAMPLE_MM = 0.5  # along z
_GAP_MM = 2.0  # kept from the lung's surface and from other lesions
_TEXTURED_SHARE = 0.4


@dataclass(frozen=True)
class Lesion:
    """One lesion. `parts` (P, 4) are its lobes (centre offset and radius in mm) or spikes (direction and width)."""

    label: int
    hu: float
    diameter_mm: float
    shape: str
    textured: bool
    centre_mm: tuple[float, float, float]
    parts: np.ndarray

    def distance(self, x: Coordinate, y: Coordinate, z: Coordinate) -> np.ndarray:
        """Distance to the surface in mm, positive inside."""
        dx, dy, dz = (np.asarray(v - c) for v, c in zip((x, y, z), self.centre_mm, strict=True))
        radius_mm = self.diameter_mm / 2
        r = np.sqrt(dx**2 + dy**2 + dz**2)
        if self.shape == "spherical":
            return radius_mm - r
        if self.shape == "elliptical":
            return _ellipsoid(dx, dy, dz, self.parts)
        if self.shape == "lobulated":
            return _lobes(dx, dy, dz, self.parts)
        return _spikes(dx, dy, dz, r, radius_mm, self.parts)

    def window(self, grid: Grid) -> tuple[slice, slice]:
        """Rows and columns of the grid that the lesion can touch."""
        reach_mm = self.diameter_mm / 2 + 2 * grid.pixel_mm
        cx, cy, _ = self.centre_mm
        return grid.window(cy - reach_mm, cy + reach_mm), grid.window(cx - reach_mm, cx + reach_mm)

    def fill(self, grid: Grid, *, z_mm: float, thickness_mm: float) -> np.ndarray:
        """Share of each pixel of `window(grid)` that the lesion fills, averaged over the slice's thickness; 0 … 1."""
        rows, columns = self.window(grid)
        num_samples = max(1, round(thickness_mm / _SAMPLE_MM))
        offsets = ((np.arange(num_samples) + 0.5) / num_samples - 0.5) * thickness_mm
        z = (z_mm + offsets)[:, None, None]
        distance = self.distance(grid.axis_mm[columns], grid.axis_mm[rows][:, None], z)
        return coverage(distance, grid.pixel_mm).mean(axis=0)


def draw_lesions(
    num_lesions: int,
    *,
    z_range_mm: tuple[float, float],
    lung_distance: Callable[[Coordinate, Coordinate, Coordinate], np.ndarray],
    rng: np.random.Generator,
) -> list[Lesion]:
    """Lesions with every density in turn, inside the lungs and apart from each other; fewer where there is no room."""
    lesions: list[Lesion] = []
    for number in range(num_lesions):
        diameter_mm = float(rng.uniform(*DIAMETER_RANGE_MM))
        centre = _find_place(diameter_mm, lesions, z_range_mm, lung_distance, rng)
        if centre is None:
            continue
        shape = SHAPES[rng.integers(len(SHAPES))]
        lesions.append(
            Lesion(
                label=len(lesions) + 1,
                hu=LESION_HU[number % len(LESION_HU)],
                diameter_mm=diameter_mm,
                shape=shape,
                textured=bool(rng.random() < _TEXTURED_SHARE),
                centre_mm=centre,
                parts=_draw_parts(shape, diameter_mm / 2, rng),
            )
        )
    return lesions


def _find_place(
    diameter_mm: float,
    others: list[Lesion],
    z_range_mm: tuple[float, float],
    lung_distance: Callable[[Coordinate, Coordinate, Coordinate], np.ndarray],
    rng: np.random.Generator,
) -> tuple[float, float, float] | None:
    """A random centre with room for a lesion, or None when 2000 tries found none."""
    x, y = rng.uniform(-150, 150, 2000), rng.uniform(-120, 120, 2000)
    z = rng.uniform(*z_range_mm, 2000)
    room_mm = lung_distance(x, y, z)
    for other in others:
        gap = np.linalg.norm(np.stack([x, y, z], axis=1) - other.centre_mm, axis=1) - other.diameter_mm / 2
        room_mm = np.minimum(room_mm, gap)
    free = np.flatnonzero(room_mm > diameter_mm / 2 + _GAP_MM)
    if not len(free):
        return None
    return float(x[free[0]]), float(y[free[0]]), float(z[free[0]])


def _draw_parts(shape: str, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    if shape == "elliptical":
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return np.column_stack([axes, radius_mm * np.array([1.0, rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.8)])])
    if shape == "lobulated":
        directions = _directions(int(rng.integers(4, 8)), rng)
        lobe_mm = rng.uniform(0.35, 0.5, len(directions)) * radius_mm
        return np.column_stack([directions * (radius_mm - lobe_mm)[:, None], lobe_mm])
    if shape == "spiculated":
        directions = _directions(int(rng.integers(9, 16)), rng)
        return np.column_stack([directions, rng.uniform(0.12, 0.25, len(directions)) * radius_mm])
    return np.zeros((0, 4))


def _directions(num: int, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.normal(size=(num, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _ellipsoid(dx: np.ndarray, dy: np.ndarray, dz: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Rows of `axes` are a unit vector and the radius along it."""
    scaled = np.sqrt(sum(((dx * ax + dy * ay + dz * az) / radius) ** 2 for ax, ay, az, radius in axes))
    return (1 - scaled) * axes[:, 3].min()


def _lobes(dx: np.ndarray, dy: np.ndarray, dz: np.ndarray, lobes: np.ndarray) -> np.ndarray:
    """Rows of `lobes` are a sphere's offset and radius; a core joins them."""
    distance = 0.6 * np.linalg.norm(lobes[:, :3], axis=1).max() - np.sqrt(dx**2 + dy**2 + dz**2)
    for ox, oy, oz, radius in lobes:
        sphere = radius - np.sqrt((dx - ox) ** 2 + (dy - oy) ** 2 + (dz - oz) ** 2)
        distance = union(distance, sphere, blend_mm=0.3 * radius)
    return distance


def _spikes(dx: np.ndarray, dy: np.ndarray, dz: np.ndarray, r: np.ndarray, radius_mm: float, spikes: np.ndarray) -> np.ndarray:
    """Rows of `spikes` are a direction and the width of a cone that ends `radius_mm` from the centre, round a core."""
    distance = 0.6 * radius_mm - r
    for ux, uy, uz, width in spikes:
        along = dx * ux + dy * uy + dz * uz
        across = np.sqrt(np.maximum(r**2 - along**2, 0))
        cone = np.minimum(width * (1 - along / radius_mm) - across, along)
        distance = np.maximum(distance, cone)
    return distance
