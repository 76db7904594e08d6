"""The noise floor: known repeatability, a second scan beside the first, and what a repeat that covers a part changes."""

import numpy as np
import pytest
from feature_arrays import make_feature_array
from scored_scans import score_volume

from ltdiff.evaluation.concordance import ccc
from ltdiff.evaluation.error_ratio import MIN_SLICES, remaining_error_ratios
from ltdiff.evaluation.feature_values import REPEAT, TARGET
from ltdiff.evaluation.noise_floor import FLOOR_COLUMNS, REPEATABILITY_COLUMNS, noise_floor, repeatability


def _array(methods):
    return make_feature_array(methods, np.arange(len(methods[TARGET])) // 4)


@pytest.fixture(scope="module")
def scans():
    """Truth of 400 regions, and scans with noise of 0.2: target, repeat, another scan; "double" has twice the noise."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (400, 3))
    noise = rng.normal(0, 0.2, (4, 400, 3))
    return {TARGET: truth + noise[0], "again": truth + noise[1], "double": truth + 2 * noise[2], REPEAT: truth + noise[3]}


def test_a_worked_value():
    """Differences 1, 1, 2, 0: wSD² = (1 + 1 + 4 + 0) / 8."""
    target = np.array([[1.0], [2.0], [3.0], [4.0]])
    row = repeatability(_array({TARGET: target, REPEAT: np.add(target, [[1], [-1], [2], [0]])})).squeeze()
    assert row["wsd"] == pytest.approx(np.sqrt(0.75))
    assert row["rc"] == pytest.approx(1.96 * np.sqrt(2) * np.sqrt(0.75))
    assert row["ccc"] == pytest.approx(ccc(target[:, 0] + [1, -1, 2, 0], target[:, 0]))
    assert row["target_mean"] == 2.5
    assert np.isnan([row["rc_low"], row["ci_low"]]).all()  # of a single slice


def test_the_coefficient_is_that_of_the_noise(scans):
    table = repeatability(_array(scans))
    assert tuple(table.columns) == REPEATABILITY_COLUMNS
    assert table["wsd"].tolist() == pytest.approx([0.2] * 3, rel=0.1)
    expected = 1.96 * np.sqrt(2) * 0.2
    assert ((table["rc_low"] < expected) & (expected < table["rc_high"])).all()


def test_another_scan_leaves_as_much_as_the_repeat(scans):
    table = noise_floor(_array(scans)).set_index("method")
    assert (*table.reset_index().columns,) == FLOOR_COLUMNS
    again, double = table.loc["again"], table.loc["double"]
    assert again["ci_low"] < 1 < again["ci_high"]
    assert again["multiple"] == pytest.approx(1, abs=0.15)
    assert again["within_rc"] == pytest.approx(0.95, abs=0.02)
    assert double["multiple"] == pytest.approx(2.5, rel=0.15)  # (1² + 2²) / (1² + 1²), less what a CCC takes off large ones
    assert double["ci_low"] > 1
    assert double["within_rc"] < 0.85


def test_the_floor_is_one_minus_the_ccc_of_the_repeat(scans):
    row = noise_floor(_array(scans)).iloc[0]
    expected = 1 - np.mean([ccc(scans[REPEAT][:, f], scans[TARGET][:, f]) for f in range(3)])
    assert row["floor"] == pytest.approx(expected)
    assert row["multiple"] == pytest.approx(row["remaining_error"] / expected)


def test_all_are_compared_where_the_repeat_is(scans):
    """Regions that were not scanned again change nothing, and are in no ratio of remaining errors."""
    half = {name: values[:200] for name, values in scans.items()}
    partly = {name: values.copy() for name, values in scans.items()}
    partly[REPEAT][200:] = np.nan
    partly["double"][200:] += 9
    for measure in (noise_floor, repeatability):
        whole, part = measure(_array(half)), measure(_array(partly))
        np.testing.assert_allclose(part.select_dtypes(float), whole.select_dtypes(float))
        assert part["num_rois"].tolist() == whole["num_rois"].tolist()
    assert REPEAT not in remaining_error_ratios(_array(partly), method="again")["other"].tolist()


def test_without_a_repeat_there_is_no_floor(scans):
    array = _array({name: values for name, values in scans.items() if name != REPEAT})
    assert noise_floor(array).empty
    assert repeatability(array).empty


@pytest.mark.filterwarnings("error")
def test_a_feature_that_no_region_defines_has_none():
    target = np.full((4 * MIN_SLICES, 1), np.nan)
    other = np.arange(len(target), dtype=float)[:, None]
    array = _array(
        {TARGET: np.hstack([target, other]), "linear": np.hstack([target, other + 1]), REPEAT: np.hstack([target, other])}
    )
    first = repeatability(array).iloc[0]
    assert first["num_rois"] == 0
    assert np.isnan(first["rc"])
    assert np.isnan(noise_floor(array).iloc[0]["multiple"])  # the repeat is the target: no noise to divide by


def test_a_repeat_of_some_slices_is_scored_there(volumes, rois):
    """Regions of slices without a repeat have no features of it; all others have the values of its images."""
    images, target, _ = volumes
    repeat_hu = images["better"].copy()
    repeat_hu[0] = np.nan
    scored = score_volume(images, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois, repeat_hu=repeat_hu)
    values = dict(zip(scored.features.methods, scored.features.values, strict=True))
    there = np.array([roi.slice_index == 1 for roi in rois])
    assert np.isnan(values[REPEAT][~there]).all()
    np.testing.assert_array_equal(values[REPEAT][there], values["better"][there])
    assert REPEAT in scored.ccc["method"].tolist()
    assert REPEAT not in scored.image_metrics["method"].tolist()
    assert set(noise_floor(scored.features)["num_slices"]) == {1}
