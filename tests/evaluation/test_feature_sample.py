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


def test_the_median_of_all_stands_in_for_a_missing_value():
    values = np.random.default_rng(0).normal(size=(20, 3))
    lacking = values.copy()
    lacking[4, 0], lacking[7, 2] = np.nan, np.inf
    one, other = comparable(FeatureSample(lacking, np.arange(20)), FeatureSample(values, np.arange(20)))
    known = np.concatenate([np.delete(values[:, 0], 4), values[:, 0]])
    assert one.values[4, 0] == np.median(known)
    assert np.isfinite(one.values).all()
    np.testing.assert_array_equal(np.delete(one.values, [4, 7], axis=0), np.delete(values, [4, 7], axis=0))
    np.testing.assert_array_equal(other.values, values)
