"""Harmonization of tables: the truth is found on patients of the fit and on new ones, and what cannot be done is refused."""

import numpy as np
import pandas as pd
import pytest
from scanner_tables import FEATURES, error, scanner_table

from ltdiff.radiomics.feature_harmonization import fit_harmonization
from ltdiff.radiomics.feature_table import MARK, Columns

KNOWN = Columns(("scanner",), ("age", "sex"), "patient")
METHODS = ("combat", "covbat", "nested", "longitudinal")


def _fit_any(method, num=80, **kwargs):
    """(table, harmonization) of a method, with what it needs."""
    table, _ = scanner_table(num, num_scans=2 if method == "longitudinal" else 1, **kwargs)
    table["kernel"] = np.where(np.arange(len(table)) % 3, "sharp", "soft")
    columns = Columns(("scanner", "kernel"), ("age", "sex"), "patient") if method == "nested" else KNOWN
    kept = ("kernel",) if method != "nested" else ()
    return table, fit_harmonization(table, Columns(columns.batches, columns.covariates, columns.patient, kept), method=method)


@pytest.mark.parametrize("method", ["combat", "covbat"])
def test_new_patients_become_as_the_reference_scanner_would_have_measured_them(method):
    table, _ = scanner_table(600, scanners="ABC")
    fitted = fit_harmonization(table, KNOWN, method=method, reference="A")
    new, truth = scanner_table(200, seed=1, scanners="ABC")
    harmonized = fitted.apply(new, mark="x")
    assert error(harmonized, truth) < 0.2 < 0.6 < error(new, truth)
    is_a = new["scanner"] == "A"
    np.testing.assert_allclose(harmonized.loc[is_a, FEATURES], new.loc[is_a, FEATURES], rtol=1e-10)
    assert list(harmonized.columns) == [*new.columns, MARK]
    pd.testing.assert_frame_equal(harmonized[["patient", "scanner", "age", "sex"]], new[["patient", "scanner", "age", "sex"]])


def test_covariates_keep_their_effects_where_scanners_have_other_patients():
    """Without them, the age of the patients of a scanner is taken for the scanner."""
    table, truth = scanner_table(600, confounded=1.0)
    errors = {}
    for name, covariates in (("with", ("age", "sex")), ("without", ())):
        kept = () if covariates else ("age",)
        fitted = fit_harmonization(table, Columns(("scanner",), covariates, "patient", kept), reference="A")
        errors[name] = error(fitted.apply(table, mark="x"), truth)
    assert errors["with"] < 0.15
    assert errors["without"] > 2 * errors["with"]


def test_nested_removes_two_columns():
    table, _ = scanner_table(300)
    kernel = np.random.default_rng(5).choice(["sharp", "soft"], 300)
    table.loc[kernel == "sharp", FEATURES] *= 1.5
    table.insert(0, "kernel", kernel)
    fitted = fit_harmonization(table, Columns(("scanner", "kernel"), ("age", "sex"), "patient"), method="nested")
    harmonized = fitted.apply(table, mark="x")
    for column in ("scanner", "kernel"):
        one, other = (part[FEATURES].mean() for _, part in harmonized.groupby(column))
        before, after = (part[FEATURES].mean() for _, part in table.groupby(column))
        assert ((one - other).abs() / table[FEATURES].std()).mean() < 0.1
        assert ((before - after).abs() / table[FEATURES].std()).mean() > 0.4
    assert set(fitted.batches) == {"scanner", "kernel"}


