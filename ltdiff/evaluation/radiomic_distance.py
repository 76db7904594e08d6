"""The Fréchet radiomic distance (FRD) of two sets of regions: how far apart are the distributions of their features?

FRD = ln(|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)): the Fréchet distance of Gaussians fitted to features that have mean 0 and
standard deviation 1 in the reference, as the FID is one of a network's features.
Source: N. Konz et al., "Fréchet Radiomic Distance (FRD)", arXiv 2412.01496 (version 1.0; PyPI frd-score). Here the covariances
are shrunk (O. Ledoit and M. Wolf, J. Multivar. Anal. 88 (2004) 365), for regions are often fewer than features. What few regions
add to the distance is the same for all sets of one size: compare with two halves of the target.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from ltdiff.evaluation.feature_sample import FeatureSample, comparable

MIN_REGIONS = 3
"""Fewer have no covariance to speak of."""
LEAST_DISTANCE = 1e-12
"""Less is rounding; its logarithm is that of samples that are the same."""


def radiomic_distance(one: FeatureSample, other: FeatureSample, *, reference: FeatureSample) -> float:
    """FRD of two samples, whose features are standardized by the mean and the deviation of `reference`.

    A feature that is the same in the whole reference is left out. NaN for fewer than MIN_REGIONS regions.
    """
    one, other, reference = comparable(one, other, reference)
    if min(len(sample.values) for sample in (one, other, reference)) < MIN_REGIONS:
        return float("nan")
    mean, deviation = reference.values.mean(axis=0), reference.values.std(axis=0)
    varying = deviation > 0
    if not varying.any():
        return float("nan")
    first, second = ((sample.values - mean)[:, varying] / deviation[varying] for sample in (one, other))
    distance = frechet_distance(first.mean(axis=0), ledoit_wolf(first)[0], second.mean(axis=0), ledoit_wolf(second)[0])
    return float(np.log(max(distance, LEAST_DISTANCE)))


def frechet_distance(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], mean2: NDArray[np.float64], covariance2: NDArray[np.float64]
) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians with means (F,) and covariances (F, F).

    tr (Σ₁Σ₂)^½ is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric.
    Source: D. C. Dowson and B. V. Landau, J. Multivar. Anal. 12 (1982) 450.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance2 @ root), 0)).sum()
    return float(((mean - mean2) ** 2).sum() + np.trace(covariance) + np.trace(covariance2) - 2 * cross)
