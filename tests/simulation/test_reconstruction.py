from dataclasses import replace

import numpy as np
import pytest

from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.kernels import NoiseReduction
from ltdiff.simulation.reconstruction import MAX_HU, MIN_HU, SimulatedScan, scan_patient


@pytest.fixture(scope="module")
def scan(small_config) -> SimulatedScan:
    return scan_patient(small_config, 0)


def test_images_are_whole_hu_that_a_series_can_store(scan, small_config):
    for image in (scan.source_hu, scan.target_hu):
        assert image.shape == (small_config.num_slices, small_config.matrix, small_config.matrix)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, np.rint(image))
        assert image.min() == MIN_HU
        assert image.max() <= MAX_HU
    assert (scan.source_hu[:, 0, 0] == MIN_HU).all()  # outside the scan field


def test_the_two_kernels_show_the_same_patient(scan):
    assert np.corrcoef(scan.source_hu.ravel(), scan.target_hu.ravel())[0, 1] > 0.97
    assert (scan.source_hu != scan.target_hu).mean() > 0.3
    assert np.abs(np.diff(scan.target_hu)).mean() > np.abs(np.diff(scan.source_hu)).mean()


def test_slices_are_adjacent_and_centred_on_the_isocentre(scan, small_config):
    pixel_mm = small_config.fov_mm / small_config.matrix
    assert scan.spacing_mm == (5.0, pixel_mm, pixel_mm)
    assert scan.origin_mm[:2] == (-200.0, -200.0)
    assert scan.labels.shape == scan.source_hu.shape


def test_a_patient_is_a_function_of_seed_and_number(scan, small_config):
    np.testing.assert_array_equal(scan.target_hu, scan_patient(small_config, 0).target_hu)
    assert (scan.target_hu != scan_patient(small_config, 1).target_hu).mean() > 0.3
    assert (scan.target_hu != scan_patient(replace(small_config, seed=5), 0).target_hu).mean() > 0.3


def test_a_repeated_scan_has_the_same_anatomy_and_its_own_noise(scan, small_config):
    again, third = (scan_patient(replace(small_config, repeat=n), 0) for n in (1, 2))
    np.testing.assert_array_equal(again.labels, scan.labels)
    inside = scan.target_hu > -1000
    noise = [(one.target_hu - scan.target_hu)[inside] for one in (again, third)]
    assert all(one.std() > 5 for one in noise)
    assert all(abs(one.mean()) < 0.1 * one.std() for one in noise)
    assert np.corrcoef(*noise)[0, 1] == pytest.approx(0.5, abs=0.1)  # the first scan's own noise is in both
    np.testing.assert_array_equal(again.target_hu, scan_patient(replace(small_config, repeat=1), 0).target_hu)


def test_iterative_reconstruction_smooths_the_source_only(scan, small_config):
    iterative = scan_patient(replace(small_config, iterative=NoiseReduction()), 0)
    np.testing.assert_array_equal(iterative.target_hu, scan.target_hu)
    assert np.abs(np.diff(iterative.source_hu)).mean() < np.abs(np.diff(scan.source_hu)).mean()


def test_patients_take_thicknesses_and_doses_in_turn():
    config = SimulationConfig(slice_thicknesses_mm=(1.0, 5.0), doses=(0.1, 0.4))
    assert [config.thickness_mm(n) for n in range(4)] == [1, 5, 1, 5]
    assert [config.dose(n) for n in range(4)] == [0.1, 0.1, 0.4, 0.4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_slices": 0}, "num_slices"),
        ({"doses": ()}, "doses"),
        ({"fov_mm": 900.0}, "fov_mm"),
        ({"repeat": 0}, "repeat must be at least 1"),
        ({"num_lesions": 300}, "num_lesions"),
        ({"num_slices": 100}, "500 mm"),
        ({"source_kernel": "lung"}, "differ"),
        ({"source_kernel": "Br999"}, "'Br999'"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**change)
