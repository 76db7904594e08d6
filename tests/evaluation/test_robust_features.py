"""Verdicts on features: clear cases, cases that the regions cannot decide, and features without a CCC."""

from dataclasses import replace

import numpy as np
import pytest
from feature_arrays import make_feature_array

from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.robust_features import count_verdicts, robust_features


@pytest.fixture(scope="module")
def array():
    """Features with little noise, with so much that their CCC is near .85, with more, and one that is not defined."""
    rng = np.random.default_rng(0)
    target = rng.normal(0, 1, (60, 4))
    source = target + rng.normal(0, 1, target.shape) * [0.05, 0.55, 2.0, 1.0]
    source[:, 3] = np.nan
    return make_feature_array({TARGET: target, "source": source}, np.arange(60) // 2)


@pytest.mark.filterwarnings("error")
def test_verdicts(array):
    table = robust_features(array)
    assert table["reproducible_0.85"].tolist() == ["yes", "uncertain", "no", ""]
    assert table["reproducible_0.90"].tolist()[::2] == ["yes", "no"]
    assert (table["ci_low"] < table["ccc"])[:3].all()
    assert (table["ccc"] < table["ci_high"])[:3].all()
    assert table["num_rois"].tolist() == [60, 60, 60, 0]
    assert set(table["num_slices"]) == {30}


def test_they_are_counted(array):
    row = count_verdicts(robust_features(array)).squeeze()
    assert row[["num_features", "yes_0.85", "uncertain_0.85"]].tolist() == [3, 1, 1]


def test_few_slices_decide_nothing(array):
    table = robust_features(replace(array, rois=tuple(region._replace(slice_index=0) for region in array.rois)))
    assert table["reproducible_0.85"].tolist() == ["uncertain"] * 3 + [""]
    assert table["ci_low"].isna().all()


def test_on_a_real_table(scores):
    """The CCC is that of feature_ccc."""
    table = robust_features(scores.features).merge(scores.feature_ccc, on=["method", "roi_set", "feature_class", "feature"])
    assert len(table) == len(scores.feature_ccc)
    np.testing.assert_allclose(table["ccc_x"], table["ccc_y"])
