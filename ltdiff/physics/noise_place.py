"""Where a CT slice is noisy: relative variances of its noise at each pixel, from the slice itself.

A ray that passes through attenuation p arrives with exp(−p) of its photons. Its line integral has a variance in proportion to
exp(p) by the number of photons, and to exp(2p) by the electronics. Filtered back-projection adds the variances of all rays
through a pixel, so that the noise is strongest in the middle of the body and along the shoulders. Projected and back-projected
on a coarse grid: the place changes slowly.
Source: Kak & Slaney 1988, 5.2; Whiting et al., Med. Phys. 33 (2006) 3290.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

GRID = 64
"""Cells on each side of the coarse grid."""
NUM_VIEWS, NUM_DIRECTIONS = 48, 16
WATER_PER_MM = 0.0195
"""Attenuation of water at 70 keV, the mean energy of 120 kV."""
REFERENCE_MM = 300.0
"""Water path whose variances are 1."""
SOURCES = 3
"""Of noise: what is the same everywhere (a tube current that follows the patient), photons, electronics."""
MIN_HU, MAX_HU = -1000.0, 2000.0
"""Metal is no tissue, and its attenuation is not known."""


def noise_place(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Relative variances (SOURCES, H, W) of the noise of a slice (H, W) in HU with PixelSpacing (y, x)."""
    projector, photons = _photon_variance(hu, spacing_mm)
    variances = projector.T @ np.stack([np.ones_like(photons), photons, photons**2], axis=1)  # (GRID², SOURCES)
    place = (variances / np.maximum(variances[:, :1], 1e-9)).T.reshape(SOURCES, GRID, GRID)
    zoom = [n / GRID for n in hu.shape]
    return np.stack([ndimage.zoom(one, zoom, order=1, grid_mode=True, mode="nearest") for one in place])


def directional_noise_place(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Relative variances (SOURCES, NUM_DIRECTIONS, GRID, GRID) of the noise at each cell, by the direction of its frequency.

    Direction k points to k·π/NUM_DIRECTIONS from x to y. By the central slice theorem it comes from the views whose detectors lie
    along it: the rays along streaks are at right angles to the frequencies of streaks.
    """
    projector, photons = _photon_variance(hu, spacing_mm)
    num_bins, num_views = projector.shape[0] // NUM_VIEWS, NUM_VIEWS // NUM_DIRECTIONS
    by_source = np.stack([np.ones_like(photons), photons, photons**2], axis=1)
    places = []
    for direction in range(NUM_DIRECTIONS):
        views = (direction * num_views + np.arange(num_views) - num_views // 2) % NUM_VIEWS
        rows = (views[:, None] * num_bins + np.arange(num_bins)).ravel()
        variances = projector[rows].T @ by_source[rows]
        places.append((variances / np.maximum(variances[:, :1], 1e-9)).T.reshape(SOURCES, GRID, GRID))
    return np.stack(places, axis=1)


def _photon_variance(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """The projector of the coarse grid, and the relative variance of each ray by its number of photons."""
    cells = _to_grid(np.clip(hu, MIN_HU, MAX_HU))
    cell_mm = tuple(n * mm / GRID for n, mm in zip(hu.shape, spacing_mm, strict=True))
    projector = _projector(round(cell_mm[0] / cell_mm[1], 3))
    paths = projector @ (WATER_PER_MM * (1 + cells / 1000)).ravel() * cell_mm[1]
    return projector, np.exp(paths - WATER_PER_MM * REFERENCE_MM)


def _to_grid(hu: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of the pixels in each cell (GRID, GRID)."""
    for axis in (0, 1):
        edges = np.linspace(0, hu.shape[axis], GRID + 1).round().astype(int)
        counts = np.diff(edges)
        sums = np.add.reduceat(hu, np.minimum(edges[:-1], hu.shape[axis] - 1), axis=axis, dtype=np.float64)
        hu = sums / np.expand_dims(np.maximum(counts, 1), 1 - axis)
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
