"""The Fréchet distance of Gaussians in closed form, and that of samples from them."""

import numpy as np
import pytest

from ltdiff.evaluation.feature_sample import FeatureSample
from ltdiff.evaluation.radiomic_distance import LEAST_DISTANCE, frechet_distance, radiomic_distance


def _sample(*, mean, deviation, seed, num=20_000):
    mean, deviation = np.array(mean, float), np.array(deviation, float)
    values = mean + deviation * np.random.default_rng(seed).normal(size=(num, len(mean)))
    return FeatureSample(values, np.zeros(num, int))


def test_of_independent_features_it_is_the_sum_of_the_squared_differences():
    """|μ₁ − μ₂|² + Σ (σ₁ − σ₂)²: 3² + 4² + (2 − 1)² + (3 − 1)² = 30."""
    mean, other = np.array([0.0, 0.0]), np.array([3.0, 4.0])
    assert frechet_distance(mean, np.diag([4.0, 9.0]), other, np.eye(2)) == pytest.approx(30)


def test_of_features_that_are_turned_together_it_is_the_same():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    first, second = np.diag([4.0, 9.0, 1.0]), np.diag([1.0, 1.0, 16.0])
    mean, other = rng.normal(size=(2, 3))
    turned = frechet_distance(turn @ mean, turn @ first @ turn.T, turn @ other, turn @ second @ turn.T)
    assert turned == pytest.approx(frechet_distance(mean, first, other, second))


def test_a_gaussian_is_at_no_distance_from_itself():
    covariance = np.cov(np.random.default_rng(0).normal(size=(4, 50)))
    assert frechet_distance(np.ones(4), covariance, np.ones(4), covariance) == pytest.approx(0, abs=1e-9)


def test_samples_are_measured_in_the_deviations_of_the_reference():
    """In units of the reference, whose deviations are 10 and 2: means 1 and 0 apart, deviations 1 and 3: ln(1 + 2²)."""
    reference = _sample(mean=[5, 0], deviation=[10, 2], seed=0)
    one = _sample(mean=[15, 0], deviation=[10, 6], seed=1)
    other = _sample(mean=[5, 0], deviation=[10, 2], seed=2)
    assert radiomic_distance(one, other, reference=reference) == pytest.approx(np.log(5), abs=0.05)


def test_the_scale_of_a_feature_does_not_matter():
    samples = [_sample(mean=[0, k], deviation=[1, 1], seed=k, num=200) for k in range(3)]
    scaled = [FeatureSample(one.values * [1e6, 1e-4], one.groups) for one in samples]
    distance = radiomic_distance(samples[0], samples[1], reference=samples[2])
    assert radiomic_distance(scaled[0], scaled[1], reference=scaled[2]) == pytest.approx(distance)


def test_more_features_than_regions_have_a_distance():
    samples = [_sample(mean=[shift] * 50, deviation=[1] * 50, seed=k, num=20) for k, shift in enumerate((0, 3, 0))]
    near = radiomic_distance(samples[0], samples[2], reference=samples[2])
    far = radiomic_distance(samples[1], samples[2], reference=samples[2])
    assert np.isfinite(near)
    assert far > near + 1


def test_a_sample_is_at_no_distance_from_itself():
    sample = _sample(mean=[0, 1], deviation=[1, 1], seed=0, num=50)
    assert radiomic_distance(sample, sample, reference=sample) <= np.log(1e-9)
    assert radiomic_distance(sample, sample, reference=sample) >= np.log(LEAST_DISTANCE)


def test_too_few_regions_have_none():
    few = _sample(mean=[0, 1], deviation=[1, 1], seed=0, num=2)
    many = _sample(mean=[0, 1], deviation=[1, 1], seed=1, num=50)
    assert np.isnan(radiomic_distance(few, many, reference=many))
