"""The 11 features of grey-level run-length matrices: r(i, l) runs of l voxels of level i, N_s in all (Galloway 1975; IBSI)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.feature import Feature, sum_by
from ltdiff.radiomics.region import Floats, Levels, Shift


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
        return sum_by(self.matrix, self.counts * values, self.num_matrices)

    def mean(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
        """Σ values · r(i, l) / N_s of every matrix (M,), for values of the entries (K,)."""
        return self.total(values) / self.num_runs

    @cached_property
    def num_runs(self) -> Floats:
        """N_s = Σ r(i, l) (M,)."""
        return self.total(np.ones(len(self.counts)))

    def non_uniformity(self, index: Levels) -> Floats:
        """Σ over the values of `index` (K,) of the squared number of runs with that value, over N_s (M,)."""
        size = int(index.max()) + 1
        sums = sum_by(self.matrix * size + index, self.counts, self.num_matrices * size)
        return (sums.reshape(self.num_matrices, size) ** 2).sum(axis=1) / self.num_runs


FEATURES: Mapping[str, Feature[RunLengths]] = {
    "ShortRunEmphasis": Feature("22OV", "Σ r(i, l) / l² / N_s", lambda m: m.mean(1 / m.length**2)),
    "LongRunEmphasis": Feature("W4KF", "Σ l² r(i, l) / N_s", lambda m: m.mean(m.length**2)),
    "GrayLevelNonUniformity": Feature("R5YN", "Σ_i (Σ_l r(i, l))² / N_s", lambda m: m.non_uniformity(m.level)),
    "RunLengthNonUniformity": Feature("W92Y", "Σ_l (Σ_i r(i, l))² / N_s", lambda m: m.non_uniformity(m.length)),
    "RunPercentage": Feature(
        "9ZK5", "N_s / N_v, N_v = Σ l r(i, l): the voxels, once for every direction", lambda m: m.num_runs / m.total(m.length)
    ),
    "LowGrayLevelRunEmphasis": Feature("V3SW", "Σ r(i, l) / i² / N_s", lambda m: m.mean(1 / m.level**2)),
    "HighGrayLevelRunEmphasis": Feature("G3QZ", "Σ i² r(i, l) / N_s", lambda m: m.mean(m.level**2)),
    "ShortRunLowGrayLevelEmphasis": Feature(
        "HTZT", "Σ r(i, l) / (i² l²) / N_s", lambda m: m.mean(1 / (m.level**2 * m.length**2))
    ),
    "ShortRunHighGrayLevelEmphasis": Feature("GD3A", "Σ i² r(i, l) / l² / N_s", lambda m: m.mean(m.level**2 / m.length**2)),
    "LongRunLowGrayLevelEmphasis": Feature("IVPO", "Σ l² r(i, l) / i² / N_s", lambda m: m.mean(m.length**2 / m.level**2)),
    "LongRunHighGrayLevelEmphasis": Feature("3KUM", "Σ i² l² r(i, l) / N_s", lambda m: m.mean(m.level**2 * m.length**2)),
}


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
