"""A phantom of cylinders whose edges are known, for measuring resolution: half of it water, half lung, with inserts in both.

It is the same in every slice, so one set of line integrals serves for any number of noisy scans.
"""

from dataclasses import dataclass

import numpy as np

from ltdiff.simulation.anatomy import AIR_HU
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.reconstruction import object_grid
from ltdiff.simulation.shapes import Ellipsoid, coverage

WATER_HU, LUNG_HU = 0.0, -850.0
INSERT_RADIUS_MM = 10.0
CLEARANCE_MM = 9.0
"""Distance from an insert's edge within which there is only its background."""
INSERTS_HU = {LUNG_HU: (100.0, -630.0), WATER_HU: (-800.0, 100.0)}
"""Background: inserts in turn."""
MIN_FOV_MM = 320.0
"""Images that show all inserts."""
_TRUNK_MM = (170.0, 120.0)
_HALF_X_MM = 82.0  # from the middle of the trunk to that of a half's inserts
_RINGS = ((0.0, 1), (29.0, 5), (58.0, 11))  # radius in mm, number of inserts
_SUPERSAMPLING = 4  # object pixels per image pixel, along each axis: as good as sharp at the image's Nyquist frequency


@dataclass(frozen=True)
class Insert:
    """A cylinder along z of INSERT_RADIUS_MM with its centre (x, y), in a background."""

    centre_mm: tuple[float, float]
    hu: float
    background_hu: float


def place_inserts() -> tuple[Insert, ...]:
    """All inserts: in lung on the right side of the patient, in water on the left."""
    places = [
        (radius_mm * np.cos(angle), radius_mm * np.sin(angle))
        for radius_mm, num in _RINGS
        for angle in 2 * np.pi * np.arange(num) / num
    ]
    return tuple(
        Insert((side * _HALF_X_MM + float(x), float(y)), INSERTS_HU[background_hu][number % 2], background_hu)
        for side, background_hu in ((-1, LUNG_HU), (1, WATER_HU))
        for number, (x, y) in enumerate(places)
    )


def project_inserts(config: SimulationConfig) -> np.ndarray:
    """Line integrals (num_views, num_detectors) of the phantom without noise.

    Raises:
        ValueError: the field of view does not show all inserts.
    """
    if config.fov_mm < MIN_FOV_MM:
        raise ValueError(f"the edges need a field of view of at least {MIN_FOV_MM:g} mm, not {config.fov_mm:g} mm")
    grid = object_grid(config, supersampling=_SUPERSAMPLING)
    x, y = grid.axis_mm, grid.axis_mm[:, None]
    lung_mm = max(radius_mm for radius_mm, _ in _RINGS) + INSERT_RADIUS_MM + CLEARANCE_MM
    discs = [
        (Ellipsoid((0.0, 0.0, 0.0), *_TRUNK_MM), WATER_HU),
        (Ellipsoid((-_HALF_X_MM, 0.0, 0.0), lung_mm, lung_mm), LUNG_HU),
        *((Ellipsoid((*one.centre_mm, 0.0), INSERT_RADIUS_MM, INSERT_RADIUS_MM), one.hu) for one in place_inserts()),
    ]
    hu = np.full((grid.size, grid.size), AIR_HU, np.float32)
    for disc, value in discs:
        cx, cy, _ = disc.centre_mm
        rows = grid.window(cy - disc.radius_y_mm - 1, cy + disc.radius_y_mm + 1)
        columns = grid.window(cx - disc.radius_x_mm - 1, cx + disc.radius_x_mm + 1)
        fill = coverage(disc.distance(x[columns], y[rows], 0.0), grid.pixel_mm)
        hu[rows, columns] += fill * (np.float32(value) - hu[rows, columns])
    return config.scanner.project(hu, pixel_mm=grid.pixel_mm)