@pytest.mark.parametrize("method", METHODS)
def test_a_new_patient_has_one_result_whoever_else_is_in_the_table(method):
    """Alone, among others, in another order of rows and columns, and where all are of one sex."""
    table, fitted = _fit_any(method)
    together = fitted.apply(table, mark="x")
    chosen = table["patient"].isin(table.loc[table["sex"] == "M", "patient"].unique()[:2])
    np.testing.assert_allclose(fitted.apply(table[chosen], mark="x")[FEATURES], together.loc[chosen, FEATURES], rtol=1e-9)
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = fitted.apply(table.iloc[order, ::-1], mark="x")
    np.testing.assert_allclose(shuffled.sort_index()[FEATURES], together[FEATURES], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_does_not_matter_to_a_fit(method):
    table, fitted = _fit_any(method)
    kept = () if method == "nested" else ("kernel",)
    columns = Columns(tuple(sorted(fitted.batches, reverse=True)), ("age", "sex"), "patient", kept)
    again = fit_harmonization(table.sample(frac=1, random_state=1), columns, method=method)
    np.testing.assert_allclose(again.apply(table, mark="x")[FEATURES], fitted.apply(table, mark="x")[FEATURES], rtol=1e-6)


def test_labels_are_one_whichever_file_they_come_from():
    """Scanner 1 is 1, 1.0 and "1"; True is True and "True"."""
    table, _ = scanner_table(60)
    table["scanner"] = (table["scanner"] == "B").astype(int)
    table["smoker"] = table.pop("sex") == "F"
    fitted = fit_harmonization(table, Columns(("scanner",), ("smoker",), "patient", ("age",)))
    expected = fitted.apply(table, mark="x")[FEATURES]
    for kinds in ({"scanner": float}, {"scanner": str, "smoker": str}):
        pd.testing.assert_frame_equal(fitted.apply(table.astype(kinds), mark="x")[FEATURES], expected)


def test_constant_features_stay_and_are_named(caplog):
    table, _ = scanner_table(60)
    table["same"] = 4.0
    table["same_in_b"] = np.where(table["scanner"] == "B", 1 + 1e-16, table[FEATURES[0]])
    fitted = fit_harmonization(table, KNOWN)
    assert list(fitted.unchanged) == ["same", "same_in_b"]
    assert "constant in the batch 'B'" in fitted.unchanged["same_in_b"]
    assert "features that cannot be fitted stay as they are: 'same', 'same_in_b'" in caplog.text
    harmonized = fitted.apply(table, mark="x")
    pd.testing.assert_frame_equal(harmonized[["same", "same_in_b"]], table[["same", "same_in_b"]])
    without = fit_harmonization(table.drop(columns=["same", "same_in_b"]), KNOWN)
    pd.testing.assert_frame_equal(without.apply(table, mark="x"), harmonized)


def test_features_without_a_value_stay_where_that_is_asked_for():
    table, _ = scanner_table(60)
    table.loc[3, FEATURES[2]] = np.nan
    fitted = fit_harmonization(table, KNOWN, keep_incomplete=True)
    assert fitted.unchanged == {FEATURES[2]: "without a value in some row"}
    expected = fit_harmonization(table.drop(columns=FEATURES[2]), KNOWN).apply(table, mark="x")
    pd.testing.assert_frame_equal(fitted.apply(table, mark="x"), expected)
    with pytest.raises(ValueError, match="there is nothing to harmonize"):
        fit_harmonization(table.assign(**dict.fromkeys(FEATURES, np.nan)), KNOWN, keep_incomplete=True)


def test_what_is_no_feature_stays():
    table, _ = scanner_table(60)
    table = table.assign(num_voxels=range(60), survival=5.5, survival_days=2.0, roi="lesion", old=True)
    fitted = fit_harmonization(table, Columns(("scanner",), ("age", "sex"), "patient", ("surv*", FEATURES[3])))
    assert fitted.features == tuple(name for name in FEATURES if name != FEATURES[3])
    others = [name for name in table if name not in fitted.features]
    pd.testing.assert_frame_equal(fitted.apply(table, mark="x")[others], table[others])


def _drop(table, scanner, num):
    return pd.concat([table[table["scanner"] != scanner], table[table["scanner"] == scanner].head(num)])


@pytest.mark.parametrize(
    ("change", "columns", "arguments", "named"),
    [
        (lambda t: t, Columns(("site",)), {}, "there is no column 'site'"),
        (lambda t: t.assign(scanner="A"), KNOWN, {}, "the column 'scanner' has one batch alone, 'A'"),
        (lambda t: _drop(t, "B", 9), KNOWN, {}, "a batch needs 10 patients, and of the column 'scanner' 'B' has 9"),
        (lambda t: t.assign(patient=t["patient"].where(t["scanner"] == "A", "p")), KNOWN, {}, "'B' has 1"),
        (lambda t: t, Columns(("patient",)), {}, "60 of 60 batches have fewer"),
        (lambda t: t.assign(age=t["age"].where(t.index != 3)), KNOWN, {}, "'age' has no value in 1 of 60 rows"),
        (lambda t: t.assign(scanner=t["scanner"].where(t.index != 3)), KNOWN, {}, "'scanner' has no value in 1 of 60 rows"),
        (lambda t: t.assign(sex="F"), KNOWN, {}, "the covariate 'sex' has one value alone"),
        (lambda t: t.assign(sex="of " + t["scanner"]), KNOWN, {}, "'sex' is confounded with the batch 'scanner'"),
        (lambda t: t.assign(age=np.where(t["scanner"] == "A", 50.0, 60.0)), KNOWN, {}, "'age' is confounded with the batch"),
        (lambda t: t.assign(sex=t["age"] * 365.25), KNOWN, {}, "'sex' follows from those before it"),
        (lambda t: t.assign(**{FEATURES[1]: t[FEATURES[1]].where(t.index > 4)}), KNOWN, {},
         "features without a finite value in 5 of 60 rows: 'glcm_1'; leave out"),
        (lambda t: t.assign(**{FEATURES[1]: np.inf}), KNOWN, {}, "without a finite value in 60 of 60 rows"),
        (lambda t: t[["patient", "scanner", "age", "sex"]], KNOWN, {}, "no column is left that could be a feature"),
        (lambda t: t.drop(columns=FEATURES[1:]).assign(**{FEATURES[0]: 1.0}), KNOWN, {}, "nothing to harmonize"),
        (lambda t: t.assign(harmonization="combat"), KNOWN, {}, "harmonized already"),
        (lambda t: t.assign(extractor=np.where(t.index % 2, "a", "b")), KNOWN, {}, "measured in several ways: extractor"),
        (lambda t: t, Columns(("scanner",), ("age", "age")), {}, "'age' has two roles"),
        (lambda t: t, Columns(("scanner",), kept=("stage*",)), {}, "no column is called 'stage*'"),
        (lambda t: t, KNOWN, {"reference": "C"}, "there is no batch 'C'; there are 'A', 'B'"),
        (lambda t: t, KNOWN, {"method": "nested"}, "nested ComBat takes 2 to 4 batch columns, got 1"),
        (lambda t: t, Columns(("scanner", "sex")), {}, "combat takes one batch column, got 2"),
        (lambda t: t, Columns(("scanner",)), {"method": "longitudinal"}, "needs the column of the patient"),
        (lambda t: t, KNOWN, {"method": "longitudinal"}, "10 are needed, and here are 0"),
        (lambda t: t, KNOWN, {"method": "longitudinal", "reference": "A"}, "longitudinal has no reference batch"),
    ],
)  # fmt: skip
def test_a_fit_that_cannot_be_is_refused_in_a_sentence(change, columns, arguments, named):
    table, _ = scanner_table(60)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        fit_harmonization(change(table), columns, **arguments)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.assign(scanner="C"), "the batch 'C' of the column 'scanner' is not in the fit, which knows 'A', 'B'"),
        (lambda t: t.drop(columns="scanner"), "there is no column 'scanner'"),
        (lambda t: t.drop(columns="age"), "there is no column 'age'"),
        (lambda t: t.assign(age=np.nan), "'age' has no value in 40 of 40 rows"),
        (lambda t: t.assign(age="old"), "'age' is no number here"),
        (lambda t: t.assign(sex="X"), "'sex' has the value 'X', which the fit has not seen; it knows 'F', 'M'"),
        (
            lambda t: t.drop(columns=FEATURES[2:9]),
            "features of the fit are missing: 'glcm_2', 'glcm_3', 'glcm_4', 'glcm_5', 'glcm_6' and 2 more",
        ),
        (lambda t: t.assign(**{FEATURES[2]: "big"}), "features are no numbers: 'glcm_2'"),
        (lambda t: t.assign(harmonization="combat"), "harmonized already"),
        (lambda t: t.assign(discretisation="bins of 10 HU"), "measured in another way: discretisation is 'bins of 10 HU'"),
    ],
)
def test_a_table_of_another_kind_is_refused_in_a_sentence(change, named):
    table, _ = scanner_table(60)
    fitted = fit_harmonization(table.assign(discretisation="bins of 25 HU"), KNOWN)
    new, _ = scanner_table(40, seed=1)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        fitted.apply(change(new), mark="x")
    assert named in str(refusal.value)
    fitted.apply(new, mark="x")


