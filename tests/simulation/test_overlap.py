"""Overlapping slices: each slab is read once, so neighbours share the noise of the slabs that they share."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ltdiff.data.pairing import find_pairs
from ltdiff.dicom.segmentation import read_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.dataset import _identity, simulate
from ltdiff.simulation.reconstruction import scan_patient
from ltdiff.simulation.shapes import Ellipsoid, coverage

CYLINDER_MM = 120.0


@dataclass
class Cylinder:
    """A phantom of `low_hu` below `step_z_mm` and `high_hu` above, which notes the slabs that it is asked for."""

    low_hu: float = 0.0
    high_hu: float = 0.0
    step_z_mm: float = 0.0
    lesions: tuple = ()
    slabs: list = field(default_factory=list)

    def attenuation(self, grid, *, z_mm, thickness_mm):
        self.slabs.append((z_mm, thickness_mm))
        hu = self.high_hu if z_mm > self.step_z_mm else self.low_hu
        distance = Ellipsoid((0, 0, 0), CYLINDER_MM, CYLINDER_MM).distance(grid.axis_mm, grid.axis_mm[:, None], 0.0)
        return (-1000 + coverage(distance, grid.pixel_mm) * (hu + 1000)).astype(np.float32)

    def lesion_labels(self, grid, *, z_mm, thickness_mm):
        return np.zeros((grid.size, grid.size), np.uint8)


@pytest.fixture
def scan_cylinder(monkeypatch, small_config):
    """scan_cylinder(cylinder, …): the scan of a cylinder, settings as named."""

    def scan(cylinder, **settings):
        monkeypatch.setattr("ltdiff.simulation.reconstruction.build_phantom", lambda *_, **__: cylinder)
        return scan_patient(replace(small_config, **{"doses": (0.02,), "num_slices": 8} | settings), 0)

    return scan


def _middle(hu):
    """The pixels (Z, N) well inside the cylinder."""
    half = hu.shape[1] // 2
    return hu[:, half - 10 : half + 10, half - 10 : half + 10].reshape(len(hu), -1)


def _correlation(noise, lag):
    return np.mean([np.corrcoef(noise[i], noise[i + lag])[0, 1] for i in range(len(noise) - lag)])


@pytest.mark.parametrize(("spacing_mm", "shared"), [(5.0, [0.0]), (2.5, [0.5, 0.0]), (1.25, [0.75, 0.5, 0.25, 0.0])])
def test_neighbours_share_the_noise_of_what_they_have_in_common(scan_cylinder, spacing_mm, shared):
    scan = scan_cylinder(Cylinder(), slice_spacing_mm=spacing_mm, num_slices=16)
    clean = scan_cylinder(Cylinder(), num_slices=1, doses=(1e5,))
    for hu, expected_hu in ((scan.source_hu, clean.source_hu), (scan.target_hu, clean.target_hu)):
        noise = _middle(hu) - _middle(expected_hu)
        assert [_correlation(noise, lag + 1) for lag in range(len(shared))] == pytest.approx(shared, abs=0.06)


def test_noise_and_mean_are_those_of_the_thickness(scan_cylinder):
    adjacent = scan_cylinder(Cylinder(), doses=(0.5,))
    overlapping = scan_cylinder(Cylinder(), doses=(0.5,), slice_spacing_mm=1.25)
    for one, other in ((adjacent.source_hu, overlapping.source_hu), (adjacent.target_hu, overlapping.target_hu)):
        assert _middle(other).std(axis=1).mean() == pytest.approx(_middle(one).std(axis=1).mean(), rel=0.06)
        assert _middle(other).mean() == pytest.approx(_middle(one).mean(), abs=1)


def test_every_slab_is_read_once_and_slices_lie_round_theirs(scan_cylinder):
    cylinder = Cylinder()
    scan = scan_cylinder(cylinder, slice_spacing_mm=2.5)
    z_mm, thickness_mm = zip(*cylinder.slabs, strict=True)
    assert len(z_mm) == 9  # 8 slices of 2 slabs each
    assert set(thickness_mm) == {2.5}
    np.testing.assert_allclose(np.diff(z_mm), 2.5)
    assert scan.spacing_mm[0] == 2.5
    assert scan.origin_mm[2] == pytest.approx((z_mm[0] + z_mm[1]) / 2)


def test_a_slice_shows_all_of_its_slabs(scan_cylinder):
    scan = scan_cylinder(Cylinder(low_hu=0, high_hu=20, step_z_mm=31.25), slice_spacing_mm=2.5, doses=(10.0,))
    z_mm = scan.origin_mm[2] + 2.5 * np.arange(len(scan.target_hu))
    expected = np.clip((z_mm - 31.25) / 5 + 0.5, 0, 1) * 20
    assert set(expected) == {0, 10, 20}
    means = _middle(scan.target_hu).mean(axis=1)
    np.testing.assert_allclose(means - means[0], expected, atol=1)


def test_a_spacing_equal_to_the_thickness_is_none(small_config):
    adjacent, named = (scan_patient(replace(small_config, slice_spacing_mm=mm), 0) for mm in (None, 5.0))
    np.testing.assert_array_equal(named.source_hu, adjacent.source_hu)
    np.testing.assert_array_equal(named.target_hu, adjacent.target_hu)
    np.testing.assert_array_equal(named.labels, adjacent.labels)


def test_series_say_thickness_and_spacing_and_stay_pairs(tmp_path, small_config):
    config = replace(small_config, num_patients=1, slice_spacing_mm=2.5, num_lesions=6)
    simulate(tmp_path, config=config)
    series, _ = find_series(tmp_path)
    pairs, issues = find_pairs(series, target_kernel="sharper")
    assert issues == []
    assert len(pairs) == 1
    assert pairs[0].target.slice_thickness_mm == 5.0
    np.testing.assert_allclose(np.diff([one.position_mm[2] for one in pairs[0].target.slices]), 2.5)
    labels = scan_patient(config, 0).labels
    assert labels.any()
    for region in read_segmentation(tmp_path / "patient_000" / "lesions.dcm", pairs[0].target):
        np.testing.assert_array_equal(region.mask, labels == region.number)


def test_scans_of_other_slices_have_other_uids(small_config):
    identities = [_identity(small_config, patient, is_target=True).series_uid for patient in (0, 1, 0)]
    assert identities[0] == identities[2] != identities[1]
    overlapping = replace(small_config, slice_spacing_mm=2.5)
    assert _identity(overlapping, 0, is_target=True).series_uid != identities[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slice_spacing_mm": 0.0}, "slice_spacing_mm must be positive"),
        ({"slice_spacing_mm": 2.0}, "whole multiple of slice_spacing_mm = 2, not 5 mm"),
        ({"slice_spacing_mm": 10.0}, "whole multiple"),
        ({"slice_spacing_mm": 2.5, "slice_thicknesses_mm": (5.0, 3.0)}, "not 3 mm"),
        ({"slice_spacing_mm": 2.5, "num_slices": 108}, "108 slices cover 272.5 mm"),
    ],
)
def test_bad_spacings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**change)


def test_overlapping_slices_cover_less():
    assert SimulationConfig(slice_spacing_mm=2.5, num_slices=107).spacing_mm(0) == 2.5
