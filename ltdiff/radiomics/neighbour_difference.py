"""The 5 neighbour intensity difference features: s_i and p_i of the grey levels, N voxels (Amadasun 1989, as IBEX has them)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.feature import Feature, sum_by
from ltdiff.radiomics.region import Floats, Levels

_ROWS = 256
"""Pairs of levels are summed in strips of so many rows: with 5000 levels all of them at once would take gigabytes."""


@dataclass(frozen=True, eq=False)
class NeighbourDifferences:
    """For every grey level of a region, i (L,): its share `p` (L,) and `s` (L,), Σ |i − mean of the neighbours| over its voxels.

    Neighbours are those inside the region; a voxel without any is left out. `num_voxels` counts the others.
    """

    level: Levels
    p: Floats
    s: Floats
    num_voxels: int


def _contrast(m: NeighbourDifferences) -> float:
    # Σ_ij p_i p_j (i − j)² = 2 (Σ i² p_i − (Σ i p_i)²), taken from the mean for the sake of its digits
    spread = 2 * np.dot(m.p, (m.level - np.dot(m.p, m.level)) ** 2)
    return _divide(float(m.s.sum() * spread), m.num_voxels * len(m.level) ** 2)


def _busyness(m: NeighbourDifferences) -> float:
    weighted = m.level * m.p
    return _divide(m.s.sum() / max(m.num_voxels, 1), _sum_pairs(m, lambda a: abs(weighted[a, None] - weighted)))


def _complexity(m: NeighbourDifferences) -> float:
    weighted = m.p * m.s

    def term(a: slice) -> Floats:
        distance = abs(m.level[a, None] - m.level)
        return distance * (weighted[a, None] + weighted) / (m.p[a, None] + m.p)

    return _divide(_sum_pairs(m, term), m.num_voxels)


def _texture_strength(m: NeighbourDifferences) -> float:
    distances = _sum_pairs(m, lambda a: (m.p[a, None] + m.p) * (m.level[a, None] - m.level) ** 2)
    return _divide(distances, m.s.sum())


def _sum_pairs(m: NeighbourDifferences, term: Callable[[slice], Floats]) -> float:
    return sum(float(term(slice(first, first + _ROWS)).sum()) for first in range(0, len(m.level), _ROWS))


def _divide(above: float, below: float) -> float:
    """NaN where there is nothing to divide by: no voxel differs from its neighbours, or there is a single grey level."""
    return above / below if below > 0 else math.nan


FEATURES: Mapping[str, Feature[NeighbourDifferences]] = {
    "Coarseness": Feature("", "1 / (Σ s_i / N)", lambda m: _divide(m.num_voxels, m.s.sum())),
    # Amadasun, IBSI and PyRadiomics divide by n (n − 1).
    "Contrast": Feature(
        "", "(Σ s_i / N) · mean over all n² pairs of occupied levels, i = j included, of p_i p_j (i − j)²", _contrast
    ),
    "Busyness": Feature("", "(Σ s_i / N) / Σ_ij |i p_i − j p_j|", _busyness),
    "Complexity": Feature("HDEZ", "Σ_ij |i − j| (p_i s_i + p_j s_j) / (N (p_i + p_j))", _complexity),
    "TextureStrength": Feature("1X9X", "Σ_ij (p_i + p_j)(i − j)² / Σ s_i", _texture_strength),
}
IBSI_FEATURES: Mapping[str, Feature[NeighbourDifferences]] = {
    "coarseness": Feature("QCDE", "1 / Σ p_i s_i", lambda m: _divide(1.0, float(m.p @ m.s))),
    "contrast": Feature(
        "65HE",
        "(Σ s_i / N) · Σ_ij p_i p_j (i − j)² / (n (n − 1)), n occupied levels",
        lambda m: _divide(_contrast(m) * len(m.level), len(m.level) - 1),
    ),
    "busyness": Feature(
        "NQ30",
        "Σ p_i s_i / Σ_ij |i p_i − j p_j|",
        lambda m: _divide(float(m.p @ m.s), _sum_pairs(m, lambda a: abs((m.level * m.p)[a, None] - m.level * m.p))),
    ),
    "complexity": FEATURES["Complexity"],
    "strength": FEATURES["TextureStrength"],
}
"""All 5 of IBSI, by its tags."""


def neighbour_differences(levels: Levels, *, size: tuple[int, int, int]) -> NeighbourDifferences:
    """Differences within neighbourhoods of `size` voxels (z, y, x), all odd."""
    inside = levels > 0
    count = _sum_box(inside.astype(np.int32), size) - inside
    total = _sum_box(levels, size) - levels
    valid = inside & (count > 0)
    level = levels[valid]
    difference = abs(level - total[valid] / count[valid])
    number = np.bincount(level)
    occupied = np.flatnonzero(number)
    num_voxels = len(level)
    p = number[occupied] / max(num_voxels, 1)
    return NeighbourDifferences(occupied, p, sum_by(level, difference, len(number))[occupied], num_voxels)


def _sum_box(values: NDArray[np.integer], size: tuple[int, int, int]) -> NDArray[np.integer]:
    """Sum over the box of `size` voxels (z, y, x) round each voxel; nothing lies beyond the edges."""
    for axis, n in enumerate(size):
        if n > 1:
            padded = np.pad(values, [(n // 2, n // 2) if other == axis else (0, 0) for other in range(3)])
            parts = [padded[(slice(None),) * axis + (slice(k, k + values.shape[axis]),)] for k in range(n)]
            values = sum(parts[1:], parts[0])
    return values
