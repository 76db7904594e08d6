"""Where the scanner's axis of rotation passes through a slice.

A CT image is not the same everywhere: resolution and noise have a radial and an azimuthal direction and change with the
distance from the isocentre, and so does what two reconstruction kernels do differently. The isocentre is seldom in the middle
of the image and hardly ever in the tags, but where the image reaches beyond the scan field, the scanner's filler leaves a
circle round it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MIN_BOUNDARY_PX = 60
MIN_INLIERS = 0.6
"""Share of the filler's boundary that must lie on the circle."""
INLIER_PX = 1.5
RADIUS_RANGE_MM = (100.0, 400.0)
MIN_ARC_DEG = 60.0
NUM_REFITS = 8


class Circle(NamedTuple):
    """Centre and radius in pixels, which are taken as square."""

    y: float
    x: float
    radius: float


def find_isocentre(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """(y, x) in pixels of a source slice (Y, X): the centre of the scan field, or the image's where no field shows."""
    middle = (hu.shape[0] - 1) / 2, (hu.shape[1] - 1) / 2
    if abs(spacing_mm[0] - spacing_mm[1]) > 0.01 * spacing_mm[0]:
        return middle
    circle = _fit_circle(*_filler_boundary(hu))
    if circle is None or not RADIUS_RANGE_MM[0] <= circle.radius * spacing_mm[0] <= RADIUS_RANGE_MM[1]:
        return middle
    is_inside = 0 <= circle.y < hu.shape[0] and 0 <= circle.x < hu.shape[1]
    return (circle.y, circle.x) if is_inside else middle


def _filler_boundary(hu: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of the pixels that touch the constant regions in the corners, the image's own edge left out."""
    constant, _ = ndimage.label(hu == hu.min())
    corners = set(constant[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) - {0}
    filler = np.isin(constant, list(corners))
    boundary = ndimage.binary_dilation(filler) & ~filler
    boundary[:2], boundary[-2:], boundary[:, :2], boundary[:, -2:] = False, False, False, False
    y, x = np.nonzero(boundary)
    return y.astype(float), x.astype(float)


def _fit_circle(y: NDArray[np.float64], x: NDArray[np.float64]) -> Circle | None:
    """Least squares (Kåsa), refitted to the points that lie on it: tubes and couches may cross the border of the field."""
    chosen = np.ones(len(y), dtype=bool)
    for _ in range(NUM_REFITS):
        if chosen.sum() < MIN_BOUNDARY_PX:
            return None
        circle = _kasa(y[chosen], x[chosen])
        if circle is None:
            return None
        distance = np.abs(np.hypot(y - circle.y, x - circle.x) - circle.radius)
        chosen = distance <= max(INLIER_PX, 2 * float(np.median(distance)))
    chosen = distance <= INLIER_PX
    arc_deg = len(np.unique(np.degrees(np.arctan2(y - circle.y, x - circle.x)[chosen]).round()))
    is_circle = chosen.sum() >= max(MIN_BOUNDARY_PX, MIN_INLIERS * len(y)) and arc_deg >= MIN_ARC_DEG
    return circle if is_circle else None


def _kasa(y: NDArray[np.float64], x: NDArray[np.float64]) -> Circle | None:
    """Circle minimizing Σ(|p − c|² − r²)²."""
    design = np.stack([2 * y, 2 * x, np.ones(len(y))], axis=1)
    (cy, cx, rest), *_ = np.linalg.lstsq(design, y**2 + x**2, rcond=None)
    square = rest + cy**2 + cx**2
    return Circle(float(cy), float(cx), float(np.sqrt(square))) if square > 0 else None
