"""Zones, connected voxels of one grey level, and the 16 features of grey-level size zone matrices (Thibault 2014; IBSI).

Voxels are connected through faces, edges and corners: 26 neighbours in space, 8 in the plane.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ltdiff.radiomics.feature import Feature, sum_by
from ltdiff.radiomics.level_matrix import LevelMatrices, level_features, tally
from ltdiff.radiomics.region import Levels, Shift

FEATURES: Mapping[str, Feature[LevelMatrices]] = level_features(
    {
        "sze": "5QRC",
        "lze": "48P8",
        "lgze": "XMSY",
        "hgze": "5GN9",
        "szlge": "5RAI",
        "szhge": "HW1V",
        "lzlge": "YH51",
        "lzhge": "J17V",
        "glnu": "JNSA",
        "glnu_norm": "Y1RO",
        "zsnu": "4JP3",
        "zsnu_norm": "VB3A",
        "z_perc": "P30P",
        "gl_var": "BYLV",
        "zs_var": "3NSA",
        "zs_entr": "GU8N",
    }
)


@dataclass(frozen=True, eq=False)
class Zones:
    """Zones of a region: the `zone` of each of its voxels (N,), in the order of the array; of each zone its `level` (Z,), its
    `num_voxels` (Z,) and the `slice_index` of one of its voxels (Z,)."""

    zone: Levels
    level: Levels
    num_voxels: Levels
    slice_index: Levels


def find_zones(levels: Levels, directions: Sequence[Shift]) -> Zones:
    """Zones of voxels that are connected along `directions`: those of the plane keep slices apart."""
    grid = np.pad(levels, 1).astype(np.min_scalar_type(int(levels.max(initial=0))))
    flat = grid.ravel()
    places = np.flatnonzero(flat)
    number = np.zeros(flat.shape, np.int32)
    number[places] = np.arange(len(places))
    ends: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    for shift in directions:
        step = abs(int(np.dot(shift, grid.strides))) // grid.itemsize  # a pair in the other order is the same
        first = np.flatnonzero((flat[step:] == flat[:-step]) & (flat[step:] > 0))
        ends.append((number[first], number[first + step]))
    rows, columns = (np.concatenate(part) for part in zip(*ends, strict=True))
    graph = sparse.coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(len(places), len(places)))
    num_zones, zone = sparse.csgraph.connected_components(graph, directed=False)
    level, slice_index = np.zeros((2, num_zones), np.int64)
    level[zone], slice_index[zone] = flat[places], places // math.prod(grid.shape[1:]) - 1
    return Zones(zone, level, np.bincount(zone, minlength=num_zones), slice_index)


def count_sizes(zones: Zones, *, num_slices: int | None = None) -> LevelMatrices:
    """The matrix of all zones, or one for each of `num_slices` slices."""
    return count_zones(zones, zones.num_voxels, num_slices=num_slices)


def count_zones(zones: Zones, sizes: Levels, *, num_slices: int | None) -> LevelMatrices:
    """Matrices of zones by level and by any size of theirs (Z,): of all zones, or one for each of `num_slices` slices."""
    matrix = np.zeros_like(zones.slice_index) if num_slices is None else zones.slice_index
    num_matrices = num_slices or 1
    num_voxels = sum_by(matrix, zones.num_voxels, num_matrices)
    return tally(matrix, zones.level, sizes, num_matrices=num_matrices, num_voxels=num_voxels)
