"""Intervals: coverage on exchangeable data, whatever is wrong with the draws; CRPS with known values."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from ltdiff.uncertainty.intervals import FeatureIntervals, coverage_table, crps, fit_intervals

FEATURES = ("firstorder_Mean", "glcm_Contrast", "ngtdm_Busyness")
NUM_DRAWS = 12


def _make(rng, *, num_rois, shift=0.0, width=1.0):
    """Target features, and draws that are `shift` off and `width` times too wide; each region has an error scale of its own."""
    value = rng.normal(0, 10, (num_rois, 3))
    scale = np.exp(rng.normal(0, 0.5, (num_rois, 3)))
    target = value + scale * rng.standard_normal((num_rois, 3))
    draws = value + shift * scale + width * scale * rng.standard_normal((NUM_DRAWS, num_rois, 3))
    return draws, value, target


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (2.0, 1.0), (0.0, 0.1), (-1.0, 5.0)])
def test_nine_in_ten_are_covered_whatever_the_draws_are(shift, width):
    rng = np.random.default_rng(0)
    draws, _, target = _make(rng, num_rois=400, shift=shift, width=width)
    intervals = fit_intervals(FEATURES, draws=draws, target=target)
    draws, value, target = _make(rng, num_rois=1000, shift=shift, width=width)
    table = coverage_table(intervals, draws=draws, value=value, target=target)
    assert list(table["feature_class"]) == ["firstorder", "glcm", "ngtdm"]
    assert table["coverage"].between(0.87, 0.93).all()
    low, high = intervals.interval(draws)
    assert (low < high).all()


def test_intervals_follow_the_scale_of_a_region():
    rng = np.random.default_rng(1)
    draws, _, target = _make(rng, num_rois=400)
    intervals = fit_intervals(FEATURES, draws=draws, target=target)
    narrow, wide = draws.copy(), draws.mean(axis=0) + 4 * (draws - draws.mean(axis=0))
    widths = [np.subtract(*intervals.interval(one)[::-1]).mean() for one in (narrow, wide)]
    assert widths[1] > 2 * widths[0]


def test_better_draws_have_a_lower_crps_and_all_beat_the_single_value():
    rng = np.random.default_rng(2)
    scores = []
    for noise in (0.0, 3.0):
        draws, _, target = _make(rng, num_rois=400)
        intervals = fit_intervals(FEATURES, draws=draws + noise * rng.standard_normal((1, 400, 3)), target=target)
        draws, value, target = _make(rng, num_rois=400)
        error = noise * rng.standard_normal((1, 400, 3))
        table = coverage_table(intervals, draws=draws + error, value=value + error[0], target=target)
        assert (table["crps"] < table["crps_of_value"]).all()
        scores.append(table["crps"])
    assert (scores[0] < scores[1]).all()


def test_a_feature_without_values_is_left_out_and_nan_does_not_spread():
    rng = np.random.default_rng(3)
    draws, value, target = _make(rng, num_rois=200)
    for values in (draws, value, target):
        values[..., 1] = np.nan
    draws[:, 0, 0] = np.nan
    intervals = fit_intervals(FEATURES, draws=draws, target=target)
    table = coverage_table(intervals, draws=draws, value=value, target=target).set_index("feature_class")
    assert table.loc["firstorder", "coverage"] == pytest.approx(0.9, abs=0.06)
    assert "glcm" not in table.index


def test_json_keeps_it():
    draws, _, target = _make(np.random.default_rng(4), num_rois=50)
    intervals = fit_intervals(FEATURES, draws=draws, target=target)
    assert FeatureIntervals.from_dict(json.loads(json.dumps(asdict(intervals)))) == intervals


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="got 1 and 5"):
        fit_intervals(FEATURES, draws=np.zeros((1, 5, 3)), target=np.zeros((5, 3)))


def test_crps_known_values():
    assert crps(np.array([2.0]), np.array(5.0)) == 3.0  # one member: the absolute error
    assert crps(np.array([1.0, 3.0]), np.array(2.0)) == 0.5
    members = np.random.default_rng(5).standard_normal((4000, 1))
    assert crps(members, np.array([0.0]))[0] == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=0.01)  # Gneiting 2005
