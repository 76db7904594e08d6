"""The phantom: it looks like a chest, and its masks are where its lesions are."""

import numpy as np
import pytest

from ltdiff.simulation.phantom import LungStructure, Phantom, build_phantom
from ltdiff.simulation.shapes import Grid

GRID = Grid(320, 1.5625)
LUNG = LungStructure(leaves_per_tree=256, leaf_radius_mm=0.8)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return build_phantom(1, z_range_mm=(-20, 60), num_lesions=8, lung=LUNG)


@pytest.fixture(scope="module")
def hu(phantom) -> np.ndarray:
    return phantom.attenuation(GRID, z_mm=10, thickness_mm=2)


def test_a_slice_has_air_lung_soft_tissue_and_bone(hu):
    assert hu.shape == (GRID.size, GRID.size)
    assert hu.dtype == np.float32
    share = {name: ((hu >= low) & (hu < high)).mean() for name, low, high in (
        ("air", -1100, -950), ("lung", -950, -700), ("fat", -150, -60), ("soft", 0, 120), ("bone", 250, 1200)
    )}  # fmt: skip
    assert share["air"] > 0.4
    assert 0.03 < share["lung"] < 0.25
    assert share["fat"] > 0.02
    assert 0.05 < share["soft"] < 0.3
    assert 0.002 < share["bone"] < 0.06


def test_every_seed_is_another_patient_and_the_same_one_again(phantom, hu):
    again = build_phantom(1, z_range_mm=(-20, 60), num_lesions=8, lung=LUNG)
    np.testing.assert_array_equal(hu, again.attenuation(GRID, z_mm=10, thickness_mm=2))
    other = build_phantom(2, z_range_mm=(-20, 60), num_lesions=8, lung=LUNG)
    assert other.anatomy.trunk_x_mm != phantom.anatomy.trunk_x_mm
    assert np.abs(hu - other.attenuation(GRID, z_mm=10, thickness_mm=2)).mean() > 30


def test_lesions_have_their_hu_where_their_mask_is(phantom):
    thickness_mm, seen = 1.0, 0
    for lesion in phantom.lesions:
        z_mm = lesion.centre_mm[2]
        mask = phantom.lesion_labels(GRID, z_mm=z_mm, thickness_mm=thickness_mm) == lesion.label
        if mask.sum() < 8:
            continue
        seen += 1
        values = phantom.attenuation(GRID, z_mm=z_mm, thickness_mm=thickness_mm)[mask]
        lung_and_edges_hu = 0.25 * abs(lesion.hu + 850) + 40
        assert np.median(values) == pytest.approx(lesion.hu, abs=lung_and_edges_hu)
    assert seen >= 3


def test_masks_have_the_size_of_their_lesions(phantom):
    fine = Grid(1000, 0.5)
    for lesion in phantom.lesions:
        if lesion.shape != "spherical":
            continue
        mask = phantom.lesion_labels(fine, z_mm=lesion.centre_mm[2], thickness_mm=0.5)
        assert (mask == lesion.label).sum() * 0.25 == pytest.approx(np.pi * lesion.diameter_mm**2 / 4, rel=0.1)


def test_lesions_lie_in_the_lungs_within_the_scanned_range(phantom):
    assert len(phantom.lesions) == 8
    for lesion in phantom.lesions:
        assert -20 <= lesion.centre_mm[2] <= 60
        assert phantom.anatomy.lung_distance(*lesion.centre_mm) > lesion.diameter_mm / 2


def test_a_thick_slice_is_about_the_mean_of_thin_ones(phantom):
    thick = phantom.attenuation(GRID, z_mm=10, thickness_mm=6)
    thin = np.mean([phantom.attenuation(GRID, z_mm=z, thickness_mm=1) for z in np.arange(7.5, 13)], axis=0)
    body = thin > -500
    assert np.corrcoef(thick.ravel(), thin.ravel())[0, 1] > 0.995
    assert (thick - thin)[body].mean() == pytest.approx(0, abs=4)
