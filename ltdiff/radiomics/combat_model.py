"""ComBat and CovBat on arrays: fitted to some rows of features, and applied to any others of the same batches.

Feature f of a row of batch b with covariates x is y = α_f + x β_f + σ_f (γ_bf + δ_bf ε). α, β and σ are fitted to all rows
together; γ and δ of each batch and feature by empirical Bayes, with a prior for each batch over all features. Harmonized, it is
α_f + x β_f + σ_f ε.

Sources: W. E. Johnson et al., Biostatistics 8 (2007) 118; J.-P. Fortin et al., NeuroImage 167 (2018) 104 (covariates);
C. K. Stein et al., BMC Med. Genomics 8 (2015) 63 (a batch that is the reference stays as it is); A. A. Chen et al., Hum. Brain
Mapp. 43 (2022) 1179 (CovBat).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Codes = NDArray[np.int64]

EXPLAINED_VARIANCE = 0.95
"""CovBat harmonizes the scores of the first principal components that explain more than this, as in its paper."""
CONVERGED = 1e-10
"""Largest relative change of δ² in the last iteration of empirical Bayes."""
MAX_ITERATIONS = 1000
OUTLYING = 1000.0
"""A δ² so many times the median over the features plays no part in the prior. Textures of wavelet bands reach 10⁸, to which all
other features would be drawn."""


class Rows(NamedTuple):
    """What is known of rows besides their features: number of the batch (N,), covariates (N, C), number of the patient (N,)."""

    batches: Codes
    design: Values
    patients: Codes

    def select(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Some of them."""
        return Rows(self.batches[chosen], self.design[chosen], self.patients[chosen])


class HarmonizationStep(Protocol):
    """What a fit of one batch column has made."""

    def adjust(self, values: Values, rows: Rows) -> Values:
        """Features (N, F) of rows of known batches, without what is due to the batch."""


@dataclass(frozen=True)
class ComBatModel:
    """α (F,), β (C, F), σ (F,), and γ and δ of every batch (B, F), after empirical Bayes."""

    alpha: Values
    beta: Values
    sigma: Values
    gamma: Values
    delta: Values

    def expected(self, design: Values) -> Values:
        """α + x β (N, F)."""
        return self.alpha + design @ self.beta

    def remove(self, values: Values, batches: Codes, expected: Values) -> Values:
        """Take γ and δ of the batch out of the deviation from what is expected (N, F)."""
        return expected + (values - expected - self.sigma * self.gamma[batches]) / self.delta[batches]

    def adjust(self, values: Values, rows: Rows) -> Values:
        """See `HarmonizationStep`. Every row is harmonized by itself; a NaN stays one and changes nothing else."""
        return self.remove(values, rows.batches, self.expected(rows.design))


def fit_combat(values: Values, rows: Rows, *, reference: int | None = None, shrunk: bool = True) -> ComBatModel:
    """Fit ComBat to features (N, F) that vary within every batch; two rows of a batch at least.

    `reference` is the number of a batch that stays as it is. Without `shrunk`, γ and δ are moments and no empirical Bayes.
    """
    counts = np.bincount(rows.batches)
    design = np.hstack([np.eye(len(counts))[rows.batches], rows.design])
    coefficients = np.asarray(np.linalg.lstsq(design, values)[0], dtype=np.float64)
    of_batch, beta = coefficients[: len(counts)], coefficients[len(counts) :]
    squares: Values = (values - design @ coefficients) ** 2
    if reference is None:
        alpha, sigma = counts @ of_batch / len(values), np.sqrt(squares.mean(axis=0))
    else:
        alpha, sigma = of_batch[reference], np.sqrt(squares[rows.batches == reference].mean(axis=0))
    standardized = (values - alpha - rows.design @ beta) / sigma
    gamma, delta = estimate_batches(standardized, rows.batches, shrunk=shrunk)
    if reference is not None:
        gamma[reference], delta[reference] = 0.0, 1.0
    return ComBatModel(alpha, beta, sigma, gamma, delta)


