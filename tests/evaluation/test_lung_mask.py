"""The lungs by thresholds: those of the simulated patient, and nothing else that is dark."""

import numpy as np
import pytest
from bodies import SPACING_MM, make_bodies
from scipy import ndimage

from ltdiff.data.read_scan import read_scan
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.simulation.phantom import LungStructure, build_phantom
from ltdiff.simulation.shapes import Grid

PIXEL_MM = 1.6


@pytest.fixture(scope="module")
def patient():
    """HU (Z, Y, X) of slices through the whole chest of the phantom, with noise, and where its lungs are."""
    phantom, grid = (
        build_phantom(3, z_range_mm=(-100, 130), num_lesions=0, lung=LungStructure(leaves_per_tree=256)),
        Grid(256, PIXEL_MM),
    )
    axis = grid.axis_mm
    positions_mm = np.arange(-100, 130, 25.0)
    rng = np.random.default_rng(0)
    hu = np.stack([phantom.attenuation(grid, z_mm=z, thickness_mm=1.0) for z in positions_mm])
    inside = np.stack([phantom.anatomy.lung_distance(axis, axis[:, None], z) > 0 for z in positions_mm])
    return hu + rng.normal(0, 40, hu.shape), inside, hu


def test_the_lungs_of_a_patient_whose_lungs_are_known(patient):
    hu, inside, noiseless = patient
    lungs = find_lungs(hu, (PIXEL_MM, PIXEL_MM))
    truth = inside & (noiseless < -500)  # a threshold mask leaves out vessels
    assert 2 * (lungs & truth).sum() / (lungs.sum() + truth.sum()) > 0.96
    assert (lungs & ~ndimage.binary_dilation(inside, iterations=2)).sum() < 1e-3 * lungs.sum()


def test_the_trachea_is_outside(patient):
    hu, inside, noiseless = patient
    trachea = (noiseless < -950) & ~ndimage.binary_dilation(inside, iterations=2)
    trachea &= np.stack([ndimage.binary_fill_holes(plane > -300) for plane in noiseless])  # in the body
    lungs = find_lungs(hu, (PIXEL_MM, PIXEL_MM))
    assert trachea.sum() > 100
    assert not (lungs & trachea).any()


def test_a_sharper_kernel_and_noise_hardly_move_the_mask():
    soft, sharp = (make_bodies(2, blur_px=blur, noise_hu=noise) for blur, noise in ((1.6, 8.0), (0.6, 60.0)))
    of_soft, of_sharp = (find_lungs(hu, SPACING_MM) for hu in (soft, sharp))
    assert 2 * (of_soft & of_sharp).sum() / (of_soft.sum() + of_sharp.sum()) > 0.97


@pytest.mark.parametrize("content_hu", [40.0, -1000.0])
def test_a_body_without_lungs_has_none(content_hu):
    """Solid, or with gas as large as lungs."""
    hu = make_bodies(2)
    hu[find_lungs(hu, SPACING_MM)] = content_hu
    assert not find_lungs(hu, SPACING_MM).any()
    assert not find_lungs(np.full((2, 64, 64), -1000.0), SPACING_MM).any()


def test_emphysema_stays_in_the_mask():
    """A darker part of a lung that is surrounded by lung is lung, whatever it holds."""
    hu = make_bodies(2)
    lungs = find_lungs(hu, SPACING_MM)
    emphysema = ndimage.binary_erosion(lungs, np.ones((1, 9, 9), bool)) & (np.arange(hu.shape[1]) < 128)[:, None]
    hu[emphysema] = -980.0
    assert find_lungs(hu, SPACING_MM)[emphysema].mean() > 0.99


def test_the_lungs_of_a_real_scan(real_data):
    """Two lungs, with nothing that is as dark as air or as wide as the body."""
    for series in (real_data / "lidc-small").glob("LIDC-IDRI-0003/1.3.6*"):
        scan = read_scan(series)
        hu = scan.read_hu()
        lungs = find_lungs(hu, scan.spacing_mm)
        parts, _ = ndimage.label(ndimage.binary_erosion(lungs, np.ones((1, 9, 9), bool)))
        sizes = np.sort(np.bincount(parts.ravel())[1:])
        assert sizes[-2] > 0.3 * sizes[-1]
        assert -920 < np.median(hu[lungs]) < -800
        assert 0.08 < lungs.mean() < 0.35
