"""AUC .5 where two protocols are one, 1 where they are far apart, and the known value between."""

import numpy as np
import pytest
from scipy.stats import norm

from ltdiff.evaluation.feature_sample import FeatureSample
from ltdiff.evaluation.identifiability import identifiability

NUM_FEATURES = 8


def _sample(*, seed, shift=0.0, num_groups=8, num_rois=25, of_group=0.0):
    """Normal features; the first is shifted, and every group has an offset of its own in all of them."""
    rng = np.random.default_rng(seed)
    groups = np.arange(num_groups).repeat(num_rois)
    values = rng.normal(size=(len(groups), NUM_FEATURES)) + of_group * rng.normal(size=(num_groups, NUM_FEATURES))[groups]
    values[:, 0] += shift
    return FeatureSample(values, groups)


def test_one_distribution_cannot_be_told_apart():
    result = identifiability(_sample(seed=0), _sample(seed=1))
    assert result.auc == pytest.approx(0.5, abs=0.07)
    assert result.ci_low < 0.5 < result.ci_high


def test_separate_distributions_are_told_every_time():
    result = identifiability(_sample(seed=0), _sample(seed=1, shift=8))
    assert result.auc > 0.995
    assert result.ci_low > 0.99


def test_the_area_under_the_curve_is_that_of_the_distance():
    """Two normal distributions at a distance d have Φ(d/√2)."""
    source, target = _sample(seed=0, num_groups=10, num_rois=80), _sample(seed=1, shift=1.0, num_groups=10, num_rois=80)
    assert identifiability(source, target).auc == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.03)


def test_patients_who_differ_are_no_protocol():
    """Regions of one patient are alike, and a classifier that has seen a patient knows all of his regions."""
    result = identifiability(_sample(seed=0, of_group=3), _sample(seed=1, of_group=3))
    assert 0.2 < result.auc < 0.8
    assert result.ci_low < 0.5 < result.ci_high


def test_the_order_of_source_and_target_does_not_matter():
    source, target = _sample(seed=0), _sample(seed=1, shift=1.0)
    assert identifiability(source, target).auc == pytest.approx(identifiability(target, source).auc, abs=0.01)


def test_features_of_any_scale_and_shape_serve():
    source, target = _sample(seed=0), _sample(seed=1, shift=2.0)
    before = identifiability(source, target).auc
    source, target = (FeatureSample(1e6 * np.exp(one.values), one.groups) for one in (source, target))
    assert identifiability(source, target).auc == pytest.approx(before, abs=0.01)


def test_one_group_cannot_be_left_out():
    result = identifiability(_sample(seed=0, num_groups=1), _sample(seed=1))
    assert np.isnan(result.auc)
    assert np.isnan(result.ci_low)


def test_without_a_feature_that_varies_nothing_is_said():
    constant = FeatureSample(np.ones((20, 2)), np.arange(20) % 4)
    assert np.isnan(identifiability(constant, constant).auc)
