"""Agreement: values worked out by hand."""

import numpy as np
import pytest

from ltdiff.evaluation.agreement import agreement


def test_known_values():
    """Differences 1, 0, 2: bias 1, sd 1. Variances 14/3 and 8/3, covariance 10/3 (1/n): CCC = 2·10/3 / (22/3 + 1)."""
    found = agreement(np.array([1.0, 2.0, 6.0]), np.array([0.0, 2.0, 4.0]))
    expected = {"num": 3, "mean_absolute_difference": 1, "bias": 1, "sd": 1, "limit_low": -0.96, "limit_high": 2.96, "ccc": 0.8}
    assert found == pytest.approx(expected)


def test_the_sign_of_a_difference_counts_in_the_bias_alone():
    found = agreement(np.array([1.0, -1.0]), np.zeros(2))
    assert (found["bias"], found["mean_absolute_difference"]) == (0.0, 1.0)


def test_what_too_few_subjects_do_not_define_is_missing():
    one = agreement(np.array([3.0, np.nan]), np.array([1.0, 5.0]))
    assert (one["num"], one["bias"]) == (1, 2.0)
    assert np.isnan([one["sd"], one["limit_low"], one["ccc"]]).all()
    none = agreement(np.array([np.nan]), np.array([1.0]))
    assert none["num"] == 0
    assert np.isnan(none["bias"])
