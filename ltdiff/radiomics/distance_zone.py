"""The 16 features of grey-level distance zone matrices (Thibault 2014; IBSI): a zone's size is its distance to the border."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.level_matrix import LevelMatrices, level_features
from ltdiff.radiomics.region import Levels
from ltdiff.radiomics.size_zone import Zones, count_zones

FEATURES: Mapping[str, Feature[LevelMatrices]] = level_features(
    {
        "sde": "0GBI",
        "lde": "MB4I",
        "lgze": "S1RA",
        "hgze": "K26C",
        "sdlge": "RUVG",
        "sdhge": "DKNJ",
        "ldlge": "A7WM",
        "ldhge": "KLTH",
        "glnu": "VFT7",
        "glnu_norm": "7HP3",
        "zdnu": "V294",
        "zdnu_norm": "IATH",
        "z_perc": "VIWW",
        "gl_var": "QK93",
        "zd_var": "7WT1",
        "zd_entr": "GBDU",
    }
)


def measure_border_distance(mask: NDArray[np.bool_], *, in_space: bool) -> Levels:
    """Steps from each voxel (Z, Y, X) through faces to the nearest one outside: 1 at the border, 0 outside.

    `in_space` the neighbouring slices count too; the array's edge is a border.
    """
    if in_space:
        padded = np.pad(mask, 1)
        return ndimage.distance_transform_cdt(padded, metric="taxicab")[1:-1, 1:-1, 1:-1].astype(np.int64)
    return np.stack([ndimage.distance_transform_cdt(np.pad(plane, 1), metric="taxicab")[1:-1, 1:-1] for plane in mask]).astype(
        np.int64
    )


def count_distances(zones: Zones, distance: Levels, *, num_slices: int | None = None) -> LevelMatrices:
    """Matrices of zones by level and by the least distance of their voxels; `distance` (N,) is that of the region's voxels.

    One matrix of all zones, or one for each of `num_slices` slices.
    """
    least = np.full(len(zones.level), np.iinfo(np.int64).max)
    np.minimum.at(least, zones.zone, distance)
    return count_zones(zones, least, num_slices=num_slices)
