"""Where a CT slice is noisy: the relative variance of its noise at each pixel, from the slice itself.

A ray that passes through attenuation p arrives with exp(−p) of its photons, and its line integral has a variance in proportion to
exp(p). Filtered back-projection adds the variances of all rays through a pixel, so that the noise is strongest in the middle of
the body and along the shoulders. Projected and back-projected on a coarse grid: the place changes slowly.
Source: Kak & Slaney 1988, 5.2.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

GRID = 64
"""Cells on each side of the coarse grid."""
NUM_VIEWS = 48
WATER_PER_MM = 0.0195
"""Attenuation of water at 70 keV, the mean energy of 120 kV."""
REFERENCE_MM = 300.0
"""Water path whose variance is 1."""
MIN_HU, MAX_HU = -1000.0, 2000.0
"""Metal is no tissue, and its attenuation is not known."""


def noise_place(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Relative variance (H, W) of the noise of a slice (H, W) in HU with PixelSpacing (y, x)."""
    cells = _to_grid(np.clip(hu, MIN_HU, MAX_HU))
    cell_mm = tuple(n * mm / GRID for n, mm in zip(hu.shape, spacing_mm, strict=True))
    attenuation = WATER_PER_MM * (1 + cells / 1000)
    projector = _projector(round(cell_mm[0] / cell_mm[1], 3))
    paths = projector @ attenuation.ravel() * cell_mm[1]
    variance = np.exp(paths - WATER_PER_MM * REFERENCE_MM)
    weights = projector.T @ np.ones_like(paths)
    place = (projector.T @ variance / np.maximum(weights, 1e-9)).reshape(GRID, GRID)
    return ndimage.zoom(place, [n / GRID for n in hu.shape], order=1, grid_mode=True, mode="nearest")


def _to_grid(hu: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of the pixels in each cell (GRID, GRID)."""
    for axis in (0, 1):
        edges = np.linspace(0, hu.shape[axis], GRID + 1).round().astype(int)
        counts = np.diff(edges)
        sums = np.add.reduceat(hu, np.minimum(edges[:-1], hu.shape[axis] - 1), axis=axis, dtype=np.float64)
        hu = sums / np.expand_dims(np.maximum(counts, 1), 1 - axis)  # type: ignore[assignment]
    return hu  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _projector(aspect: float) -> sparse.csr_matrix:
    """Line integrals (NUM_VIEWS · bins, GRID²) over cells that are 1 wide and `aspect` high; linear between two bins."""
    y, x = np.mgrid[:GRID, :GRID] - (GRID - 1) / 2
    num_bins = int(np.ceil(GRID * np.hypot(1, aspect))) + 2
    rows, columns, values = [], [], []
    for view in range(NUM_VIEWS):
        angle = np.pi * view / NUM_VIEWS
        place = (x * np.cos(angle) + aspect * y * np.sin(angle)).ravel() + (num_bins - 1) / 2
        lower = np.floor(place).astype(int)
        for bins, weight in ((lower, 1 - (place - lower)), (lower + 1, place - lower)):
            rows.append(view * num_bins + bins)
            columns.append(np.arange(GRID**2))
            values.append(weight * aspect)
    shape = NUM_VIEWS * num_bins, GRID**2
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
