"""Counting grey levels: which lie side by side, in which runs, and how far each is from its neighbours.

Grey levels (Z, Y, X) are whole numbers from 1 on, 0 outside the region. Matrices are kept as lists of their entries that are
not zero, several matrices one after the other: with 5000 grey levels a full one would have 25 million entries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.region import Floats, Levels

Shift = tuple[int, int, int]
"""A step (z, y, x) in voxels."""
DIRECTIONS_2D: Mapping[str, Shift] = {"0": (0, 0, 1), "45": (0, -1, 1), "90": (0, 1, 0), "135": (0, 1, 1)}
"""Directions in degrees, counter-clockwise on the screen; opposite directions give the same pairs."""
DIRECTIONS_3D: Mapping[str, Shift] = {
    f"z{z:+d}y{y:+d}x{x:+d}".replace("+0", "0"): (z, y, x)
    for z in (0, 1)
    for y in (-1, 0, 1)
    for x in (-1, 0, 1)
    if (z, y, x) > (0, 0, 0)
}
"""Half of the 26 neighbours."""


@dataclass(frozen=True, eq=False)
class CoOccurrences:
    """M symmetric grey-level co-occurrence matrices p(i, j), each of sum 1 (or without any entry).

    `matrix` (K,) says to which of the `num_matrices` an entry belongs, `i` and `j` (K,) are its levels, `p` (K,) its share.
    """

    matrix: Levels
    i: Levels
    j: Levels
    p: Floats
    num_matrices: int
    num_levels: int

    def expect(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
        """Σ_ij values · p(i, j) of every matrix (M,), for values of the entries (K,)."""
        return _sum_by(self.matrix, self.p * values, self.num_matrices)

    @cached_property
    def is_empty(self) -> NDArray[np.bool_]:
        """Mask (M,) of the matrices that count nothing."""
        return np.bincount(self.matrix, minlength=self.num_matrices) == 0

    @cached_property
    def mean(self) -> Floats:
        """μ = Σ i p(i, j), of rows and columns alike (M,)."""
        return self.expect(self.i)

    @cached_property
    def variance(self) -> Floats:
        """σ² = Σ (i − μ)² p(i, j) (M,)."""
        return self.expect((self.i - self.mean[self.matrix]) ** 2)

    @cached_property
    def p_x(self) -> Floats:
        """p_x(i) = Σ_j p(i, j), which is p_y too (M, num_levels + 1)."""
        return self._gather(self.i, self.num_levels + 1)

    @cached_property
    def p_sum(self) -> Floats:
        """p_{x+y}(k) = Σ over i + j = k (M, 2 num_levels + 1)."""
        return self._gather(self.i + self.j, 2 * self.num_levels + 1)

    @cached_property
    def p_difference(self) -> Floats:
        """p_{x−y}(k) = Σ over |i − j| = k (M, num_levels)."""
        return self._gather(abs(self.i - self.j), self.num_levels)

    @cached_property
    def entropy(self) -> Floats:
        """HXY = −Σ p(i, j) log₂ p(i, j) (M,)."""
        return -self.expect(np.log2(self.p))

    @cached_property
    def marginal_entropy(self) -> Floats:
        """HX = HY = −Σ p_x(i) log₂ p_x(i) (M,)."""
        return entropies(self.p_x)

    def _gather(self, index: Levels, size: int) -> Floats:
        sums = _sum_by(self.matrix * size + index, self.p, self.num_matrices * size)
        return sums.reshape(self.num_matrices, size)


def count_co_occurrences(levels: Levels, shifts: Sequence[Sequence[Shift]]) -> CoOccurrences:
    """One matrix for each entry of `shifts`: all pairs of voxels of the region that lie at one of its shifts."""
    num_levels = int(levels.max())
    size = num_levels + 1
    pairs = {shift: _pair_codes(levels, shift, size) for shift in {shift for group in shifts for shift in group}}
    codes = [m * size**2 + pairs[shift] for m, group in enumerate(shifts) for shift in group]
    found, counts = np.unique(np.concatenate(codes), return_counts=True)
    matrix, pair = np.divmod(found, size**2)
    low, high = np.divmod(pair, size)
    share = counts / _sum_by(matrix, counts, len(shifts))[matrix]
    twice = low != high  # such a pair is counted at (i, j) and at (j, i)
    p = np.where(twice, share / 2, share)
    return CoOccurrences(
        matrix=np.concatenate([matrix, matrix[twice]]),
        i=np.concatenate([low, high[twice]]),
        j=np.concatenate([high, low[twice]]),
        p=np.concatenate([p, p[twice]]),
        num_matrices=len(shifts),
        num_levels=num_levels,
    )


def has_pair(levels: Levels, shift: Shift) -> bool:
    """Return True if two voxels of the region lie at that shift."""
    first, second = _shifted(levels, shift)
    return bool(((first > 0) & (second > 0)).any())


def _pair_codes(levels: Levels, shift: Shift, size: int) -> Levels:
    """The lower level · size + the higher one, of all pairs of voxels in the region at that shift."""
    first, second = _shifted(levels, shift)
    inside = (first > 0) & (second > 0)
    a, b = first[inside], second[inside]
    return np.minimum(a, b) * size + np.maximum(a, b)


def _shifted(levels: Levels, shift: Shift) -> tuple[Levels, Levels]:
    """Two views of equal shape, in which voxels at that shift have the same place."""
    steps = list(zip(shift, levels.shape, strict=True))
    first = levels[tuple(slice(max(0, -step), max(0, n - max(0, step))) for step, n in steps)]
    second = levels[tuple(slice(max(0, step), max(0, n + min(0, step))) for step, n in steps)]
    return first, second


@dataclass(frozen=True, eq=False)
class RunLengths:
    """M grey-level run-length matrices: `counts` (K,) runs of `length` (K,) voxels of one `level` (K,) in a `matrix` (K,)."""

    matrix: Levels
    level: Levels
    length: Levels
    counts: Levels
    num_matrices: int

    def total(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
        """Σ values · r(i, l) of every matrix (M,), for values of the entries (K,)."""
        return _sum_by(self.matrix, self.counts * values, self.num_matrices)

    @cached_property
    def num_runs(self) -> Floats:
        """N_s = Σ r(i, l) (M,)."""
        return self.total(np.ones(len(self.counts)))

    def non_uniformity(self, index: Levels) -> Floats:
        """Σ over the values of `index` (K,) of the squared number of runs with that value (M,)."""
        size = int(index.max()) + 1
        sums = _sum_by(self.matrix * size + index, self.counts, self.num_matrices * size)
        return (sums.reshape(self.num_matrices, size) ** 2).sum(axis=1)


def count_runs(levels: Levels, shifts: Sequence[Sequence[Shift]]) -> RunLengths:
    """One matrix for each entry of `shifts`: the runs of equal levels along each of its shifts, counted together."""
    runs = {shift: _runs(levels, shift) for shift in {shift for group in shifts for shift in group}}
    size = (int(levels.max()) + 1, max(levels.shape) + 1)
    codes = [
        np.ravel_multi_index((np.full_like(level, m), level, length), (len(shifts), *size))
        for m, group in enumerate(shifts)
        for level, length in (runs[shift] for shift in group)
    ]
    found, counts = np.unique(np.concatenate(codes), return_counts=True)
    matrix, level, length = np.unravel_index(found, (len(shifts), *size))
    return RunLengths(matrix, level, length, counts, len(shifts))


def _runs(levels: Levels, shift: Shift) -> tuple[Levels, Levels]:
    """Level and length of every run along a shift (N,)."""
    grid = np.pad(levels, [(abs(step), abs(step)) for step in shift])
    padded, step = grid.ravel(), int(np.dot(shift, grid.strides)) // grid.itemsize
    places = np.flatnonzero(padded)
    starts = places[padded[places - step] != padded[places]]
    lengths = np.ones(len(starts), np.int64)
    growing = np.arange(len(starts))
    for distance in range(1, len(places)):
        ends = starts[growing] + distance * step
        growing = growing[padded[ends] == padded[starts[growing]]]
        if not len(growing):
            break
        lengths[growing] += 1
    return padded[starts], lengths


@dataclass(frozen=True, eq=False)
class NeighbourDifferences:
    """For every grey level of a region, i (L,): its share `p` (L,) and `s` (L,), Σ |i − mean of the neighbours| over its voxels.

    Neighbours are those inside the region; a voxel without any is left out. `num_voxels` counts the others.
    """

    level: Levels
    p: Floats
    s: Floats
    num_voxels: int


def neighbour_differences(levels: Levels, *, size: tuple[int, int, int]) -> NeighbourDifferences:
    """Differences within neighbourhoods of `size` voxels (z, y, x), all odd."""
    padded = np.pad(levels, [(n // 2, n // 2) for n in size])
    total, count = np.zeros(levels.shape), np.zeros(levels.shape, np.int64)
    for offset in np.ndindex(size):
        if offset != tuple(n // 2 for n in size):
            part = padded[tuple(slice(o, o + n) for o, n in zip(offset, levels.shape, strict=True))]
            total += part
            count += part > 0
    valid = (levels > 0) & (count > 0)
    level = levels[valid]
    difference = abs(level - total[valid] / count[valid])
    occupied, index = np.unique(level, return_inverse=True)
    num_voxels = len(level)
    p = np.bincount(index, minlength=len(occupied)) / max(num_voxels, 1)
    return NeighbourDifferences(occupied, p, _sum_by(index, difference, len(occupied)), num_voxels)


def _sum_by(index: Levels, weights: NDArray[np.floating] | NDArray[np.integer], size: int) -> Floats:
    """Sums of the weights (K,) that share an index: (size,)."""
    return np.asarray(np.bincount(index, weights, size), np.float64)


def entropies(p: Floats) -> Floats:
    """−Σ p log₂ p over the last axis; 0 log 0 is 0."""
    return 0.0 - (p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)  # not −0
