"""Lesions, vessels and airways whose density, size and presence are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ltdiff.data.rois import Roi, disc_mask
from ltdiff.evaluation.structures import (
    AIRWAY,
    count_changed_places,
    describe_lesions,
    find_structures,
    scan_structure_table,
    structure_summary,
    structure_table,
)

SHAPE = (80, 80)
CENTRE = (40, 38)
NEIGHBOURS = [(0, 1), (1, 2)]


def _image(*, radius_px=7.0, hu=100.0, background_hu=-850.0, num_slices=3, centre=CENTRE):
    """A sphere's cross-section with partial pixels, in every slice."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    fill = np.clip(radius_px + 0.5 - np.hypot(y - centre[0], x - centre[1]), 0, 1)
    return np.stack([background_hu + fill * (hu - background_hu)] * num_slices).astype(np.float32)


def _rois(radii=(5, 7, 6), label="label_1"):
    return [Roi("tumour", z, disc_mask(SHAPE, centre_yx=CENTRE, radius_px=radius), label) for z, radius in enumerate(radii)]


def _row(image, **kwargs):
    return structure_table({"method": image}, target_hu=_image(**kwargs), rois=_rois(), neighbours=NEIGHBOURS).iloc[0]


def test_an_equal_image_differs_in_nothing():
    row = _row(_image())
    assert (row["mean_difference_hu"], row["diameter_difference_px"], row["contrast_ratio"]) == (0, 0, 1)


def test_a_lesion_is_judged_once_where_it_is_largest():
    table = structure_table({"a": _image(), "b": _image()}, target_hu=_image(), rois=_rois(), neighbours=NEIGHBOURS)
    assert table[["method", "slice_index"]].to_numpy().tolist() == [["a", 1], ["b", 1]]


def test_lesions_of_one_label_that_do_not_touch_are_two():
    first, _, third = _rois()
    assert len(structure_table({"a": _image()}, target_hu=_image(), rois=[first, third], neighbours=NEIGHBOURS)) == 2


def test_lesions_of_one_label_in_two_series_are_two():
    """Of a stack of several patients, the first slice of one follows the last of another."""
    table = structure_table({"a": _image()}, target_hu=_image(), rois=_rois(), neighbours=[(0, 1)])
    assert table["slice_index"].tolist() == [1, 2]


def test_a_reader_is_told_how_many_lesions_there_are_and_what_was_too_small():
    table = structure_table({"a": _image(), "b": _image()}, target_hu=_image(), rois=_rois(), neighbours=[(0, 1)])
    assert describe_lesions(table, _rois(), 3) == "They show 2 lesions."
    assert describe_lesions(table, _rois(), 5) == (
        "They show 2 lesions. 2 of 5 cross-sections are left out: fewer than 16 pixels, or only one high or wide."
    )


def test_density():
    assert _row(_image(hu=110.0))["mean_difference_hu"] == pytest.approx(10, abs=1)
    assert _row(_image(hu=90.0))["mean_difference_hu"] == pytest.approx(-10, abs=1)


@pytest.mark.parametrize("change_px", [-1.0, 0.5, 1.5])
def test_size(change_px):
    row = _row(_image(radius_px=7 + change_px / 2))
    assert row["diameter_difference_px"] == pytest.approx(change_px, abs=0.25)


def test_an_erased_lesion_is_counted():
    erased = _image(hu=-840.0)
    table = structure_table({"erased": erased, "kept": _image()}, target_hu=_image(), rois=_rois(), neighbours=NEIGHBOURS)
    summary = structure_summary(table).set_index("method")
    assert summary[["judged", "erased"]].to_numpy().tolist() == [[1, 1], [1, 0]]


def test_a_lesion_of_little_contrast_is_not_judged():
    faint = _image(hu=-820.0)
    table = structure_table({"erased": _image(hu=-840.0)}, target_hu=faint, rois=_rois(), neighbours=NEIGHBOURS)
    assert structure_summary(table)[["number", "judged", "erased"]].to_numpy().tolist() == [[1, 0, 0]]


def test_without_contrast_there_is_no_size():
    row = _row(_image(hu=-840.0), hu=-845.0)
    assert np.isnan(row["diameter_difference_px"])
    assert np.isnan(row["contrast_ratio"])
    assert row["mean_difference_hu"] == pytest.approx(5, abs=1)


def _airway(*, lumen_px=5.0, wall_px=2.0, wall_hu=20.0):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(y - CENTRE[0], x - CENTRE[1])
    outer, inner = (np.clip(size + 0.5 - radius, 0, 1) for size in (lumen_px + wall_px, lumen_px))
    plane = -850 + outer * (wall_hu + 850)
    return (plane + inner * (-1000 - plane))[None].astype(np.float32)


def _airway_row(image):
    roi = Roi(AIRWAY, 0, disc_mask(SHAPE, centre_yx=CENTRE, radius_px=5), "airway")
    return structure_table({"method": image}, target_hu=_airway(), rois=[roi], neighbours=[]).iloc[0]


