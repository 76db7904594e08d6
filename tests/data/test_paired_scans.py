"""Whole scans behind the pairs of a split."""

import numpy as np
import pandas as pd
import pytest
from dicom_files import edit, identity, phantom_hu
from tiny_run import make_rows, make_volumes, save_volume, write_pairs

from ltdiff.data.manifest import check_manifest, read_manifest
from ltdiff.data.paired_scans import axial_difference, find_paired_scans
from ltdiff.dicom.write_original import write_ct_series


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six slices, the last of which is scored."""
    return read_manifest(write_pairs(tmp_path_factory.mktemp("pairs")))


def test_a_scan_has_all_its_pairs_whatever_their_split(manifest):
    (scan,) = find_paired_scans(manifest, split="test")
    source, target = make_volumes()
    np.testing.assert_array_equal(scan.read_source(), source)
    np.testing.assert_array_equal(scan.read_target(), target)
    assert scan.spacing_mm == (5.0, 0.8, 0.7)
    assert scan.slice_thickness_mm == 5.0
    assert scan.num_trained == 4
    assert scan.numbers.tolist() == list(range(6))
    assert axial_difference(scan) == ""


def test_scans_of_other_splits_are_left_out(manifest):
    assert find_paired_scans(manifest.assign(split="train"), split="test") == []


def test_a_source_with_two_targets_is_two_scans(manifest, tmp_path):
    third = save_volume(make_volumes()[1], tmp_path / "third.nrrd")
    pairs = manifest[manifest["pair_id"].notna()]
    sources = pairs[pairs["role"] == "source"].assign(pair_id=lambda rows: "other " + rows["pair_id"])
    targets = make_rows(third, shape=make_volumes()[1].shape, role="target").assign(pair_id=sources["pair_id"].to_numpy())
    both = check_manifest(pd.concat([manifest, sources, targets], ignore_index=True))
    scans = find_paired_scans(both, split="test")
    assert len(scans) == 2
    assert len({scan.fingerprint for scan in scans}) == 2
    assert [len(scan.sources) for scan in scans] == [6, 6]


def test_the_fingerprint_is_that_of_the_data(manifest):
    (scan,), (again,) = (find_paired_scans(one, split="test") for one in (manifest, manifest.assign(split="test", path="x")))
    assert scan.fingerprint == again.fingerprint
    (other,) = find_paired_scans(manifest.assign(z_mm=manifest["z_mm"] + 1), split="test")
    assert scan.fingerprint != other.fingerprint


def test_slices_at_varying_distances_are_named(manifest):
    moved = manifest.assign(z_mm=manifest["z_mm"].where(manifest["z_mm"] < 20, manifest["z_mm"] + 1))
    (scan,) = find_paired_scans(moved, split="test")
    assert axial_difference(scan) == "its slices lie 5 to 6 mm apart"


def test_a_single_slice_is_no_scan(manifest):
    one = manifest[manifest["split"] == "test"]
    (scan,) = find_paired_scans(one, split="test")
    assert axial_difference(scan) == "it is a single slice"


@pytest.mark.parametrize(("orientation", "named"), [([1, 0, 0, 0, 1, 0], ""), ([-1, 0, 0, 0, -1, 0], "ImageOrientationPatient")])
def test_a_scan_that_is_seen_otherwise_is_named(tmp_path, orientation, named):
    """A risk model takes it for one of a patient on the back."""
    hu = phantom_hu()
    folder = write_ct_series(hu, out_dir=tmp_path / "series", identity=identity(), spacing_mm=(5.0, 0.8, 0.7))
    files = [edit(path, ImageOrientationPatient=orientation) for path in sorted(folder.iterdir())]
    source = make_rows(folder, shape=hu.shape, role="source", splits=("test",) * len(hu))
    source = source.assign(path=list(map(str, files)), slice_index=0, series_uid=identity().series_uid)
    manifest = check_manifest(pd.concat([source, source.assign(role="target", series_uid="target")]))
    (scan,) = find_paired_scans(manifest, split="test")
    assert named in axial_difference(scan)
    assert bool(named) == bool(axial_difference(scan))
