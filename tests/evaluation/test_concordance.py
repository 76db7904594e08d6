"""CCC: Lin's definition, its properties, the two ways to average it, and the bootstrap."""

import doctest

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltdiff.evaluation import concordance
from ltdiff.evaluation.concordance import ccc, ccc_across_features, ccc_across_rois, ccc_per_column

vectors = hnp.arrays(np.float64, st.integers(2, 30).map(lambda n: (2, n)), elements=st.integers(-1000, 1000))


def naive_ccc(s: np.ndarray, t: np.ndarray) -> float:
    covariance = np.mean((s - s.mean()) * (t - t.mean()))
    return 2 * covariance / (s.var() + t.var() + (s.mean() - t.mean()) ** 2)


def test_worked_example():
    results = doctest.testmod(concordance)
    assert (results.attempted, results.failed) == (1, 0)


@given(vectors)
def test_equals_the_formula(pair):
    s, t = pair
    assume(s.std() > 0 and t.std() > 0)
    assert ccc(s, t) == pytest.approx(naive_ccc(s, t), abs=1e-12)


@given(vectors)
def test_symmetric(pair):
    assert ccc(pair[0], pair[1]) == pytest.approx(ccc(pair[1], pair[0]), abs=1e-12, nan_ok=True)


@given(vectors)
def test_one_exactly_for_identical_vectors(pair):
    s, t = pair
    assert ccc(s, s) == pytest.approx(1, abs=1e-12)
    if not np.array_equal(s, t):
        assert not ccc(s, t) > 1 - 1e-9


@given(vectors)
def test_never_beyond_pearson(pair):
    s, t = pair
    assume(s.std() > 0 and t.std() > 0)
    assert abs(ccc(s, t)) <= abs(np.corrcoef(s, t)[0, 1]) + 1e-9


@given(vectors, st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_unit_does_not_matter(pair, scale, shift):
    s, t = pair
    assume(s.std() > 0 and t.std() > 0)
    assert ccc(s * scale + shift, t * scale + shift) == pytest.approx(ccc(s, t), abs=1e-6)


def test_large_numbers_lose_no_digits():
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 50))
    assert ccc(s + 1e8, t + 1e8) == pytest.approx(naive_ccc(s, t), abs=1e-6)


def test_constants():
    three, five, rising = np.full(4, 3.0), np.full(4, 5.0), np.arange(4.0)
    assert ccc(three, three) == 1
    assert np.isnan(ccc(three, five))
    assert ccc(three, rising) == 0
    # 0.1 + 0.2 is not 0.3, and not a variation either
    assert ccc(np.full(4, 0.3), np.array([0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2])) == 1


def test_pairs_with_nan_are_left_out():
    s, t = np.array([1.0, 2.0, np.nan, 4.0, 7.0]), np.array([1.5, 2.0, 9.0, 3.0, np.nan])
    assert ccc(s, t) == pytest.approx(naive_ccc(s[[0, 1, 3]], t[[0, 1, 3]]))
    assert np.isnan(ccc(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


def features(num_rois: int = 40, num_features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    target = rng.normal(10, 3, (num_rois, num_features)) * 10.0 ** np.arange(num_features)
    return target * rng.normal(1, 0.1, target.shape), target


def test_across_rois_is_the_mean_of_the_features():
    source, target = features()
    per_feature = [naive_ccc(s, t) for s, t in zip(source.T, target.T, strict=True)]
    result = ccc_across_rois(source, target)
    assert result.mean == pytest.approx(np.mean(per_feature))
    assert result.sd == pytest.approx(np.std(per_feature, ddof=1))
    assert (result.num_features, result.num_rois) == (6, 40)
    assert result.ci_low < result.mean < result.ci_high
    np.testing.assert_allclose(ccc_per_column(source, target), per_feature)


def test_across_features_is_the_mean_of_the_rois():
    source, target = features()
    per_roi = [naive_ccc(s, t) for s, t in zip(source, target, strict=True)]
    result = ccc_across_features(source, target)
    assert result.mean == pytest.approx(np.mean(per_roi))
    assert result.sd == pytest.approx(np.std(per_roi, ddof=1))
    assert (result.num_features, result.num_rois) == (6, 40)
    assert result.ci_low < result.mean < result.ci_high


def test_undefined_features_and_rois_do_not_count():
    source, target = features()
    source[:, 0], target[:, 0] = 1.0, 2.0  # two constants
    source[:, 1] = np.nan
    source[7] = np.nan
    result = ccc_across_rois(source, target)
    assert (result.num_features, result.num_rois) == (4, 39)
    assert np.isfinite([result.mean, result.ci_low, result.ci_high]).all()
    assert ccc_across_features(source, target).num_rois == 39


def test_nothing_defined_gives_nan_without_a_warning(recwarn):
    for result in (f(np.full((3, 2), np.nan), np.ones((3, 2))) for f in (ccc_across_rois, ccc_across_features)):
        assert np.isnan([result.mean, result.sd, result.ci_low, result.ci_high]).all()
        assert (result.num_features, result.num_rois) == (0, 0)
    assert not recwarn.list


def test_one_roi_defines_no_ccc_across_rois():
    source, target = features(num_rois=1)
    assert ccc_across_rois(source, target).num_features == 0
    assert ccc_across_features(source, target).num_rois == 1


def test_bootstrap_equals_resampling_by_hand():
    source, target = features(num_rois=12)
    counts = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=200)
    means = [
        np.mean([naive_ccc(s, t) for s, t in zip(source[rows].T, target[rows].T, strict=True)])
        for rows in (np.repeat(np.arange(12), count) for count in counts)
    ]
    result = ccc_across_rois(source, target, num_resamples=200, seed=5)
    np.testing.assert_allclose([result.ci_low, result.ci_high], np.quantile(means, [0.025, 0.975]))


def test_bootstrap_is_seeded():
    source, target = features()
    assert ccc_across_rois(source, target, seed=1) == ccc_across_rois(source, target, seed=1)
    assert ccc_across_rois(source, target, seed=1) != ccc_across_rois(source, target, seed=2)
