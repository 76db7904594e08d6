"""The ratio of remaining errors: worked values, and a bootstrap that draws slices, the same ones for both methods."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ltdiff.data.rois import Roi
from ltdiff.evaluation.concordance import ccc
from ltdiff.evaluation.error_ratio import COLUMNS, MIN_SLICES, largest_shares, remaining_error_ratios
from ltdiff.evaluation.feature_values import TARGET, FeatureArray
from ltdiff.radiomics.feature_sets import PYRADIOMICS


def _array(methods, slices, *, roi_sets=("random",), feature_classes=("glcm",)):
    """A feature array; values (rois, features) by method, the same in every set and class."""
    rois = [Roi(name, slice_index, None, f"region{i}") for name in roi_sets for i, slice_index in enumerate(slices)]
    num_features = methods[TARGET].shape[1]
    names = tuple(f"{name}_F{f}" for name in feature_classes for f in range(num_features))
    values = np.stack([np.tile(of_method, (len(roi_sets), len(feature_classes))) for of_method in methods.values()])
    return FeatureArray(values, tuple(methods), tuple(rois), replace(PYRADIOMICS, features=names))


def _column(*values):
    return np.array(values, float)[:, None]


def _noisy(num_slices=40, rois_per_slice=3, seed=0):
    """Targets, one method with some noise, another with twice as much; and the slice of each region."""
    rng = np.random.default_rng(seed)
    slices = np.repeat(np.arange(num_slices), rois_per_slice)
    target = rng.normal(0, 1, (len(slices), 4))
    noise = rng.normal(0, 0.2, (2, *target.shape))
    return {TARGET: target, "ltdiff": target + noise[0], "other": target + 2 * noise[1]}, slices


def _ratio(methods, slices, **options):
    return remaining_error_ratios(_array(methods, slices), method="ltdiff", **options).squeeze()


def test_a_worked_value():
    """CCC of 1 2 3 4 and the same plus d: 2.5 / (2.5 + d²), so 5/7 and 5/13."""
    target = _column(1, 2, 3, 4)
    row = _ratio({TARGET: target, "ltdiff": target + 1, "linear": target + 2}, [0, 1, 2, 3])
    assert row["remaining_error"] == pytest.approx(2 / 7)
    assert row["ratio"] == pytest.approx((2 / 7) / (8 / 13))
    assert (row["method"], row["other"], row["num_slices"]) == ("ltdiff", "linear", 4)


def test_the_error_is_that_of_the_mean_over_the_features_of_the_class():
    methods, slices = _noisy()
    row = _ratio(methods, slices)
    errors = {
        name: 1 - np.mean([ccc(methods[name][:, f], methods[TARGET][:, f]) for f in range(4)]) for name in ("ltdiff", "other")
    }
    assert row["remaining_error"] == pytest.approx(errors["ltdiff"])
    assert row["ratio"] == pytest.approx(errors["ltdiff"] / errors["other"])


def test_a_method_beside_its_like_leaves_the_same():
    methods, slices = _noisy()
    row = _ratio({TARGET: methods[TARGET], "ltdiff": methods["ltdiff"], "twin": methods["ltdiff"]}, slices)
    assert row["ratio"] == row["ci_low"] == row["ci_high"] == 1


def test_the_interval_holds_the_ratio_where_the_case_is_clear():
    """Twice the noise leaves four times the error, less what a CCC takes off large ones."""
    row = _ratio(*_noisy())
    assert 0.15 < row["ci_low"] < row["ratio"] < row["ci_high"] < 0.4
    swapped = remaining_error_ratios(_array(*_noisy()), method="other").squeeze()
    assert swapped["ratio"] == pytest.approx(1 / row["ratio"])
    assert swapped["ci_low"] == pytest.approx(1 / row["ci_high"], rel=0.01)


def test_both_methods_are_drawn_on_the_same_slices():
    """Both are good and bad on the same slices, in the same proportion: the ratio hardly varies, each error does."""
    rng = np.random.default_rng(0)
    target = rng.normal(0, 1, (60, 6))
    error = np.where(np.arange(60)[:, None] < 30, 0.02, 0.5) * rng.choice([-1, 1], target.shape)
    row = _ratio({TARGET: target, "ltdiff": target + error, "other": target + 1.2 * error}, np.arange(60))
    assert row["ci_high"] - row["ci_low"] < 0.05 * row["ratio"]


def test_regions_of_one_slice_are_drawn_together():
    """Regions that say again what others of their slice have said make no interval narrower."""
    methods, _ = _noisy(num_slices=20, rois_per_slice=1)
    once = _ratio(methods, np.arange(20))
    often = _ratio({name: np.repeat(values, 5, axis=0) for name, values in methods.items()}, np.repeat(np.arange(20), 5))
    for name in ("ratio", "ci_low", "ci_high"):
        assert often[name] == pytest.approx(once[name])
    assert once["num_slices"] == often["num_slices"] == 20


def test_a_few_slices_give_no_interval():
    """Of a single one there is but one resample, and its interval would have no width."""
    methods, _ = _noisy(num_slices=20, rois_per_slice=1)
    few, enough = (_ratio(methods, np.arange(20) % num) for num in (MIN_SLICES - 1, MIN_SLICES))
    assert few["ratio"] == pytest.approx(enough["ratio"])
    assert np.isnan([few["ci_low"], few["ci_high"]]).all()
    assert enough["ci_low"] < enough["ratio"] < enough["ci_high"]


def test_slices_need_no_numbers_in_a_row():
    methods, slices = _noisy()
    pd.testing.assert_series_equal(_ratio(methods, 10 * slices + 3), _ratio(methods, slices))


def test_the_interval_is_a_function_of_the_seed():
    first, again, other = (_ratio(*_noisy(), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_series_equal(first, again)
    assert other["ratio"] == first["ratio"]
    assert other["ci_low"] != first["ci_low"]


@pytest.mark.filterwarnings("error")
def test_beside_a_method_that_leaves_no_error_there_is_no_ratio():
    target = _column(1, 2, 3, 4)
    row = _ratio({TARGET: target, "ltdiff": target + 1, "perfect": target}, [0, 1, 2, 3])
    assert row["remaining_error"] == pytest.approx(2 / 7)
    assert row[["ratio", "ci_low", "ci_high"]].isna().all()


@pytest.mark.filterwarnings("error")
def test_a_class_without_any_ccc_has_no_error():
    nothing = _column(np.nan, np.nan, np.nan)
    row = _ratio({TARGET: nothing, "ltdiff": nothing, "other": nothing}, [0, 1, 2])
    assert row[["remaining_error", "ratio", "ci_low", "ci_high"]].isna().all()


def test_every_other_method_roi_set_and_class_has_its_row():
    methods, slices = _noisy()
    methods |= {"source": methods[TARGET] + 1}
    array = _array(methods, slices, roi_sets=("random", "tumour"), feature_classes=("glcm", "ngtdm"))
    result = remaining_error_ratios(array, method="ltdiff")
    assert tuple(result.columns) == COLUMNS
    keys = list(zip(result["other"], result["roi_set"], result["feature_class"], strict=True))
    assert len(set(keys)) == len(keys) == 2 * 2 * 2
    assert set(result["other"]) == {"other", "source"}
    assert result.groupby("other")["ratio"].nunique().tolist() == [1, 1]  # the same values in all four


def test_the_region_with_most_of_the_error_is_found():
    """Errors of 1 and 3 standard deviations: a tenth and nine tenths of the squares."""
    target = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    error = np.zeros_like(target)
    error[1], error[3] = target.std(axis=0), -3 * target.std(axis=0)
    constant = np.full((4, 1), 5.0)
    methods = {TARGET: np.hstack([target, constant]), "ltdiff": np.hstack([target + error, constant + 7])}
    shares = largest_shares(_array(methods | {"same": methods[TARGET]}, [0, 1, 2, 5])).set_index("method")
    assert shares.loc["ltdiff", ["roi_set", "slice_index", "label"]].tolist() == ["random", 5, "region3"]
    assert shares.loc["ltdiff", "share"] == pytest.approx(0.9)
    assert np.isnan(shares.loc["same", "share"])


def test_on_a_real_table(scores):
    """`better` is halfway between source and target."""
    result = remaining_error_ratios(scores.features, method="better")
    assert set(result["other"]) == {"source"}
    random = result[result["roi_set"] == "random"]
    assert (random["ratio"] < 1).all()
    expected = scores.ccc.query("method == 'better' and roi_set == 'random' and definition == 'across_rois'")
    assert random["remaining_error"].tolist() == pytest.approx((1 - expected["ccc_mean"]).tolist())
