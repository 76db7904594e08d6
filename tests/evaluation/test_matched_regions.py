"""Regions of several stacks: as many of each content class on one as on another."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from ltdiff.data.rois import hu_set_name
from ltdiff.evaluation.matched_regions import CONTENT_CLASSES_HU, matched_regions

LUNG, SOFT = hu_set_name(CONTENT_CLASSES_HU[0]), hu_set_name(CONTENT_CLASSES_HU[3])


RIM_PX = 8


def _stack(*levels_hu, size=96):
    """Slices of one level each, within a rim of tissue that makes it a body."""
    stack = np.full((len(levels_hu), size, size), 40, np.float32)
    for plane, level in zip(stack, levels_hu, strict=True):
        plane[RIM_PX:-RIM_PX, RIM_PX:-RIM_PX] = level
    return stack


def test_each_class_has_as_many_regions_on_every_stack():
    stacks = [_stack(-850, 40, 40, 40), _stack(-850, -850, 40)]
    regions = matched_regions(stacks, num_rois=5, seed=0)
    for hu, rois in zip(stacks, regions, strict=True):
        assert Counter(roi.roi_set for roi in rois) == {LUNG: 5, SOFT: 5}
        for roi in rois:
            assert hu[roi.slice_index][roi.mask].mean() in (-850, 40)


def test_a_class_that_one_stack_lacks_has_none_anywhere():
    regions = matched_regions([_stack(-850, 40), _stack(-850, 500)], num_rois=5, seed=0)
    assert [Counter(roi.roi_set for roi in rois) for rois in regions] == [{LUNG: 5}] * 2
    assert matched_regions([_stack(-850), _stack(40)], num_rois=5, seed=0) == [[], []]


def test_the_same_seed_draws_the_same_regions():
    stacks = [_stack(-850, 40), _stack(-850, 40)]
    first, again = (matched_regions(stacks, num_rois=4, seed=3) for _ in range(2))
    assert [roi.label for roi in first[0]] == [roi.label for roi in again[0]]
    assert [roi.label for roi in first[0]] != [roi.label for roi in first[1]]


def test_air_and_the_classes_leave_no_gap():
    assert all(low[1] == high[0] for low, high in pairwise(CONTENT_CLASSES_HU))
    assert matched_regions([_stack(-1000), _stack(-1000)], num_rois=2, seed=0) == [[], []]


def test_nothing_outside_the_body_is_in_a_region():
    stack = _stack(-850, size=128)
    couch = np.pad(stack, [(0, 0), (0, 96), (0, 96)], constant_values=-1000)
    couch[:, 150:160] = 40  # beneath the body, and not of it
    rois = matched_regions([couch, stack], num_rois=20, seed=0)[0]
    assert rois
    assert not any(roi.mask[128:].any() or roi.mask[:, 128:].any() for roi in rois)


def test_images_too_small_for_a_disc_are_refused():
    with pytest.raises(ValueError, match="32 × 32"):
        matched_regions([_stack(-850, size=20)], num_rois=2, seed=0)
