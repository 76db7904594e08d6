"""The patient's surroundings in the scan field: clothes, and the couch, which every field of view cuts off.

The cut matters: an image that ends in something bright has power at all frequencies in which no kernel shows.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ltdiff.simulation.shapes import Grid, coverage

_SHELL_HU, _FOAM_HU, _FRAME_HU, _CLOTH_HU = 60.0, -965.0, -300.0, -500.0
_HALF_WIDTH_MM = 235.0
_SHEET_MM = 0.4  # half of a cloth's thickness
_SHEETS = ((7, 3.5), (5, 8.0), (9, 17.0), (4, 24.0))  # number of folds, and mean distance from the skin in mm
CLOTHES_REACH_MM = 40.0


@dataclass(frozen=True)
class Couch:
    """A curved carbon shell with a foam core, `top_y_mm` below the isocentre, on a solid frame; and clothes."""

    top_y_mm: float
    curvature_per_mm: float
    depth_mm: float
    frame_half_width_mm: float
    fold_phase: float

    def attenuation(self, grid: Grid) -> np.ndarray:
        """HU above air (size, size) of the couch, read-only."""
        return _couch_attenuation(self, grid)

    def clothes(self, outside_mm: np.ndarray, x: np.ndarray, y: np.ndarray, *, pixel_mm: float) -> np.ndarray:
        """HU above air of folded sheets; `outside_mm` is the distance from the skin, x (columns,), y (rows, 1)."""
        angle = np.arctan2(x, -y)
        total = np.zeros_like(outside_mm)
        for folds, height_mm in _SHEETS:
            waves = np.sin(folds * angle + self.fold_phase) + 0.5 * np.sin((3 * folds + 1) * angle - self.fold_phase)
            total += coverage(_SHEET_MM - np.abs(outside_mm - height_mm * (1 + 0.35 * waves)), pixel_mm)
        return np.where((y < self.top_y_mm - 25) & (outside_mm > 0), np.minimum(total, 1) * (_CLOTH_HU + 1000), 0)


@lru_cache(maxsize=2)
def _couch_attenuation(couch: Couch, grid: Grid) -> np.ndarray:
    x, y = grid.axis_mm, grid.axis_mm[:, None]
    below_mm = y - couch.top_y_mm + couch.curvature_per_mm * x**2
    inside = np.minimum(np.minimum(below_mm, couch.depth_mm - below_mm), _HALF_WIDTH_MM - np.abs(x))
    frame = np.minimum(couch.frame_half_width_mm - np.abs(x), below_mm - couch.depth_mm - 6)
    frame = np.minimum(frame, 240 - np.hypot(x, y))  # the scan field ends at 250
    hu = coverage(inside, grid.pixel_mm) * (_FOAM_HU + 1000)
    for shape, value in ((1.2 - np.abs(inside), _SHELL_HU), (frame, _FRAME_HU)):
        hu += coverage(shape, grid.pixel_mm) * (value + 1000 - hu)
    hu.setflags(write=False)
    return hu


def draw_couch(patient_back_mm: float, rng: np.random.Generator) -> Couch:
    """A couch under a patient whose back is `patient_back_mm` below the isocentre."""
    return Couch(
        top_y_mm=patient_back_mm + rng.uniform(6, 10),
        curvature_per_mm=rng.uniform(5e-4, 9e-4),
        depth_mm=rng.uniform(20, 30),
        frame_half_width_mm=rng.uniform(40, 75),
        fold_phase=rng.uniform(0, 6),
    )
