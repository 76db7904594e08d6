"""Regions: the recipe holds, the seed decides, lesions come slice by slice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.data.rois import (
    HU_RANGES,
    MIN_LESION_PIXELS,
    WHOLE_SLICES,
    DiscDrawing,
    Roi,
    RoiSummary,
    bounding_box,
    disc_mask,
    extrude,
    hu_set_name,
    mask_rois,
    random_rois,
    volume_mask_rois,
    whole_slices,
)


def chest(shape: tuple[int, int, int] = (3, 256, 256)) -> np.ndarray:
    """Air, a soft-tissue ellipse, a lung in its left and a bone in its right half."""
    y, x = np.mgrid[: shape[1], : shape[2]] / np.array(shape[1:])[:, None, None] - 0.5
    plane = np.full(shape[1:], -1000.0, np.float32)
    plane[(y / 0.45) ** 2 + (x / 0.45) ** 2 < 1] = 40
    plane[(y / 0.3) ** 2 + ((x + 0.15) / 0.18) ** 2 < 1] = -750
    plane[(y / 0.2) ** 2 + ((x - 0.2) / 0.12) ** 2 < 1] = 500
    return np.repeat(plane[None], shape[0], axis=0)


def discs(rois):
    return [(roi.slice_index, roi.label) for roi in rois]


def test_random_rois_follow_the_recipe():
    target_hu = chest()
    rois = random_rois(target_hu, seed=3)
    assert len(rois) == 100
    assert {roi.slice_index for roi in rois} == {0, 1, 2}
    for roi in rois:
        y, x, radius = (int(part[1:]) for part in roi.label.split("_"))
        np.testing.assert_array_equal(roi.mask, disc_mask(roi.mask.shape, centre_yx=(y, x), radius_px=radius))
        assert 8 <= radius <= 15
        assert min(y, x, 255 - y, 255 - x) >= 59
        assert target_hu[roi.slice_index][roi.mask].mean() > -950
        assert roi.roi_set == "random"


def test_a_disc_is_round_and_closed():
    mask = disc_mask((9, 9), centre_yx=(4, 4), radius_px=3)
    assert mask.sum() == 29
    assert mask[4, 1]
    assert mask[4, 7]
    assert not mask[1, 3]


def test_the_seed_decides():
    target_hu = chest()
    assert discs(random_rois(target_hu, seed=1)) == discs(random_rois(target_hu, seed=1))
    assert discs(random_rois(target_hu, seed=1)) != discs(random_rois(target_hu, seed=2))
    # asking for fewer gives the first of the many
    assert discs(random_rois(target_hu, num_rois=7, seed=1)) == discs(random_rois(target_hu, seed=1))[:7]


@pytest.mark.parametrize("hu_range", HU_RANGES, ids=hu_set_name)
def test_hu_ranges(hu_range):
    target_hu = chest((2, 240, 300))
    rois = random_rois(target_hu, num_rois=20, hu_range=hu_range)
    assert len(rois) == 20
    assert {roi.roi_set for roi in rois} == {hu_set_name(hu_range)}
    assert all(hu_range[0] <= target_hu[roi.slice_index][roi.mask].mean() <= hu_range[1] for roi in rois)


def test_set_name():
    assert hu_set_name((-800.0, -300.0)) == "hu_-800_-300"


def test_fewer_rois_where_nothing_fits():
    assert random_rois(np.full((1, 200, 200), -1000.0), num_rois=2) == []


@settings(max_examples=20)
@given(num_slices=st.integers(1, 4), rows=st.integers(32, 256), columns=st.integers(32, 256), seed=st.integers(0, 2**32))
def test_discs_lie_whole_inside_images_of_any_size(num_slices, rows, columns, seed):
    for roi in random_rois(np.zeros((num_slices, rows, columns), np.float32), num_rois=5, seed=seed):
        radius = int(roi.label.split("_r")[1])
        assert roi.mask.sum() == disc_mask((64, 64), centre_yx=(32, 32), radius_px=radius).sum()


def test_images_too_small_for_a_disc_are_refused():
    with pytest.raises(ValueError, match="20 × 300"):
        random_rois(np.zeros((1, 20, 300)))


def test_mask_rois_one_per_label_and_slice():
    labels = np.zeros((3, 40, 40), np.uint8)
    labels[0, 5:15, 5:15] = 1
    labels[0, 20:30, 20:30] = 7
    labels[2, 5:10, 5:10] = 1
    rois = mask_rois(labels)
    assert [(roi.slice_index, roi.label, int(roi.mask.sum())) for roi in rois] == [
        (0, "label_1", 100),
        (0, "label_7", 100),
        (2, "label_1", 25),
    ]
    assert {roi.roi_set for roi in rois} == {"tumour"}
    assert mask_rois(labels, roi_set="nodule")[0].roi_set == "nodule"


def test_mask_rois_leave_out_what_has_no_texture():
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[0, 0, : MIN_LESION_PIXELS + 5] = 1  # one row
    labels[1, :3, :5] = 1  # too few pixels
    assert mask_rois(labels) == []


def test_bounding_box():
    mask = np.zeros((10, 12), bool)
    mask[2, 3] = mask[6, 9] = True
    assert bounding_box(mask) == (slice(2, 7), slice(3, 10))
    with pytest.raises(ValueError, match="empty"):
        bounding_box(np.zeros((3, 3), bool))


def test_discs_go_through_the_slices_of_their_run():
    mask = disc_mask((40, 40), centre_yx=(20, 20), radius_px=8)
    rois = [Roi("random", z, mask, f"at {z}") for z in (0, 3, 5, 6)]
    deep = extrude(rois, blocks=np.array([1, 1, 1, 1, 1, 1, 2, 2]), depth=5)
    assert [(roi.slice_index, len(roi.volume_mask)) for roi in deep] == [(0, 3), (1, 5), (3, 3), (6, 2)]
    assert [(roi.roi_set, roi.label) for roi in deep] == [(roi.roi_set, roi.label) for roi in rois]
    assert all((plane == mask).all() for roi in deep for plane in roi.volume_mask)


def test_lesions_of_several_slices():
    labels = np.zeros((7, 30, 30), np.uint8)
    labels[1:4, 5:9, 5:9] = 1
    labels[2, 5:9, 9] = 1
    labels[3, 20:22, 20:23] = 2  # too small
    labels[4, 10, 3:25] = 3  # one voxel high
    labels[5:, 5:9, 5:9] = 1  # the same number in another run is another lesion
    first, second = volume_mask_rois(labels, blocks=np.array([1, 1, 1, 1, 1, 2, 2]))
    assert (first.slice_index, first.volume_mask.shape, first.volume_mask.sum()) == (1, (3, 30, 30), 3 * 16 + 4)
    assert (second.slice_index, second.volume_mask.sum(), second.label) == (5, 2 * 16, "label_1")
    assert {first.roi_set, second.roi_set} == {"tumour"}


def test_whole_slices():
    rois = whole_slices((3, 20, 30))
    assert [roi.slice_index for roi in rois] == [0, 1, 2]
    assert all(roi.roi_set == WHOLE_SLICES and roi.volume_mask.all() for roi in rois)
    assert rois[0].volume_mask.shape == (1, 20, 30)


def test_discs_drawn_scan_by_scan_are_those_of_all_slices():
    """In whatever parts the slices come; where too few discs are inside the range, both draw as many."""
    rng = np.random.default_rng(5)
    target_hu = (chest((7, 256, 256)) + rng.normal(0, 80, (7, 1, 1))).astype(np.float32)
    drawing = DiscDrawing(target_hu.shape, num_rois=12, seed=4)
    for part in (slice(0, 1), slice(1, 5), slice(5, 7)):
        drawing.see(target_hu[part], first=part.start)
    for hu_range in (None, *HU_RANGES, (2000.0, 2500.0)):
        expected = random_rois(target_hu, num_rois=12, seed=4, hu_range=hu_range)
        found = drawing.draw(hu_range=hu_range)
        assert [roi.roi_set for roi in found] == [roi.roi_set for roi in expected]
        assert discs(found) == discs(expected)
        assert all(np.array_equal(roi.mask, other.mask) for roi, other in zip(found, expected, strict=True))


def test_a_region_is_told_without_its_mask():
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:8] = True
    assert RoiSummary.of(Roi("tumour", 1, mask, "label_1"), first=6) == ("tumour", 7, 1, "label_1", 15, (2, 5), (3, 8))
    (deep,) = extrude([Roi("random", 1, mask, "a")], blocks=np.zeros(3, int), depth=3)
    assert RoiSummary.of(deep) == ("random", 0, 3, "a", 45, (2, 5), (3, 8))
