"""What is done to an image on purpose is found in the tables: a bias, a moved edge, a lost and a made vessel."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.data.rois import disc_mask
from ltdiff.evaluation.anatomy_kept import content_kept, structures_kept

SHAPE, MIDDLE = (128, 128), (64, 64)
SPACINGS_MM = np.full((1, 2), 0.8)
VESSEL, OTHER = (50, 60), (80, 70)


def _chest(*vessels, radius_px=60.0, blur_px=1.0):
    """A body with one lung and some vessels in it, (1, Y, X)."""
    y, x = np.indices(SHAPE)
    body = 1 / (1 + np.exp(-4 * (radius_px - np.hypot(y - MIDDLE[0], x - MIDDLE[1]))))  # an edge between pixels
    plane = -1000 + 1040 * body
    plane[disc_mask(SHAPE, centre_yx=MIDDLE, radius_px=48)] = -850
    for centre in vessels:
        plane[disc_mask(SHAPE, centre_yx=centre, radius_px=4)] = 45
    return ndimage.gaussian_filter(plane, blur_px)[None].astype(np.float32)


def _content(image, source):
    return content_kept({"method": image}, source_hu=source, spacings_mm=SPACINGS_MM).iloc[0]


def _structures(image, source):
    options = {"source_hu": source, "spacings_mm": SPACINGS_MM, "lesions": (), "neighbours": ()}
    return structures_kept({"method": image}, **options).set_index("roi_set").loc["vessel"]


def test_the_source_itself_has_kept_all():
    chest = _chest(VESSEL)
    row = _content(chest, chest)
    assert row.drop("method").tolist() == [0, 0, 0, 0]
    assert _structures(chest, chest)[["number", "erased", "new_number", "created"]].tolist() == [1, 0, 1, 0]


def test_a_bias_is_found():
    chest = _chest(VESSEL)
    row = _content(chest + 7, chest)
    assert row["content_bias_hu"] == pytest.approx(7, abs=0.01)
    assert row["content_sd_hu"] == pytest.approx(0, abs=0.01)


def test_noise_and_sharpness_are_no_change_of_content():
    chest, sharp = _chest(VESSEL, blur_px=1.2), _chest(VESSEL, blur_px=0.8)
    noise = 40 * np.random.default_rng(0).standard_normal(chest.shape).astype(np.float32)
    noise -= ndimage.gaussian_filter(noise, (0, 2, 2))  # of a sharp kernel: little of it is coarse
    row = _content(sharp + noise, chest)
    assert abs(row["content_bias_hu"]) < 1
    assert row["content_sd_hu"] < 4
    assert abs(row["edge_shift_mm"]) < 0.03
    assert row["edge_shift_mm_p95"] < 0.15


@pytest.mark.parametrize("shift_px", [-0.5, 0.4])
def test_an_edge_that_moves_is_found(shift_px):
    """Skin alone: the edge of the lung stays where it is, and is half as long."""
    row = _content(_chest(radius_px=60 + shift_px), _chest())
    skin, lung = 60, 48
    assert row["edge_shift_mm"] == pytest.approx(0.8 * shift_px * skin / (skin + lung), abs=0.06)
    assert row["edge_shift_mm_p95"] == pytest.approx(0.8 * abs(shift_px), abs=0.06)


def test_a_vessel_that_is_lost_and_one_that_is_made_are_counted():
    changed = _structures(_chest(OTHER), _chest(VESSEL))
    assert changed[["number", "judged", "erased"]].tolist() == [1, 1, 1]
    assert changed[["new_number", "new_judged", "created"]].tolist() == [1, 1, 1]


def test_an_image_without_a_body_has_nothing_to_keep():
    air = np.full((1, *SHAPE), -1000, np.float32)
    assert _content(air, air).drop("method").isna().all()
    options = {"source_hu": air, "spacings_mm": SPACINGS_MM, "lesions": (), "neighbours": ()}
    assert structures_kept({"method": air}, **options).empty
    assert structures_kept({}, **options).empty
