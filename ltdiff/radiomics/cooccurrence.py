"""The 22 features of grey-level co-occurrence matrices p(i, j), symmetric, levels from 1 to N_g (Haralick 1973; IBEX; IBSI)."""

import numpy as np

from ltdiff.radiomics.feature import FeatureTable
from ltdiff.radiomics.matrices import CoOccurrences, entropies
from ltdiff.radiomics.region import Floats

FEATURES = FeatureTable()


@FEATURES.add("AutoCorrelation", ibsi="QWB0")
def auto_correlation(m: CoOccurrences) -> Floats:
    """Σ i j p(i, j)"""
    return m.expect(m.i * m.j)


@FEATURES.add("ClusterProminence", ibsi="AE86")
def cluster_prominence(m: CoOccurrences) -> Floats:
    """Σ (i + j − 2μ)⁴ p(i, j)"""
    return m.expect(_from_cluster(m) ** 4)


@FEATURES.add("ClusterShade", ibsi="7NFM")
def cluster_shade(m: CoOccurrences) -> Floats:
    """Σ (i + j − 2μ)³ p(i, j)"""
    return m.expect(_from_cluster(m) ** 3)


@FEATURES.add("ClusterTendency", ibsi="DG8W")
def cluster_tendency(m: CoOccurrences) -> Floats:
    """Σ (i + j − 2μ)² p(i, j)"""
    return m.expect(_from_cluster(m) ** 2)


@FEATURES.add("Contrast", ibsi="ACUI")
def contrast(m: CoOccurrences) -> Floats:
    """Σ (i − j)² p(i, j)"""
    return m.expect((m.i - m.j) ** 2)


@FEATURES.add("Correlation", ibsi="NI2N")
def correlation(m: CoOccurrences) -> Floats:
    """Σ (i − μ)(j − μ) p(i, j) / σ²

    Undefined for a single grey level.
    """
    mean = m.mean[m.matrix]
    return _divide(m.expect((m.i - mean) * (m.j - mean)), m.variance)


@FEATURES.add("DifferenceEntropy", ibsi="NTRS")
def difference_entropy(m: CoOccurrences) -> Floats:
    """−Σ p_{x−y}(k) log₂ p_{x−y}(k)"""
    return entropies(m.p_difference)


@FEATURES.add("Dissimilarity", ibsi="8S9J")
def dissimilarity(m: CoOccurrences) -> Floats:
    """Σ |i − j| p(i, j)"""
    return m.expect(abs(m.i - m.j))


@FEATURES.add("Energy", ibsi="8ZQL")
def energy(m: CoOccurrences) -> Floats:
    """Σ p(i, j)²"""
    return m.expect(m.p)


@FEATURES.add("Entropy", ibsi="TU9B")
def entropy(m: CoOccurrences) -> Floats:
    """HXY = −Σ p(i, j) log₂ p(i, j)"""
    return m.entropy


@FEATURES.add("Homogeneity", ibsi="IB1Z")
def homogeneity(m: CoOccurrences) -> Floats:
    """Σ p(i, j) / (1 + |i − j|)"""
    return m.expect(1 / (1 + abs(m.i - m.j)))


@FEATURES.add("Homogeneity2", ibsi="WF0Z")
def homogeneity2(m: CoOccurrences) -> Floats:
    """Σ p(i, j) / (1 + (i − j)²)"""
    return m.expect(1 / (1 + (m.i - m.j) ** 2))


@FEATURES.add("InformationMeasureCorr1", ibsi="R8DG")
def information_measure_corr1(m: CoOccurrences) -> Floats:
    """(HXY − HXY1) / HX with HXY1 = −Σ p(i, j) log₂(p_x(i) p_x(j)) = 2 HX

    Undefined for a single grey level.
    """
    return _divide(m.entropy - 2 * m.marginal_entropy, m.marginal_entropy)


@FEATURES.add("InformationMeasureCorr2", ibsi="JN9H")
def information_measure_corr2(m: CoOccurrences) -> Floats:
    """√(1 − exp(−2 (HXY2 − HXY))) with HXY2 = −Σ p_x(i) p_x(j) log₂(p_x(i) p_x(j)) = 2 HX"""
    return np.sqrt(np.maximum(0, 1 - np.exp(-2 * (2 * m.marginal_entropy - m.entropy))))


@FEATURES.add("InverseDiffMomentNorm", ibsi="1QCO")
def inverse_diff_moment_norm(m: CoOccurrences) -> Floats:
    """Σ p(i, j) / (1 + ((i − j) / N_g)²)"""
    return m.expect(1 / (1 + ((m.i - m.j) / m.num_levels) ** 2))


@FEATURES.add("InverseDiffNorm", ibsi="NDRX")
def inverse_diff_norm(m: CoOccurrences) -> Floats:
    """Σ p(i, j) / (1 + |i − j| / N_g)"""
    return m.expect(1 / (1 + abs(m.i - m.j) / m.num_levels))


@FEATURES.add("InverseVariance", ibsi="E8JP")
def inverse_variance(m: CoOccurrences) -> Floats:
    """Σ over i ≠ j of p(i, j) / (i − j)²"""
    squared = (m.i - m.j) ** 2
    return m.expect(np.where(squared > 0, 1 / np.maximum(squared, 1), 0))


@FEATURES.add("MaxProbability", ibsi="GYBY")
def max_probability(m: CoOccurrences) -> Floats:
    """max p(i, j)"""
    largest = np.zeros(m.num_matrices)
    np.maximum.at(largest, m.matrix, m.p)
    return largest


@FEATURES.add("SumAverage", ibsi="ZGXS")
def sum_average(m: CoOccurrences) -> Floats:
    """Σ k p_{x+y}(k)"""
    return m.expect(m.i + m.j)


@FEATURES.add("SumEntropy", ibsi="P6QZ")
def sum_entropy(m: CoOccurrences) -> Floats:
    """−Σ p_{x+y}(k) log₂ p_{x+y}(k)"""
    return entropies(m.p_sum)


@FEATURES.add("SumVariance")
def sum_variance(m: CoOccurrences) -> Floats:
    """Σ (k − SumEntropy)² p_{x+y}(k)

    As Haralick prints it; IBSI's sum variance is taken around the sum average and equals ClusterTendency.
    """
    return m.expect((m.i + m.j - sum_entropy(m)[m.matrix]) ** 2)


@FEATURES.add("Variance", ibsi="UR99")
def variance(m: CoOccurrences) -> Floats:
    """σ² = Σ (i − μ)² p(i, j)"""
    return m.variance


def _from_cluster(m: CoOccurrences) -> Floats:
    return m.i + m.j - 2 * m.mean[m.matrix]


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 1e-12)
