"""The 17 features of neighbouring grey-level dependence matrices (Sun 1983; IBSI).

A voxel's size is its dependence: 1 + the number of its neighbours in the region with the same level (distance 1, coarseness 0).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.level_matrix import LevelMatrices, level_features, tally
from ltdiff.radiomics.region import Levels, Shift, shifted_views

FEATURES: Mapping[str, Feature[LevelMatrices]] = level_features(
    {
        "lde": "SODN",
        "hde": "IMOQ",
        "lgce": "TL9H",
        "hgce": "OAE7",
        "ldlge": "EQ3F",
        "ldhge": "JA6D",
        "hdlge": "NBZI",
        "hdhge": "9QMG",
        "glnu": "FP8K",
        "glnu_norm": "5SPA",
        "dcnu": "Z87G",
        "dcnu_norm": "OKJI",
        "dc_perc": "6XV8",
        "gl_var": "1PFV",
        "dc_var": "DNX2",
        "dc_entr": "FCBV",
    }
) | {"dc_energy": Feature("CAS9", "Σ p(i, j)²", lambda m: m.mean(m.shares))}


def count_dependences(levels: Levels, directions: Sequence[Shift], *, by_slice: bool = False) -> LevelMatrices:
    """The matrix of all voxels, or one for each slice; neighbours lie along `directions` and against them."""
    dependence = np.ones_like(levels)
    for shift in directions:
        first, second = shifted_views(levels, shift)
        for counted in shifted_views(dependence, shift):
            counted += first == second
    inside = levels > 0
    matrix = np.nonzero(inside)[0] if by_slice else np.zeros(np.count_nonzero(inside), np.int64)
    num_matrices = len(levels) if by_slice else 1
    num_voxels = np.bincount(matrix, minlength=num_matrices).astype(np.float64)
    return tally(matrix, levels[inside], dependence[inside], num_matrices=num_matrices, num_voxels=num_voxels)
