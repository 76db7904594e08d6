"""The 22 features of grey-level co-occurrence matrices p(i, j), symmetric, levels from 1 to N_g (Haralick 1973; IBEX; IBSI).

Matrices are kept as lists of their entries that are not zero, several matrices one after the other: with 5000 grey levels a full
one would have 25 million entries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.feature import Feature, entropies, sum_by
from ltdiff.radiomics.region import Floats, Levels, Shift, shifted_views

_DENSE = 8
"""Entries of a full matrix for each pair, up to which counting in it is faster than sorting the pairs."""


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
        return sum_by(self.matrix, self.p * values, self.num_matrices)

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
        sums = sum_by(self.matrix * size + index, self.p, self.num_matrices * size)
        return sums.reshape(self.num_matrices, size)

    @cached_property
    def from_cluster(self) -> Floats:
        """i + j − 2μ of every entry (K,)."""
        return self.i + self.j - 2 * self.mean[self.matrix]

    @cached_property
    def difference(self) -> Levels:
        """|i − j| of every entry (K,)."""
        return abs(self.i - self.j)


def _max_probability(m: CoOccurrences) -> Floats:
    largest = np.zeros(m.num_matrices)
    np.maximum.at(largest, m.matrix, m.p)
    return largest


def _divide(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing to divide by: in a matrix of a single grey level."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 1e-12)


FEATURES: Mapping[str, Feature[CoOccurrences]] = {
    "AutoCorrelation": Feature("QWB0", "Σ i j p(i, j)", lambda m: m.expect(m.i * m.j)),
    "ClusterProminence": Feature("AE86", "Σ (i + j − 2μ)⁴ p(i, j)", lambda m: m.expect((m.from_cluster**2) ** 2)),
    "ClusterShade": Feature("7NFM", "Σ (i + j − 2μ)³ p(i, j)", lambda m: m.expect(m.from_cluster**2 * m.from_cluster)),
    "ClusterTendency": Feature("DG8W", "Σ (i + j − 2μ)² p(i, j)", lambda m: m.expect(m.from_cluster**2)),
    "Contrast": Feature("ACUI", "Σ (i − j)² p(i, j)", lambda m: m.expect(m.difference**2)),
    "Correlation": Feature(
        "NI2N",
        "Σ (i − μ)(j − μ) p(i, j) / σ²",
        lambda m: _divide(m.expect((m.i - m.mean[m.matrix]) * (m.j - m.mean[m.matrix])), m.variance),
    ),
    "DifferenceEntropy": Feature("NTRS", "−Σ p_{x−y}(k) log₂ p_{x−y}(k)", lambda m: entropies(m.p_difference)),
    "Dissimilarity": Feature("8S9J", "Σ |i − j| p(i, j)", lambda m: m.expect(m.difference)),
    "Energy": Feature("8ZQL", "Σ p(i, j)²", lambda m: m.expect(m.p)),
    "Entropy": Feature("TU9B", "HXY = −Σ p(i, j) log₂ p(i, j)", lambda m: m.entropy),
    "Homogeneity": Feature("IB1Z", "Σ p(i, j) / (1 + |i − j|)", lambda m: m.expect(1 / (1 + m.difference))),
    "Homogeneity2": Feature("WF0Z", "Σ p(i, j) / (1 + (i − j)²)", lambda m: m.expect(1 / (1 + m.difference**2))),
    "InformationMeasureCorr1": Feature(
        "R8DG",
        "(HXY − HXY1) / HX with HXY1 = −Σ p(i, j) log₂(p_x(i) p_x(j)) = 2 HX",
        lambda m: _divide(m.entropy - 2 * m.marginal_entropy, m.marginal_entropy),
    ),
    "InformationMeasureCorr2": Feature(
        "JN9H",
        "√(1 − exp(−2 (HXY2 − HXY))) with HXY2 = −Σ p_x(i) p_x(j) log₂(p_x(i) p_x(j)) = 2 HX",
        lambda m: np.sqrt(np.maximum(0, 1 - np.exp(-2 * (2 * m.marginal_entropy - m.entropy)))),
    ),
    "InverseDiffMomentNorm": Feature(
        "1QCO", "Σ p(i, j) / (1 + ((i − j) / N_g)²)", lambda m: m.expect(1 / (1 + (m.difference / m.num_levels) ** 2))
    ),
    "InverseDiffNorm": Feature(
        "NDRX", "Σ p(i, j) / (1 + |i − j| / N_g)", lambda m: m.expect(1 / (1 + m.difference / m.num_levels))
    ),
    "InverseVariance": Feature(
        "E8JP",
        "Σ over i ≠ j of p(i, j) / (i − j)²",
        lambda m: m.expect(np.where(m.difference > 0, 1 / np.maximum(m.difference**2, 1), 0)),
    ),
    "MaxProbability": Feature("GYBY", "max p(i, j)", _max_probability),
    "SumAverage": Feature("ZGXS", "Σ k p_{x+y}(k)", lambda m: m.expect(m.i + m.j)),
    "SumEntropy": Feature("P6QZ", "−Σ p_{x+y}(k) log₂ p_{x+y}(k)", lambda m: entropies(m.p_sum)),
    # As Haralick prints it; IBSI's sum variance is taken around the sum average and equals ClusterTendency.
    "SumVariance": Feature(
        "", "Σ (k − SumEntropy)² p_{x+y}(k)", lambda m: m.expect((m.i + m.j - entropies(m.p_sum)[m.matrix]) ** 2)
    ),
    "Variance": Feature("UR99", "σ² = Σ (i − μ)² p(i, j)", lambda m: m.variance),
}


IBSI_FEATURES: Mapping[str, Feature[CoOccurrences]] = {
    "joint_max": FEATURES["MaxProbability"],
    "joint_avg": Feature("60VM", "μ = Σ i p(i, j)", lambda m: m.mean),
    "joint_var": FEATURES["Variance"],
    "joint_entr": FEATURES["Entropy"],
    "diff_avg": Feature("TF7R", "Σ k p_{x−y}(k)", lambda m: m.expect(m.difference)),
    "diff_var": Feature(
        "D3YU", "Σ (k − Σ k p_{x−y}(k))² p_{x−y}(k)", lambda m: m.expect((m.difference - m.expect(m.difference)[m.matrix]) ** 2)
    ),
    "diff_entr": FEATURES["DifferenceEntropy"],
    "sum_avg": FEATURES["SumAverage"],
    "sum_var": Feature("OEEB", "Σ (k − Σ k p_{x+y}(k))² p_{x+y}(k)", lambda m: m.expect(m.from_cluster**2)),
    "sum_entr": FEATURES["SumEntropy"],
    "energy": FEATURES["Energy"],
    "contrast": FEATURES["Contrast"],
    "dissimilarity": FEATURES["Dissimilarity"],
    "inv_diff": FEATURES["Homogeneity"],
    "inv_diff_norm": FEATURES["InverseDiffNorm"],
    "inv_diff_mom": FEATURES["Homogeneity2"],
    "inv_diff_mom_norm": FEATURES["InverseDiffMomentNorm"],
    "inv_var": FEATURES["InverseVariance"],
    "corr": FEATURES["Correlation"],
    "auto_corr": FEATURES["AutoCorrelation"],
    "clust_tend": FEATURES["ClusterTendency"],
    "clust_shade": FEATURES["ClusterShade"],
    "clust_prom": FEATURES["ClusterProminence"],
    "info_corr1": FEATURES["InformationMeasureCorr1"],
    "info_corr2": FEATURES["InformationMeasureCorr2"],
}
"""All 25 of IBSI, by its tags."""


def count_co_occurrences(levels: Levels, shifts: Sequence[Sequence[Shift]], *, num_levels: int | None = None) -> CoOccurrences:
    """One matrix for each entry of `shifts`: all pairs of voxels of the region that lie at one of its shifts.

    `num_levels` is N_g where the region has more levels than `levels`, a part of it.
    """
    num_levels = num_levels or int(levels.max())
    size = num_levels + 1
    levels = levels.astype(np.intp)
    rows = levels * size
    pairs = {shift: _count_pairs(rows, levels, shift, size) for shift in {shift for group in shifts for shift in group}}
    found = [_merge([pairs[shift] for shift in group], size) for group in shifts]
    matrix = np.repeat(np.arange(len(shifts)), [len(codes) for codes, _ in found])
    i, j = np.divmod(np.concatenate([codes for codes, _ in found]), size)
    counts = np.concatenate([numbers for _, numbers in found])
    p = counts / sum_by(matrix, counts, len(shifts))[matrix]
    return CoOccurrences(matrix=matrix, i=i, j=j, p=p, num_matrices=len(shifts), num_levels=num_levels)


def has_pair(levels: Levels, shift: Shift) -> bool:
    """Return True if two voxels of the region lie at that shift."""
    first, second = shifted_views(levels > 0, shift)
    return bool((first & second).any())


_Counts = tuple[Levels, Levels]
"""Codes (K,) of pairs of levels, i · size + j, and how often each occurs (K,)."""


def _count_pairs(rows: Levels, levels: Levels, shift: Shift, size: int) -> _Counts:
    """All pairs of voxels in the region at that shift, each as (i, j) and as (j, i); `rows` are levels · size."""
    codes = (shifted_views(rows, shift)[0] + shifted_views(levels, shift)[1]).ravel()
    if size**2 <= _DENSE * max(codes.size, 1):
        counts = np.bincount(codes, minlength=size**2).reshape(size, size)
        counts[0], counts[:, 0] = 0, 0  # outside the region
        return _occurring((counts + counts.T).ravel())
    first, second = np.divmod(codes, size)
    inside = (first > 0) & (second > 0)
    first, second = first[inside], second[inside]
    found, counts = np.unique(np.concatenate([first * size + second, second * size + first]), return_counts=True)
    return found, counts


def _merge(parts: Sequence[_Counts], size: int) -> _Counts:
    if len(parts) == 1:
        return parts[0]
    codes, counts = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    if size**2 <= _DENSE * max(codes.size, 1):
        return _occurring(np.bincount(codes, counts, size**2).astype(np.int64))
    found, index = np.unique(codes, return_inverse=True)
    return found, np.bincount(index, counts, len(found)).astype(np.int64)


def _occurring(counts: Levels) -> _Counts:
    found = np.flatnonzero(counts)
    return found, counts[found]
