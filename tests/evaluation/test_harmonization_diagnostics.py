"""Diagnostics of a harmonization: they see the scanner and what is left of it, and are honest about new patients."""

import numpy as np
import pandas as pd
import pytest
from scanner_tables import FEATURES, scanner_table

from ltdiff.evaluation import identifiability
from ltdiff.evaluation.harmonization_diagnostics import (
    AFTER,
    BEFORE,
    CHANCE,
    COVARIATES,
    NEW,
    WITHIN,
    adjust_unseen,
    covariate_effects,
    diagnose,
    on_one_side,
    second_half,
)
from ltdiff.evaluation.harmonization_report import summarize, write_diagnostics
from ltdiff.radiomics.feature_harmonization import fit_harmonization
from ltdiff.radiomics.feature_table import Columns, feature_values

KNOWN = Columns(("scanner",), ("age", "sex"), "patient")


@pytest.fixture(scope="module")
def diagnosed():
    table, _ = scanner_table(120)
    fitted = fit_harmonization(table, KNOWN)
    return fitted, diagnose(fitted, table)


def test_a_harmonized_scanner_cannot_be_told(diagnosed):
    _, diagnostics = diagnosed
    auc = diagnostics.identifiability.set_index("stage")["auc"]
    assert auc[BEFORE] > 0.95
    assert auc[NEW] < 0.72
    assert auc[COVARIATES] == pytest.approx(0.5, abs=0.12)
    assert diagnostics.identifiability["batch"].unique().tolist() == ["A"]  # B is its mirror


def test_rows_of_the_fit_agree_better_than_new_patients(diagnosed):
    """That is why both are reported: moments of the fit are equal by construction."""
    _, diagnostics = diagnosed
    sizes = {
        stage: diagnostics.distributions[f"mean_difference_{stage}"].abs().median() for stage in (BEFORE, AFTER, NEW, CHANCE)
    }
    assert sizes[AFTER] < 0.5 * sizes[NEW] < 0.5 * sizes[BEFORE]
    assert sizes[NEW] < 2.5 * sizes[CHANCE]
    auc = diagnostics.identifiability.set_index("stage")["auc"]
    assert auc[AFTER] < 0.5


def test_effects_of_covariates_are_those_within_the_batches(diagnosed):
    _, diagnostics = diagnosed
    for _, effects in diagnostics.covariates.groupby("covariate"):
        assert effects[WITHIN].abs().max() > 0.3
        np.testing.assert_allclose(effects[AFTER], effects[WITHIN], atol=0.06)
    assert diagnostics.covariates["covariate"].unique().tolist() == ["age", "sex=M"]


def test_the_effect_of_a_covariate_is_its_coefficient():
    """2 σ for a step of 1, in two batches whose means differ."""
    rng = np.random.default_rng(0)
    design, batches = rng.normal(size=(2000, 1)), rng.integers(0, 2, 2000)
    values = (6 * design[:, 0] + 100 * batches + 3 * rng.normal(size=2000))[:, None]
    assert covariate_effects(values, design, np.eye(2)[batches]) == pytest.approx(2, abs=0.1)
    assert covariate_effects(np.full_like(values, np.nan), design, np.eye(2)[batches]).shape == (1, 1)


def test_the_half_that_is_held_out_is_of_whole_patients_and_all_batches():
    table, _ = scanner_table(60, num_scans=3, scanners="ABC")
    rows = fit_harmonization(table, KNOWN).rows_of(table)
    held = pd.Series(second_half(rows))
    assert held.groupby(table["patient"]).nunique().max() == 1
    assert held.groupby(table["scanner"]).mean().between(0.3, 0.7).all()


@pytest.mark.parametrize("method", ["combat", "covbat", "nested", "longitudinal"])
def test_held_out_patients_are_harmonized_by_the_others_alone(method):
    table, _ = scanner_table(60, num_scans=2)
    table["kernel"] = np.where(np.arange(len(table)) % 3, "sharp", "soft")
    batches, kept = (("scanner", "kernel"), ()) if method == "nested" else (("scanner",), ("kernel",))
    fitted = fit_harmonization(table, Columns(batches, ("age", "sex"), "patient", kept), method=method)
    rows = fitted.rows_of(table)
    held = second_half(rows)
    values = feature_values(table, fitted.features)
    adjusted = adjust_unseen(fitted, values, rows, held)
    assert np.isnan(adjusted[~held]).all()
    assert np.isfinite(adjusted[held]).all()
    someone = np.flatnonzero(held)[0]
    others = held & (rows["scanner"].patients != rows["scanner"].patients[someone])
    changed = values.copy()
    changed[someone] *= 3  # of nobody's fit
    np.testing.assert_allclose(adjust_unseen(fitted, changed, rows, held)[others], adjusted[others])


def test_patients_on_both_scanners_are_on_one_side_alone():
    patients, members = np.array([7, 7, 8, 8, 8, 9, 5]), np.array([True, False, True, False, False, True, False])
    assert on_one_side(patients, members).tolist() == [True, False, False, True, True, True, True]


def test_a_patient_s_own_level_is_not_taken_for_a_scanner(monkeypatch):
    """Two scanners that do the same, and patients who were on both: a classifier that knows them would be wrong (AUC .34)."""
    monkeypatch.setattr(identifiability, "MAX_FOLDS", 3)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient": np.arange(150).repeat(2), "scanner": ["A", "B"] * 150})
    own = 9 * rng.normal(size=(150, 8)).repeat(2, axis=0)
    table[[f"f{number}" for number in range(8)]] = own + rng.normal(size=(300, 8))
    fitted = fit_harmonization(table, Columns(("scanner",), patient="patient"), method="longitudinal")
    told = diagnose(fitted, table).identifiability.set_index("stage")["auc"]
    assert told[BEFORE] == pytest.approx(0.5, abs=0.08)


def test_every_batch_of_several_is_compared(monkeypatch):
    monkeypatch.setattr(identifiability, "MAX_FOLDS", 2)
    table, _ = scanner_table(90, scanners="ABC")
    diagnostics = diagnose(fit_harmonization(table, Columns(("scanner",), patient="patient", kept=("age",))), table)
    assert diagnostics.identifiability["batch"].unique().tolist() == ["A", "B", "C"]
    assert COVARIATES not in set(diagnostics.identifiability["stage"])
    assert diagnostics.covariates.empty
    assert len(diagnostics.distributions) == 3 * len(FEATURES)


def test_the_report_has_what_was_measured(diagnosed, tmp_path):
    fitted, diagnostics = diagnosed
    write_diagnostics(diagnostics, fitted, tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {
        "identifiability.csv", "covariates.csv", "distributions.csv", "distributions.png", "report.md",
    }  # fmt: skip
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Harmonization of features\n\nNot for diagnostic use.")
    shown = summarize(diagnostics)
    assert list(shown.columns) == ["batch_column", "batch", BEFORE, AFTER, NEW, COVARIATES]
    assert shown[NEW].iloc[0] in text
    assert pd.read_csv(tmp_path / "distributions.csv")["feature"].tolist() == FEATURES
