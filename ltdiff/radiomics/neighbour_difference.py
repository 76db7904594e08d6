"""The 5 neighbour intensity difference features: s_i and p_i of the grey levels, N voxels (Amadasun 1989, as IBEX has them)."""

import math
from collections.abc import Callable

import numpy as np

from ltdiff.radiomics.feature import FeatureTable
from ltdiff.radiomics.matrices import NeighbourDifferences
from ltdiff.radiomics.region import Floats

FEATURES = FeatureTable()
_ROWS = 256
"""Pairs of levels are summed in strips of so many rows: with 5000 levels all of them at once would take gigabytes."""


@FEATURES.add("Coarseness")
def coarseness(m: NeighbourDifferences) -> float:
    """1 / (Σ s_i / N)

    Undefined where no voxel differs from its neighbours.
    """
    return _divide(m.num_voxels, m.s.sum())


@FEATURES.add("Contrast")
def contrast(m: NeighbourDifferences) -> float:
    """(Σ s_i / N) · mean over all n² pairs of occupied levels, i = j included, of p_i p_j (i − j)²

    Amadasun, IBSI and PyRadiomics divide by n (n − 1).
    """
    # Σ_ij p_i p_j (i − j)² = 2 (Σ i² p_i − (Σ i p_i)²), taken from the mean for the sake of its digits
    spread = 2 * np.dot(m.p, (m.level - np.dot(m.p, m.level)) ** 2)
    return _divide(float(m.s.sum() * spread), m.num_voxels * len(m.level) ** 2)


@FEATURES.add("Busyness")
def busyness(m: NeighbourDifferences) -> float:
    """(Σ s_i / N) / Σ_ij |i p_i − j p_j|

    Undefined for a single grey level.
    """
    weighted = m.level * m.p
    return _divide(m.s.sum() / max(m.num_voxels, 1), _sum_pairs(m, lambda a: abs(weighted[a, None] - weighted)))


@FEATURES.add("Complexity", ibsi="HDEZ")
def complexity(m: NeighbourDifferences) -> float:
    """Σ_ij |i − j| (p_i s_i + p_j s_j) / (N (p_i + p_j))"""
    weighted = m.p * m.s

    def term(a: slice) -> Floats:
        distance = abs(m.level[a, None] - m.level)
        return distance * (weighted[a, None] + weighted) / (m.p[a, None] + m.p)

    return _divide(_sum_pairs(m, term), m.num_voxels)


@FEATURES.add("TextureStrength", ibsi="1X9X")
def texture_strength(m: NeighbourDifferences) -> float:
    """Σ_ij (p_i + p_j)(i − j)² / Σ s_i

    Undefined where no voxel differs from its neighbours.
    """
    distances = _sum_pairs(m, lambda a: (m.p[a, None] + m.p) * (m.level[a, None] - m.level) ** 2)
    return _divide(distances, m.s.sum())


def _sum_pairs(m: NeighbourDifferences, term: Callable[[slice], Floats]) -> float:
    return sum(float(term(slice(first, first + _ROWS)).sum()) for first in range(0, len(m.level), _ROWS))


def _divide(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
