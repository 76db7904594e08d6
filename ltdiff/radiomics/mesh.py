"""The mesh of marching cubes round a mask: half way between voxels inside and outside (Lorensen 1987; IBSI).

A cube has a voxel centre at each of its 8 corners; which of them are inside is its pattern. Volume and area are sums, over cubes,
of what PyRadiomics' triangles add in each pattern. Its own sums come with the distances of all pairs of vertices, which takes
many seconds for a region of a million voxels.
"""

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.pyradiomics import CUBE_CORNERS, measure_cubes
from ltdiff.radiomics.region import Floats


def measure_mesh(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Volume in mm³ and area in mm² of the mesh round a mask (Z, Y, X) with voxels of (z, y, x) mm."""
    padded = np.pad(mask, 1)
    pattern = np.zeros([side - 1 for side in padded.shape], np.uint8)
    for k, corner in enumerate(CUBE_CORNERS):
        cut = tuple(slice(step, side - 1 + step) for step, side in zip(corner, padded.shape, strict=True))
        pattern |= padded[cut].astype(np.uint8) << k
    places = np.argwhere((pattern > 0) & (pattern < 255))
    cubes = pattern[tuple(places.T)]
    area, volume, volume_by_place = measure_cubes(spacing_mm)
    # some patterns leave holes, so that the volume depends on where the origin is: it is the middle of the mesh
    from_middle = places - places.mean(axis=0)
    return float(volume[cubes].sum() + (from_middle * volume_by_place[cubes]).sum()), float(area[cubes].sum())


def find_vertices(mask: NDArray[np.bool_]) -> Floats:
    """Vertices (V, 3) of the mesh in voxels: half way between neighbours through faces of which one is outside."""
    padded = np.pad(mask, 1)
    found = []
    for axis in range(3):
        at = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64)
        at[:, axis] += 0.5
        found.append(at - 1)
    return np.concatenate(found)
