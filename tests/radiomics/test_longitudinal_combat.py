"""Longitudinal ComBat: variances of a known model are found, and a patient's own level stays."""

import numpy as np
import pytest

from ltdiff.radiomics.combat_model import Rows, fit_combat
from ltdiff.radiomics.longitudinal_combat import fit_longitudinal, predict_intercepts

NUM_PATIENTS, NUM_SCANS, NUM_FEATURES = 60, 4, 8
RATIO = 4.0


@pytest.fixture
def cohort():
    """(features, rows, features without the scanners): patients of a high level are mostly on the second scanner."""
    rng = np.random.default_rng(1)
    patients = np.arange(NUM_PATIENTS).repeat(NUM_SCANS)
    batches = (rng.random(len(patients)) < np.where(patients % 2, 0.8, 0.2)).astype(np.int64)
    months = np.tile(np.arange(NUM_SCANS) * 6.0, NUM_PATIENTS)
    own = rng.normal(0, np.sqrt(RATIO), size=(NUM_PATIENTS, NUM_FEATURES))[patients] + 3 * (patients % 2)[:, None]
    truth = own + 0.05 * months[:, None] + rng.normal(size=(len(patients), NUM_FEATURES))
    return truth + rng.normal(0, 2, size=(2, NUM_FEATURES))[batches], Rows(batches, months[:, None], patients), truth


def _gap(values, rows):
    """Difference of the batches within patients."""
    residuals = values - np.array([values[rows.patients == one].mean(axis=0) for one in range(NUM_PATIENTS)])[rows.patients]
    share = rows.batches - np.array([rows.batches[rows.patients == one].mean() for one in range(NUM_PATIENTS)])[rows.patients]
    return np.abs(share @ residuals / (share @ share))


def test_the_ratio_of_the_variances_is_found():
    rng = np.random.default_rng(0)
    patients = np.arange(400).repeat(3)
    for ratio in (0.0, 0.5, RATIO):
        values = np.sqrt(ratio) * rng.normal(size=(400, 5))[patients] + rng.normal(size=(1200, 5))
        model = fit_longitudinal(values, Rows(patients % 2, np.empty((1200, 0)), patients))
        assert model.ratio.mean() == pytest.approx(ratio, abs=0.08 + 0.1 * ratio)
        assert model.combat.sigma.mean() == pytest.approx(1, abs=0.05)


def test_the_scanner_s_effect_is_removed_and_patients_keep_their_level(cohort):
    """ComBat takes the level of patients who were mostly on one scanner for the scanner."""
    values, rows, truth = cohort
    adjusted, by_combat = (fit(values, rows).adjust(values, rows) for fit in (fit_longitudinal, fit_combat))
    assert _gap(values, rows).mean() > 1.5
    assert _gap(adjusted, rows).mean() < 0.35 < 1 < _gap(by_combat, rows).mean()
    agreement, of_combat = (
        np.mean([np.corrcoef(*both)[0, 1] for both in zip(one.T, truth.T, strict=True)]) for one in (adjusted, by_combat)
    )
    assert agreement > 0.98 > of_combat


def test_a_new_patient_is_harmonized_as_one_of_the_fit(cohort):
    """The intercept comes of the patient's own rows, whatever the patient is called, and of nobody else's."""
    values, rows, _ = cohort
    model = fit_longitudinal(values, rows)
    chosen = rows.patients == 7
    alone = rows.select(chosen)._replace(patients=np.full(NUM_SCANS, 999))
    np.testing.assert_allclose(model.adjust(values[chosen], alone), model.adjust(values, rows)[chosen], rtol=1e-10)


def test_intercepts_are_the_best_linear_predictor():
    """λ Σ r / (1 + λ n): 2 · (1 + 2 + 3) / (1 + 2 · 3) and 2 · 7 / (1 + 2); a missing value does not count."""
    rows = Rows(np.zeros(5, dtype=np.int64), np.empty((5, 0)), np.array([4, 4, 4, 9, 9]))
    residuals = np.array([[1.0], [2.0], [3.0], [7.0], [np.nan]])
    np.testing.assert_allclose(predict_intercepts(residuals, rows, np.array([2.0]))[:, 0], [12 / 7] * 3 + [14 / 3] * 2)
