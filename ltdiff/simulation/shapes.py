"""Grids and signed distances (mm, positive inside) from which the phantom is put together.

All functions broadcast: `x`, `y` and `z` are coordinates in mm as arrays or numbers, x to the patient's left (the
image's right), y to the back (down) and z to the head.
"""

from dataclasses import dataclass

import numpy as np

Coordinate = np.ndarray | float


@dataclass(frozen=True)
class Grid:
    """A square grid of pixels whose isocentre is the centre of pixel `size // 2`."""

    size: int
    pixel_mm: float

    @property
    def axis_mm(self) -> np.ndarray:
        """Coordinates (size,) of the pixel centres, float32."""
        return ((np.arange(self.size) - self.size // 2) * self.pixel_mm).astype(np.float32)

    def window(self, low_mm: float, high_mm: float) -> slice:
        """The pixels whose centres lie between two coordinates, as far as the grid reaches."""
        first, last = np.searchsorted(self.axis_mm, (low_mm, high_mm))
        return slice(int(first), int(last))


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the axes; with the default `radius_z_mm` a cylinder along z."""

    centre_mm: tuple[float, float, float]
    radius_x_mm: float
    radius_y_mm: float
    radius_z_mm: float = np.inf

    def distance(self, x: Coordinate, y: Coordinate, z: Coordinate) -> np.ndarray:
        """Distance to the surface along the ray from the centre."""
        dx, dy, dz = (v - c for v, c in zip((x, y, z), self.centre_mm, strict=True))
        scaled = np.sqrt((dx / self.radius_x_mm) ** 2 + (dy / self.radius_y_mm) ** 2 + (dz / self.radius_z_mm) ** 2)
        if np.isinf(self.radius_z_mm):
            dz = 0.0
        return along_ray(np.sqrt(dx**2 + dy**2 + dz**2), scaled)


def along_ray(radius_mm: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Distance to a surface at `scaled` = 1, where `scaled` grows in proportion to the radius on each ray."""
    return radius_mm / np.maximum(scaled, 1e-3) - radius_mm


def rounded_box_distance(dx: np.ndarray, dy: np.ndarray, radius_x_mm: Coordinate, radius_y_mm: Coordinate) -> np.ndarray:
    """Distance to an outline half way between an ellipse and a superellipse of power 4: a trunk, seen along z."""
    u, v = (dx / radius_x_mm) ** 2, (dy / radius_y_mm) ** 2
    scaled = 0.5 * (np.sqrt(u + v) + np.sqrt(np.sqrt(u * u + v * v)))
    return along_ray(np.sqrt(dx * dx + dy * dy), scaled)


def union(first: np.ndarray, second: np.ndarray, *, blend_mm: float) -> np.ndarray:
    """Union of two shapes whose junction is rounded over `blend_mm`."""
    bridge = np.maximum(blend_mm - np.abs(first - second), 0)
    return np.maximum(first, second) + bridge * bridge * (0.25 / blend_mm)


def coverage(distance_mm: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Share of a pixel that lies inside a shape, 0 … 1."""
    return np.clip(distance_mm * (1 / pixel_mm) + 0.5, 0, 1)


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between."""
    t = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)
