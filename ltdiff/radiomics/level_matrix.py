"""Matrices n(i, j) of grey levels: how many runs, zones or voxels have the level i and the size j (IBSI).

Runs, size zones, distance zones and dependences differ in what j counts, and share their features.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.feature import Feature, sum_by
from ltdiff.radiomics.region import Floats, Levels

_DENSE = 8
"""Cells for each thing, up to which counting in all of them is faster than sorting the things."""


@dataclass(frozen=True, eq=False)
class LevelMatrices:
    """M matrices: `counts` (K,) things of one `level` i (K,) and one `size` j (K,) in a `matrix` (K,).

    `num_voxels` (M,) are those of which the things of a matrix are made, N_v.
    """

    matrix: Levels
    level: Levels
    size: Levels
    counts: Levels
    num_matrices: int
    num_voxels: Floats

    def total(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
        """Σ values · n(i, j) of every matrix (M,), for values of the entries (K,)."""
        return sum_by(self.matrix, self.counts * values, self.num_matrices)

    def mean(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
        """Σ values · n(i, j) / N_s of every matrix (M,), for values of the entries (K,)."""
        return self.total(values) / self.num_things

    @cached_property
    def i(self) -> Floats:
        """Levels as floats (K,): i² j² may be too large for an integer."""
        return self.level.astype(np.float64)

    @cached_property
    def j(self) -> Floats:
        """Sizes as floats (K,)."""
        return self.size.astype(np.float64)

    @cached_property
    def num_things(self) -> Floats:
        """N_s = Σ n(i, j) (M,)."""
        return self.total(np.ones(len(self.counts)))

    @cached_property
    def shares(self) -> Floats:
        """p(i, j) = n(i, j) / N_s of every entry (K,)."""
        return self.counts / self.num_things[self.matrix]

    def non_uniformity(self, index: Levels) -> Floats:
        """Σ over the values of `index` (K,) of the squared number of things with that value, over N_s (M,)."""
        size = int(index.max()) + 1
        sums = sum_by(self.matrix * size + index, self.counts, self.num_matrices * size)
        return (sums.reshape(self.num_matrices, size) ** 2).sum(axis=1) / self.num_things

    def variance(self, index: Levels) -> Floats:
        """Σ (index − mean)² p(i, j) (M,), for an index of the entries (K,)."""
        return self.mean((index - self.mean(index)[self.matrix]) ** 2)


def tally(
    matrix: Levels,
    level: Levels,
    size: Levels,
    number: Levels | None = None,
    *,
    num_matrices: int,
    num_voxels: Floats | None = None,
) -> LevelMatrices:
    """Count things (N,) by matrix, level and size, each once or its `number` of times (N,).

    Without `num_voxels`, a thing's size is its number of voxels.
    """
    shape = (num_matrices, int(level.max(initial=0)) + 1, int(size.max(initial=0)) + 1)
    found, counts = _count(np.ravel_multi_index((matrix, level, size), shape), number, math.prod(shape))
    of_matrix, of_level, of_size = np.unravel_index(found, shape)
    if num_voxels is None:
        num_voxels = sum_by(of_matrix, counts * of_size, num_matrices)
    return LevelMatrices(of_matrix, of_level, of_size, counts, num_matrices, num_voxels)


def _count(codes: Levels, number: Levels | None, num_codes: int) -> tuple[Levels, Levels]:
    """The codes that occur, and how often."""
    if num_codes <= _DENSE * len(codes):
        counts = np.bincount(codes, number, num_codes).astype(np.int64)
        found = np.flatnonzero(counts)
        return found, counts[found]
    found, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return found, counts if number is None else np.bincount(index, number, len(found)).astype(np.int64)


_ROWS: tuple[tuple[str, Callable[[LevelMatrices], Floats]], ...] = (
    ("Σ n(i, j) / j² / N_s", lambda m: m.mean(1 / m.j**2)),
    ("Σ j² n(i, j) / N_s", lambda m: m.mean(m.j**2)),
    ("Σ n(i, j) / i² / N_s", lambda m: m.mean(1 / m.i**2)),
    ("Σ i² n(i, j) / N_s", lambda m: m.mean(m.i**2)),
    ("Σ n(i, j) / (i² j²) / N_s", lambda m: m.mean(1 / (m.i**2 * m.j**2))),
    ("Σ i² n(i, j) / j² / N_s", lambda m: m.mean(m.i**2 / m.j**2)),
    ("Σ j² n(i, j) / i² / N_s", lambda m: m.mean(m.j**2 / m.i**2)),
    ("Σ i² j² n(i, j) / N_s", lambda m: m.mean(m.i**2 * m.j**2)),
    ("Σ_i (Σ_j n(i, j))² / N_s", lambda m: m.non_uniformity(m.level)),
    ("Σ_i (Σ_j n(i, j))² / N_s²", lambda m: m.non_uniformity(m.level) / m.num_things),
    ("Σ_j (Σ_i n(i, j))² / N_s", lambda m: m.non_uniformity(m.size)),
    ("Σ_j (Σ_i n(i, j))² / N_s²", lambda m: m.non_uniformity(m.size) / m.num_things),
    ("N_s / N_v", lambda m: m.num_things / m.num_voxels),
    ("Σ (i − Σ i p(i, j))² p(i, j), p = n / N_s", lambda m: m.variance(m.level)),
    ("Σ (j − Σ j p(i, j))² p(i, j)", lambda m: m.variance(m.size)),
    ("−Σ p(i, j) log₂ p(i, j)", lambda m: 0.0 - m.mean(np.log2(m.shares))),
)


def level_features(ids: Mapping[str, str]) -> dict[str, Feature[LevelMatrices]]:
    """The 16 features that all these matrices have, for names → IBSI ids in the order that IBSI lists them in."""
    return {name: Feature(ibsi, *row) for (name, ibsi), row in zip(ids.items(), _ROWS, strict=True)}