def test_a_missing_value_of_a_new_patient_stays_missing(caplog):
    table, fitted = _fit_any("combat")
    expected = fitted.apply(table, mark="x")
    table.loc[5, FEATURES[4]] = expected.loc[5, FEATURES[4]] = np.nan
    pd.testing.assert_frame_equal(fitted.apply(table, mark="x"), expected)
    assert "1 of 960 values are missing, and stay so" in caplog.text


def test_covbat_needs_all_features_of_a_new_patient():
    table, fitted = _fit_any("covbat")
    table.loc[5, FEATURES[4]] = np.nan
    with pytest.raises(ValueError, match="'glcm_4'; CovBat mixes the features"):
        fitted.apply(table, mark="x")


def test_covariates_that_hardly_differ_from_the_batch_are_warned_of(caplog):
    table, _ = scanner_table(60, confounded=6.0)
    fit_harmonization(table, KNOWN)
    assert "of the variance of the covariate 'age' lies between the batches 'scanner'" in caplog.text


def test_the_patient_is_needed_where_rows_of_one_belong_together():
    table, fitted = _fit_any("combat")
    pd.testing.assert_frame_equal(
        fitted.apply(table.drop(columns="patient"), mark="x"), fitted.apply(table, mark="x").drop(columns="patient")
    )
    table, fitted = _fit_any("longitudinal")
    with pytest.raises(ValueError, match="there is no column 'patient'"):
        fitted.apply(table.drop(columns="patient"), mark="x")
