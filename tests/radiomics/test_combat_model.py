"""ComBat and CovBat: the values of other programs, and the properties that their papers promise."""

import json
from pathlib import Path

import numpy as np
import pytest

from ltdiff.radiomics.combat_model import Rows, estimate_batches, fit_combat, fit_covbat
from ltdiff.radiomics.longitudinal_combat import fit_longitudinal

REFERENCE = json.loads((Path(__file__).parent / "combat_reference.json").read_text())
FEATURES = np.array(REFERENCE["features"])
DEVIATIONS = FEATURES.std(axis=0)


def rows_of(batches, design=None, patients=None):
    num = len(batches)
    return Rows(
        np.asarray(batches, dtype=np.int64),
        np.empty((num, 0)) if design is None else np.asarray(design, dtype=float).reshape(num, -1),
        np.arange(num) if patients is None else np.asarray(patients),
    )


@pytest.fixture
def rows():
    """Of the reference: three batches, with age and sex."""
    batches = np.unique(REFERENCE["batch"], return_inverse=True)[1]
    return rows_of(batches, np.column_stack([REFERENCE["age"], REFERENCE["male"]]))


def _largest_error(values, name):
    return np.abs((values - np.array(REFERENCE[name])) / DEVIATIONS).max()


def test_values_are_those_of_neurocombat(rows):
    plain = rows._replace(design=np.empty((len(FEATURES), 0)))
    assert _largest_error(fit_combat(FEATURES, plain).adjust(FEATURES, plain), "combat") < 1e-6
    assert _largest_error(fit_combat(FEATURES, rows).adjust(FEATURES, rows), "combat_covariates") < 1e-6
    of_reference = fit_combat(FEATURES, rows, reference=1).adjust(FEATURES, rows)
    assert _largest_error(of_reference, "combat_reference_B") < 1e-6
    assert np.abs(of_reference - FEATURES).max() > DEVIATIONS.min()


def test_values_of_covbat_are_those_of_its_steps(rows):
    model = fit_covbat(FEATURES, rows)
    assert _largest_error(model.adjust(FEATURES, rows), "covbat_covariates") < 1e-6
    assert len(model.components) == REFERENCE["covbat_components"] < FEATURES.shape[1]


def test_values_of_longitudinal_combat_are_those_of_longcombat(rows):
    values = np.array(REFERENCE["repeated_features"])
    repeated = rows._replace(design=rows.design[:, :1], patients=np.array(REFERENCE["patient"]))
    assert _largest_error(fit_longitudinal(values, repeated).adjust(values, repeated), "longitudinal_age") < 1e-4


@pytest.mark.parametrize("fit", [fit_combat, fit_covbat])
def test_the_reference_batch_stays_as_it_is(fit, rows):
    adjusted = fit(FEATURES, rows, reference=2).adjust(FEATURES, rows)
    is_reference = rows.batches == 2
    np.testing.assert_allclose(adjusted[is_reference], FEATURES[is_reference], rtol=1e-10)
    assert np.abs(adjusted[~is_reference] - FEATURES[~is_reference]).max() > DEVIATIONS.min()


@pytest.mark.parametrize("fit", [fit_combat, fit_covbat, fit_longitudinal])
def test_units_of_features_and_order_of_rows_do_not_matter(fit, rows):
    rows = rows._replace(patients=np.array(REFERENCE["patient"]))
    adjusted = fit(FEATURES, rows).adjust(FEATURES, rows)
    units = np.geomspace(1e-9, 1e9, FEATURES.shape[1])
    other = FEATURES * units + 5 * units * FEATURES.std(axis=0)
    np.testing.assert_allclose(
        fit(other, rows).adjust(other, rows) / units / DEVIATIONS - 5, adjusted / DEVIATIONS, rtol=1e-5, atol=1e-5
    )
    order = np.random.default_rng(0).permutation(len(FEATURES))
    shuffled = Rows(*(part[order] for part in rows))
    np.testing.assert_allclose(fit(FEATURES[order], shuffled).adjust(FEATURES[order], shuffled), adjusted[order], rtol=1e-6)


