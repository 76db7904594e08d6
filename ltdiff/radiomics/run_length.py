"""The 11 features of grey-level run-length matrices: r(i, l) runs of l voxels of level i, N_s in all (Galloway 1975; IBSI)."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.level_matrix import LevelMatrices, level_features, tally
from ltdiff.radiomics.region import Levels, Shift

FEATURES: Mapping[str, Feature[LevelMatrices]] = {
    "ShortRunEmphasis": Feature("22OV", "Σ r(i, l) / l² / N_s", lambda m: m.mean(1 / m.size**2)),
    "LongRunEmphasis": Feature("W4KF", "Σ l² r(i, l) / N_s", lambda m: m.mean(m.size**2)),
    "GrayLevelNonUniformity": Feature("R5YN", "Σ_i (Σ_l r(i, l))² / N_s", lambda m: m.non_uniformity(m.level)),
    "RunLengthNonUniformity": Feature("W92Y", "Σ_l (Σ_i r(i, l))² / N_s", lambda m: m.non_uniformity(m.size)),
    "RunPercentage": Feature(
        "9ZK5", "N_s / N_v, N_v = Σ l r(i, l): the voxels, once for every direction", lambda m: m.num_things / m.num_voxels
    ),
    "LowGrayLevelRunEmphasis": Feature("V3SW", "Σ r(i, l) / i² / N_s", lambda m: m.mean(1 / m.level**2)),
    "HighGrayLevelRunEmphasis": Feature("G3QZ", "Σ i² r(i, l) / N_s", lambda m: m.mean(m.level**2)),
    "ShortRunLowGrayLevelEmphasis": Feature("HTZT", "Σ r(i, l) / (i² l²) / N_s", lambda m: m.mean(1 / (m.level**2 * m.size**2))),
    "ShortRunHighGrayLevelEmphasis": Feature("GD3A", "Σ i² r(i, l) / l² / N_s", lambda m: m.mean(m.level**2 / m.size**2)),
    "LongRunLowGrayLevelEmphasis": Feature("IVPO", "Σ l² r(i, l) / i² / N_s", lambda m: m.mean(m.size**2 / m.level**2)),
    "LongRunHighGrayLevelEmphasis": Feature("3KUM", "Σ i² l² r(i, l) / N_s", lambda m: m.mean(m.level**2 * m.size**2)),
}
IBSI_FEATURES: Mapping[str, Feature[LevelMatrices]] = level_features(
    {
        "sre": "22OV",
        "lre": "W4KF",
        "lgre": "V3SW",
        "hgre": "G3QZ",
        "srlge": "HTZT",
        "srhge": "GD3A",
        "lrlge": "IVPO",
        "lrhge": "3KUM",
        "glnu": "R5YN",
        "glnu_norm": "OVBL",
        "rlnu": "W92Y",
        "rlnu_norm": "IC23",
        "r_perc": "9ZK5",
        "gl_var": "8CE5",
        "rl_var": "SXLW",
        "rl_entr": "HJ9O",
    }
)
"""All 16 of IBSI, by its tags."""


def count_runs(levels: Levels, shifts: Sequence[Sequence[Shift]]) -> LevelMatrices:
    """One matrix for each entry of `shifts`: the runs of equal levels along each of its shifts, counted together."""
    reach = max((abs(step) for group in shifts for shift in group for step in shift), default=0)
    grid = np.pad(levels, reach).astype(np.min_scalar_type(int(levels.max(initial=0))))
    of_level = np.bincount(grid.ravel())
    of_level[0] = 0  # outside the region
    runs = {shift: _runs(grid, of_level, shift) for shift in {shift for group in shifts for shift in group}}
    counted = [(m, *runs[shift]) for m, group in enumerate(shifts) for shift in group]
    matrix = np.concatenate([np.full_like(level, m) for m, level, _, _ in counted])
    level, length, counts = (np.concatenate([part[k] for part in counted]) for k in (1, 2, 3))
    return tally(matrix, level, length, counts, num_matrices=len(shifts))


def _runs(grid: NDArray[np.unsignedinteger], of_level: Levels, shift: Shift) -> tuple[Levels, Levels, Levels]:
    """Levels and lengths of the runs along a shift, and how many there are of both (K,).

    The grid has a border of zeros; `of_level` is the number of its voxels by level.
    """
    flat, step = grid.ravel(), abs(int(np.dot(shift, grid.strides))) // grid.itemsize
    continues = np.zeros(flat.shape, np.bool_)
    continues[step:] = (flat[step:] == flat[:-step]) & (flat[step:] > 0)
    inside = np.flatnonzero(continues)
    # by level, how many runs have a voxel with the number 0, 1, … in them, counted from their start
    with_number = [of_level - np.bincount(flat[inside], minlength=len(of_level))]
    growing = inside[~continues[inside - step]]
    while len(growing):
        with_number.append(np.bincount(flat[growing], minlength=len(of_level)))
        growing = growing + step
        growing = growing[continues[growing]]
    counts = -np.diff(with_number, axis=0, append=0)
    length, level = np.nonzero(counts)
    return level, length + 1, counts[length, level]