def estimate_batches(standardized: Values, batches: Codes, *, shrunk: bool = True) -> tuple[Values, Values]:
    """γ and δ (B, F) of standardized features (N, F), by empirical Bayes. One feature alone has no prior and is not shrunk."""
    counts = np.bincount(batches)
    of_batches = [standardized[batches == batch] for batch in range(len(counts))]
    means = np.array([part.mean(axis=0) for part in of_batches])
    variances = np.array([part.var(axis=0, ddof=1) for part in of_batches])
    if shrunk and standardized.shape[1] > 1:
        means, variances = _empirical_bayes(means, variances, counts[:, None])
    return means, np.sqrt(variances)


def _empirical_bayes(means: Values, variances: Values, counts: Codes) -> tuple[Values, Values]:
    """γ* and δ²* (B, F): modes under a normal and an inverse gamma prior (Johnson 2007, equations 3.1 to 3.3).

    The moments of a batch's priors are those of its own estimates over the features, but for what is OUTLYING.
    """
    mean, spread = means.mean(axis=1, keepdims=True), means.var(axis=1, ddof=1, keepdims=True)
    usual = np.where(variances <= OUTLYING * np.median(variances, axis=1, keepdims=True), variances, np.nan)
    typical, varied = np.nanmean(usual, axis=1, keepdims=True), np.nanvar(usual, axis=1, ddof=1, keepdims=True)
    varied = np.maximum(varied, 1e-12 * typical**2)  # features that are copies of each other
    shape, scale = typical**2 / varied + 2, typical**3 / varied + typical
    delta2 = variances
    for _ in range(MAX_ITERATIONS):
        gamma = (counts * spread * means + delta2 * mean) / (counts * spread + delta2)
        squares = (counts - 1) * variances + counts * (means - gamma) ** 2
        before, delta2 = delta2, (scale + squares / 2) / (counts / 2 + shape - 1)
        if np.max(np.abs(1 - before / delta2)) < CONVERGED:
            break
    return gamma, delta2


@dataclass(frozen=True)
class CovBatModel:
    """ComBat, and then ComBat on the scores of principal components: the covariances of the features agree as well.

    The components (K, F) are those of what ComBat leaves, covariate effects taken out, less its `centre` (F,), in units of its
    deviations `scale` (F,).
    """

    combat: ComBatModel
    centre: Values
    scale: Values
    components: Values
    scores: ComBatModel

    def adjust(self, values: Values, rows: Rows) -> Values:
        """See `HarmonizationStep`. Every row by itself; a NaN spreads over its row. What no component spans stays ComBat's."""
        expected = self.combat.expected(rows.design)
        adjusted = self.combat.remove(values, rows.batches, expected)
        scores = (adjusted - expected - self.centre) / self.scale @ self.components.T
        moved = self.scores.remove(scores, rows.batches, np.broadcast_to(self.scores.alpha, scores.shape)) - scores
        return adjusted + self.scale * (moved @ self.components)


def fit_covbat(values: Values, rows: Rows, *, reference: int | None = None) -> CovBatModel:
    """Fit CovBat, as `fit_combat` does ComBat. The scores' γ and δ are moments, as in the paper."""
    combat = fit_combat(values, rows, reference=reference)
    residuals = combat.adjust(values, rows) - combat.expected(rows.design)
    centre, scale = residuals.mean(axis=0), residuals.std(axis=0, ddof=1)
    standardized = (residuals - centre) / scale
    _, singular, components = np.linalg.svd(standardized, full_matrices=False)
    explained = np.cumsum(singular**2) / np.sum(singular**2)
    components = components[: int(np.searchsorted(explained, EXPLAINED_VARIANCE, side="right")) + 1]
    without_covariates = rows._replace(design=np.empty((len(values), 0)))
    scores = fit_combat(standardized @ components.T, without_covariates, reference=reference, shrunk=False)
    return CovBatModel(combat, centre, scale, components, scores)