def test_of_an_airway_the_wall_and_the_lumen_are_judged():
    row = _airway_row(_airway())
    assert (row["mean_difference_hu"], row["diameter_difference_px"], row["contrast_ratio"]) == (0, 0, 1)
    assert _airway_row(_airway(wall_hu=10))["mean_difference_hu"] == pytest.approx(-10, abs=2)
    assert _airway_row(_airway(lumen_px=4.5, wall_px=2.5))["diameter_difference_px"] == pytest.approx(-1, abs=0.25)
    assert _airway_row(_airway(wall_hu=-850))["contrast_ratio"] < 0.5


def test_a_scan_s_table_is_that_of_its_lesions_and_of_all_that_is_found_in_it():
    """Lesions come in the slice where they begin, before what is found there; slices are counted on from another scan's."""
    target = np.stack([_chest(offset) for offset in (0, 3, -2)])
    images, spacings_mm = {"same": target, "other": target + 20}, np.full((3, 2), 0.8)
    lesions = [replace(roi, mask=np.pad(roi.mask, (24, 24))) for roi in _rois()]
    options = {"target_hu": target, "neighbours": NEIGHBOURS}
    found = find_structures(target, spacings_mm=spacings_mm, lesions=lesions, first=40)
    assert len(found) >= 3
    expected = structure_table(images, rois=[*lesions, *found], **options)
    table = scan_structure_table(images, lesions=lesions, spacings_mm=spacings_mm, first=40, **options)
    pd.testing.assert_frame_equal(table, expected.assign(slice_index=expected["slice_index"] + 40), check_exact=True)
    assert table[["roi_set", "slice_index"]].iloc[0].tolist() == ["tumour", 41]
    assert set(table["roi_set"]) == {"tumour", "vessel"}


def _chest(offset):
    """A body with a lung, in which a vessel lies beside the place of the lesions."""
    plane = np.full((128, 128), -1000.0, np.float32)
    for centre, radius, hu in (((64, 64), 60, 40), ((64, 64), 48, -850), ((64 + offset, 92), 4, 45)):
        plane[disc_mask((128, 128), centre_yx=centre, radius_px=radius)] = hu
    return plane


def test_every_set_is_summed_up_for_itself():
    vessel, lesion = (Roi(name, 0, disc_mask(SHAPE, centre_yx=CENTRE, radius_px=7), "a") for name in ("vessel", "tumour"))
    images = {"denser": _image(hu=104.0), "thinner": _image(hu=90.0)}
    table = structure_table(images, target_hu=_image(), rois=[lesion, vessel], neighbours=NEIGHBOURS)
    summary = structure_summary(table).set_index(["roi_set", "method"])
    assert summary["number"].tolist() == [1, 1, 1, 1]
    assert summary.loc[("vessel", "thinner"), "mean_difference_hu"] == pytest.approx(-10, abs=1)
    assert summary.loc[("vessel", "thinner"), "mean_difference_hu_p95"] == pytest.approx(10, abs=1)


def test_without_structures_there_is_an_empty_summary():
    table = structure_table({"method": _image()}, target_hu=_image(), rois=[], neighbours=NEIGHBOURS)
    assert structure_summary(table).empty


def test_places_that_are_made_or_lost_are_counted():
    empty = _image(hu=-850.0)
    images = {"made": _image(), "same": empty, "noisy": empty + np.random.default_rng(0).normal(0, 40, empty.shape)}
    table = count_changed_places(images, target_hu=empty, spacings_mm=np.full((3, 2), 0.8)).set_index("method")
    assert table["num_changed_places"].to_dict() == {"made": 3, "same": 0, "noisy": 0}
    lost = count_changed_places({"lost": empty}, target_hu=_image(), spacings_mm=np.full((3, 2), 0.8))
    assert lost["num_changed_places"].tolist() == [3]


def test_every_slice_has_its_own_pixels():
    dot = _image(radius_px=2.0, hu=100.0)
    spacings_mm = np.array([[0.8, 0.8], [0.3, 0.3], [0.8, 0.8]])
    table = count_changed_places({"dot": dot}, target_hu=_image(hu=-850.0), spacings_mm=spacings_mm)
    assert table["num_changed_places"].tolist() == [2]  # in the second slice it is too small


def test_the_size_of_what_was_erased_is_seen_from_the_target():
    """A trace of the other sign is no larger lesion."""
    lost = [_row(_image(hu=-850.0 + trace))["diameter_difference_px"] for trace in (-2.0, 2.0)]
    assert lost[0] == pytest.approx(lost[1], abs=0.5)
    assert lost[0] < -10


def test_places_smaller_than_a_lesion_do_not_count():
    dot = _image(radius_px=1.0, hu=-700.0)
    table = count_changed_places({"dot": dot}, target_hu=_image(hu=-850.0), spacings_mm=np.full((3, 2), 0.8))
    assert table["num_changed_places"].tolist() == [0]