@pytest.mark.parametrize("fit", [fit_combat, fit_covbat])
def test_a_row_is_harmonized_by_itself(fit, rows):
    model = fit(FEATURES, rows)
    together = model.adjust(FEATURES, rows)
    for number in (0, 17, 35):
        chosen = np.arange(len(FEATURES)) == number
        np.testing.assert_allclose(model.adjust(FEATURES[chosen], rows.select(chosen))[0], together[number], rtol=1e-12)


def test_a_missing_value_stays_and_changes_nothing_else(rows):
    model = fit_combat(FEATURES, rows)
    expected = model.adjust(FEATURES, rows)
    given = FEATURES.copy()
    given[4, 2] = expected[4, 2] = np.nan
    np.testing.assert_array_equal(model.adjust(given, rows), expected)


def test_estimates_shrink_towards_those_of_the_other_features():
    """Where all features have one γ, half of what the estimates differ by is noise of the prior, and half of the feature."""
    standardized, batches = np.random.default_rng(0).normal(0.5, 1, size=(200, 300)), np.repeat([0, 1], [8, 192])
    (raw, raw_deltas), (shrunk, deltas) = (estimate_batches(standardized, batches, shrunk=one) for one in (False, True))
    np.testing.assert_allclose(np.abs(shrunk - 0.5).mean(axis=1) / np.abs(raw - 0.5).mean(axis=1), 0.5, atol=0.05)
    assert (np.abs(deltas - 1).mean(axis=1) < 0.8 * np.abs(raw_deltas - 1).mean(axis=1)).all()


def test_a_feature_of_another_order_draws_no_other_to_it():
    """As texture of a wavelet band does, whose variance in one batch is 10⁸ times that in the other."""
    random = np.random.default_rng(0)
    standardized = random.normal(size=(40, 12)) * np.linspace(0.5, 2, 12)
    batches = np.repeat([0, 1], 20)
    _, alone = estimate_batches(standardized, batches)
    wild = np.column_stack([standardized, 1e4 * random.normal(size=40)])
    _, together = estimate_batches(wild, batches)
    np.testing.assert_allclose(together[:, :-1], alone, rtol=0.05)
    np.testing.assert_allclose(together[:, -1], wild[:20, -1].std(ddof=1), rtol=0.6)


def test_one_feature_alone_is_not_shrunk():
    standardized = np.random.default_rng(0).normal(size=(20, 1))
    gamma, delta = estimate_batches(standardized, np.repeat([0, 1], 10))
    np.testing.assert_allclose(gamma[:, 0], [standardized[:10].mean(), standardized[10:].mean()])
    np.testing.assert_allclose(delta[:, 0], [standardized[:10].std(ddof=1), standardized[10:].std(ddof=1)])


def test_copies_of_one_feature_are_harmonized_alike(rows):
    values = np.repeat(FEATURES[:, :1], 3, axis=1)
    adjusted = fit_combat(values, rows).adjust(values, rows)
    assert np.isfinite(adjusted).all()
    np.testing.assert_allclose(adjusted, np.repeat(adjusted[:, :1], 3, axis=1))


def test_covbat_makes_correlations_agree_which_combat_leaves():
    rng = np.random.default_rng(0)
    mixed = np.eye(4) + 0.9
    values = np.concatenate([rng.normal(size=(300, 4)) @ mixed, rng.normal(size=(300, 4)) * 3])
    rows = rows_of(np.repeat([0, 1], 300))

    def disagreement(adjusted):
        return np.abs(np.corrcoef(adjusted[:300].T) - np.corrcoef(adjusted[300:].T)).max()

    assert disagreement(fit_combat(values, rows).adjust(values, rows)) > 0.7
    assert disagreement(fit_covbat(values, rows).adjust(values, rows)) < 0.15
