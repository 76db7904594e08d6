"""Vessels and airways are found where they are known to be, and nothing else is."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.data.rois import Roi, disc_mask
from ltdiff.evaluation.structures import find_structures
from ltdiff.simulation.phantom import build_phantom
from ltdiff.simulation.shapes import Grid

SHAPE = (128, 128)
SPACING_MM = (0.8, 0.8)
MIDDLE = (64, 64)


def _disc(centre, radius_px):
    return disc_mask(SHAPE, centre_yx=centre, radius_px=radius_px)


def _chest(*parts):
    """A body with one lung, and on it discs or masks of given HU, one over the other."""
    plane = np.full(SHAPE, -1000.0, np.float32)
    for mask, hu in ((_disc(MIDDLE, 60), 40), (_disc(MIDDLE, 48), -850), *parts):
        plane[mask] = hu
    return plane


def _find(plane, spacing_mm=SPACING_MM, **options):
    found = find_structures(plane[None], spacings_mm=[spacing_mm], **options)
    return [(roi.roi_set, roi.label) for roi in found]


def _airway(centre, *, radius_px, wall_px=2):
    return (_disc(centre, radius_px + wall_px), 20), (_disc(centre, radius_px), -1000)


def test_a_vessel_and_an_airway_are_found_where_they_are():
    plane = _chest((_disc((50, 60), 4), 45), *_airway((80, 70), radius_px=5))
    vessel, airway = find_structures(plane[None], spacings_mm=[SPACING_MM])
    assert [(roi.roi_set, roi.slice_index, roi.label) for roi in (vessel, airway)] == [
        ("vessel", 0, "z0_y50_x60"),
        ("airway", 0, "z0_y80_x70"),
    ]
    assert vessel.mask.sum() == pytest.approx(_disc((50, 60), 4).sum(), rel=0.3)
    assert airway.mask.sum() == pytest.approx(_disc((80, 70), 5).sum(), rel=0.3)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ((_disc((50, 60), 1), 45),),  # below 3 mm
        ((_disc((50, 60), 10), 45),),  # above 12 mm
        ((np.pad(np.ones((3, 30), bool), ((50, 75), (50, 48))), 45),),  # runs along the slice
        ((_disc((64, 20), 4), 45),),  # in the wall, no lung around it
        (*_airway((80, 70), radius_px=5), (_disc((80, 64), 3), -850)),  # an open wall
        ((_disc((80, 70), 7), 20), (_disc((80, 70), 5), -820)),  # a ring filled with lung
    ],
    ids=["empty", "thin", "thick", "long", "in_the_wall", "open", "filled"],
)
def test_nothing_else_is(parts):
    assert _find(_chest(*parts)) == []


def test_size_is_in_mm():
    plane = _chest((_disc((50, 60), 4), 45))
    assert _find(plane) == [("vessel", "z0_y50_x60")]
    assert _find(plane, spacing_mm=(0.3, 0.3)) == []
    assert _find(plane, spacing_mm=(1.9, 1.9)) == []


def test_a_hollow_thing_outside_the_body_is_no_airway():
    plane = np.full((128, 200), -1000.0, np.float32)
    plane[:, :128] = _chest()
    plane[50:70, 160:180] = 20
    plane[53:67, 163:177] = -1000
    assert _find(plane) == []


def test_lesions_of_the_masks_are_not_found_again():
    plane = _chest((_disc((50, 60), 4), 45), (_disc((80, 60), 4), 45))
    lesion = Roi("tumour", 0, _disc((80, 60), 5), "label_1")
    assert _find(plane, lesions=[lesion]) == [("vessel", "z0_y50_x60")]
    assert len(_find(plane, lesions=[Roi("tumour", 1, lesion.mask, "label_1")])) == 2  # of another slice


def test_noise_is_neither():
    noise = np.random.default_rng(0).normal(0, 60, SHAPE).astype(np.float32)
    assert _find(_chest() + noise) == []
    assert _find(_chest((_disc((50, 60), 4), 45)) + noise) == [("vessel", "z0_y50_x60")]


def test_air_alone_has_none():
    assert _find(np.full(SHAPE, -1000.0, np.float32)) == []


@pytest.mark.parametrize("z_mm", [-10.0, 30.0])
def test_what_is_found_in_a_phantom_is_of_its_trees(z_mm):
    grid, place = Grid(size=384, pixel_mm=0.9), {"z_mm": z_mm, "thickness_mm": 2.0}
    phantom = build_phantom(3, z_range_mm=(-60.0, 60.0), num_lesions=0)
    found = find_structures(phantom.attenuation(grid, **place)[None], spacings_mm=[(0.9, 0.9)])
    fill = {"vessel": phantom.vessels.fill(grid, **place), "airway": phantom.lumina.fill(grid, **place)}
    assert {roi.roi_set for roi in found} == {"vessel", "airway"}
    assert len(found) > 10
    assert all(ndimage.maximum(fill[roi.roi_set], roi.mask) > 0.5 for roi in found)
