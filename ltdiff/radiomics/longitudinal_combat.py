"""Longitudinal ComBat: repeated scans of a patient are alike, and a random intercept of each patient says so.

y = α + x β + batch + u_patient + ε, with u ~ N(0, τ²) and ε ~ N(0, σ²), is fitted by REML; ComBat's γ and δ are those of what is
left. The intercept of a patient is the best linear unbiased predictor (BLUP) from the rows of that patient that are at hand: for
the rows of the fit it is the fit's own, and a new patient has one as well.

Source: J. C. Beer et al., NeuroImage 220 (2020) 117129.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ltdiff.radiomics.combat_model import ComBatModel, Rows, Values, estimate_batches

LOWEST, HIGHEST = -6.0, 6.0
"""Of log₁₀ τ²/σ²; at the lowest there is no intercept, and the ratio is 0."""
NUM_TRIED = 25
NUM_HALVINGS = 40
"""Steps of a golden section: the ratio is known to 10⁻⁸."""


@dataclass(frozen=True)
class LongitudinalModel:
    """ComBat's model, the mixed model's own effect of every batch (B, F), and τ²/σ² (F,)."""

    combat: ComBatModel
    batch_effects: Values
    ratio: Values

    def adjust(self, values: Values, rows: Rows) -> Values:
        """See `HarmonizationStep`. A row depends on the other rows of its patient alone."""
        expected = self.combat.expected(rows.design)
        residuals = values - expected - self.batch_effects[rows.batches]
        return self.combat.remove(values, rows.batches, expected + predict_intercepts(residuals, rows, self.ratio))


def predict_intercepts(residuals: Values, rows: Rows, ratio: Values) -> Values:
    """BLUP of the patient's intercept for every row (N, F): λ Σ r / (1 + λ n) over the n rows of the patient with a value."""
    _, patients = np.unique(rows.patients, return_inverse=True)
    members = np.eye(patients.max(initial=-1) + 1)[patients].T
    sums, counts = members @ np.nan_to_num(residuals), members @ np.isfinite(residuals)
    return (ratio * sums / (1 + ratio * counts))[patients]


def fit_longitudinal(values: Values, rows: Rows) -> LongitudinalModel:
    """Fit longitudinal ComBat to features (N, F) that vary within every batch, and within patients who have several rows."""
    counts = np.bincount(rows.batches)
    design = np.hstack([np.eye(len(counts))[rows.batches], rows.design])
    unit = values.std(axis=0)
    likelihood = _MixedModel(design, (values - values.mean(axis=0)) / unit, rows.patients)
    ratio = _least(likelihood.criterion, values.shape[1])
    coefficients, variance = likelihood.estimate(ratio)
    of_batch, beta = coefficients[: len(counts)] * unit + values.mean(axis=0), coefficients[len(counts) :] * unit
    alpha, sigma = counts @ of_batch / len(values), np.sqrt(variance) * unit
    residuals = values - of_batch[rows.batches] - rows.design @ beta
    expected = alpha + rows.design @ beta + predict_intercepts(residuals, rows, ratio)
    combat = ComBatModel(alpha, beta, sigma, *estimate_batches((values - expected) / sigma, rows.batches))
    return LongitudinalModel(combat, of_batch - alpha, ratio)


class _MixedModel:
    """Sums over patients, of which restricted likelihood and estimates of any ratio λ = τ²/σ² follow, of all features at once.

    (I + λ Z Zᵀ)⁻¹ = I − Σ_k λ/(1 + λ n_k) 1_k 1_kᵀ over the patients k.
    """

    def __init__(self, design: Values, values: Values, patients: np.ndarray) -> None:
        _, numbers = np.unique(patients, return_inverse=True)
        members = np.eye(numbers.max() + 1)[numbers].T
        self.counts, self.design_sums, self.value_sums = members.sum(axis=1), members @ design, members @ values
        self.xx, self.xy, self.yy = design.T @ design, design.T @ values, np.einsum("nf,nf->f", values, values)
        self.freedom = len(values) - design.shape[1]

    def estimate(self, ratio: Values) -> tuple[Values, Values]:
        """Coefficients (P, F) and σ² (F,) for one λ of each feature (F,)."""
        _, coefficients, variance = self._solve(ratio)
        return coefficients, variance

    def criterion(self, ratio: Values) -> Values:
        """Minus twice the restricted log-likelihood, less a constant (F,), for one λ of each feature (F,)."""
        normal, _, variance = self._solve(ratio)
        determinant = np.log1p(np.outer(ratio, self.counts)).sum(axis=1)
        return determinant + np.linalg.slogdet(normal)[1] + self.freedom * np.log(variance)

    def _solve(self, ratio: Values) -> tuple[Values, Values, Values]:
        factors = ratio[:, None] / (1 + np.outer(ratio, self.counts))  # (F, patients)
        outer = np.einsum("kp,kq->kpq", self.design_sums, self.design_sums).reshape(len(self.counts), -1)
        normal = self.xx - (factors @ outer).reshape(-1, *self.xx.shape)
        right = self.xy - np.einsum("fk,kp,kf->pf", factors, self.design_sums, self.value_sums, optimize=True)
        coefficients = np.linalg.solve(normal, right.T[:, :, None])[:, :, 0].T
        squares = self.yy - np.einsum("fk,kf->f", factors, self.value_sums**2) - np.einsum("pf,pf->f", coefficients, right)
        return normal, coefficients, np.maximum(squares, 1e-12) / self.freedom


def _least(criterion: Callable[[Values], Values], num_features: int) -> Values:
    """λ (F,) where `criterion` is least: the best of a row of values, and a golden section round it."""
    tried = np.linspace(LOWEST, HIGHEST, NUM_TRIED)
    best = np.argmin([criterion(np.full(num_features, 10.0**one)) for one in tried], axis=0)
    low, high = tried[np.maximum(best - 1, 0)], tried[np.minimum(best + 1, NUM_TRIED - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(NUM_HALVINGS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        is_left = criterion(10.0**left) < criterion(10.0**right)
        low, high = np.where(is_left, low, left), np.where(is_left, right, high)
    return np.where(best == 0, 0.0, 10.0 ** ((low + high) / 2))
