"""Samples of features are made comparable: the same features, all of them defined."""

import numpy as np

from ltdiff.evaluation.feature_sample import FeatureSample, comparable


def test_features_that_one_sample_lacks_or_that_never_vary_are_left_out_of_both():
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[:, 3] = 7.0
    lacking = values.copy()
    lacking[:5, 1] = np.nan
    one, other = comparable(FeatureSample(values, np.arange(20)), FeatureSample(lacking, np.arange(20)))
    np.testing.assert_array_equal(one.values, values[:, [0, 2]])
    np.testing.assert_array_equal(other.values, lacking[:, [0, 2]])


def test_a_region_that_lacks_a_feature_that_most_have_is_left_out():
    values = np.random.default_rng(0).normal(size=(20, 3))
    values[4, 0], values[7, 2] = np.nan, np.inf
    (sample,) = comparable(FeatureSample(values, np.arange(20)))
    assert sample.groups.tolist() == [k for k in range(20) if k not in (4, 7)]
    assert np.isfinite(sample.values).all()
