"""The correlation of neighbouring slices against noise of which a known part is shared."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ltdiff.evaluation.slice_correlation import COLUMNS, describe_correlation, neighbour_correlations, slice_correlation

SIZE = 128
NEIGHBOURS = [(0, 1), (1, 2), (2, 3)]
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE // 2
BODY = np.hypot(Y, X) < 50
LUNG = np.hypot(Y, X - 15) < 20


def _slices(*, shared=0.5, seed=0, lung_hu=40.0):
    """Four slices of a body with a lung in air and white noise of 20 HU, of which each shares that part with the next."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(4, SIZE, SIZE))
    weight = np.roots([1, -1 / shared, 1])[-1].real if shared else 0.0  # w / (1 + w²) = shared
    noise = (own[:4] + weight * np.concatenate([rng.normal(size=(1, SIZE, SIZE)), own[:3]])) / np.hypot(1, weight)
    anatomy = np.where(LUNG, lung_hu, 40.0)
    return np.where(BODY, anatomy + 20 * noise, -1000.0)


def _table(image, target, neighbours=NEIGHBOURS):
    return slice_correlation(neighbour_correlations({"method": image}, target_hu=target, neighbours=neighbours))


def _row(image, target=None):
    return _table(image, _slices() if target is None else target).iloc[0]


@pytest.mark.parametrize("shared", [0.0, 0.25, 0.5])
def test_it_is_the_part_of_the_noise_that_is_shared(shared):
    row = _row(_slices(shared=shared, seed=1), target=_slices(shared=shared))
    assert row["correlation"] == pytest.approx(shared, abs=0.02)
    assert row["target_correlation"] == pytest.approx(shared, abs=0.02)
    assert row["num_pairs"] == 3


def test_the_target_itself_differs_in_nothing():
    row = _row(_slices())
    assert row["relative_difference"] == 0
    assert row["correlation"] == row["target_correlation"] > 0.4


def test_detail_that_is_drawn_anew_for_each_slice_shows():
    target = _slices()
    anew = target + np.where(BODY, np.random.default_rng(5).normal(0, 20, target.shape), 0)
    smooth = np.stack([ndimage.gaussian_filter(plane, 1.0) for plane in target])
    assert _row(anew, target)["relative_difference"] == pytest.approx(-0.5, abs=0.05)  # half of the power is new
    assert abs(_row(smooth, target)["relative_difference"]) < 0.05  # what is left is shared as before


def test_nothing_outside_the_body_and_no_skin_counts():
    target = _slices()
    noisy_air = target + np.where(BODY, 0, np.random.default_rng(5).normal(0, 500, target.shape))
    skin = (np.hypot(Y, X) > 48) & BODY
    other_skin = target + skin * np.random.default_rng(6).normal(0, 500, (4, 1, 1))
    for image in (noisy_air, other_skin):
        assert _row(image, target)["correlation"] == pytest.approx(_row(target, target)["correlation"], abs=0.01)


def test_the_lungs_count():
    inside = np.hypot(Y, X - 15) < 18  # clear of the lung's edge
    target = _slices(lung_hu=-850.0)
    other = target + inside * np.random.default_rng(5).normal(0, 300, target.shape)
    assert _row(other, target)["relative_difference"] < -0.2


def test_of_several_bodies_the_largest_counts():
    couch = np.where(np.abs(Y - 58) < 3, 60.0, 0.0)
    target = _slices() + np.where(BODY, 0, couch * 20)
    assert _row(_slices(), target)["target_correlation"] == pytest.approx(_row(_slices())["correlation"], abs=0.01)


def test_only_neighbours_count():
    target = _slices()
    target[3] = _slices(seed=9)[3]
    table = _table(target, target, NEIGHBOURS[:2])
    assert table["num_pairs"].tolist() == [2]
    assert table["correlation"][0] > _row(target, target)["correlation"]


def test_scans_after_each_other_are_as_one():
    first, second = _slices(), _slices(seed=9)
    parts = [neighbour_correlations({"method": one}, target_hu=one, neighbours=NEIGHBOURS) for one in (first, second)]
    both = np.concatenate([first, second])
    expected = _table(both, both, [*NEIGHBOURS, *((i + 4, j + 4) for i, j in NEIGHBOURS)])
    pd.testing.assert_frame_equal(slice_correlation(pd.concat(parts)), expected, check_exact=True)


@pytest.mark.parametrize("target", [_slices(), np.full((4, SIZE, SIZE), -1000.0)])
def test_without_neighbours_or_body_there_is_no_row(target):
    neighbours = [] if target.max() > 0 else NEIGHBOURS
    table = _table(target, target, neighbours)
    assert tuple(table.columns) == COLUMNS
    assert table.empty
    assert describe_correlation(table) == ""


def test_slices_that_have_nothing_in_common_give_no_relative_difference():
    row = _row(_slices(), target=np.zeros((4, SIZE, SIZE)))
    assert row["target_correlation"] == 0
    assert np.isnan(row["relative_difference"])
