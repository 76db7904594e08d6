"""The manifest without pairs: roles by kernel or as named, one slice thickness, and splits of each side."""

import numpy as np
import pandas as pd
import pytest
from tiny_run import save_volume

from ltdiff.data.manifest import check_manifest
from ltdiff.data.manifest_rows import build_manifest
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.unpaired import assign_roles, collect_archive, collect_named, collect_surveyed
from ltdiff.dicom.series import find_series


@pytest.fixture(scope="module")
def images():
    """Four slices of noise round 0 HU in air."""
    rng = np.random.default_rng(0)
    hu = np.full((4, 64, 64), -1000.0)
    hu[:, 8:-8, 8:-8] = rng.normal(0, 40, (4, 48, 48))
    return np.round(hu)


def _roles(manifest):
    return manifest.groupby("role")["kernel"].agg(set).to_dict()


# --- headers only


def test_roles_go_by_the_kernel(make_series):
    series = [make_series(str(n), kernel=kernel, patient=f"p{n}") for n, kernel in enumerate(["B", "L", "D", "L", ""])]
    roles, issues = assign_roles(series, source_kernel="B", target_kernel="L")
    assert [[one.kernel for one in side] for side in roles] == [["B"], ["L", "L"], ["D", ""]]
    assert issues == []


def test_several_source_kernels_are_warned_of(make_series, caplog):
    series = [make_series(str(n), kernel=kernel, patient=f"p{n}") for n, kernel in enumerate("BDL")]
    roles, _ = assign_roles(series, source_kernel=None, target_kernel="L")
    assert [one.kernel for one in roles.sources] == ["B", "D"]
    assert "several kernels ('B', 'D')" in caplog.text


def test_slices_of_another_thickness_are_refused_with_the_reason(make_series):
    series = [make_series("1", kernel="B", thickness_mm=1.0), make_series("2", kernel="B"), make_series("3", kernel="L")]
    roles, issues = assign_roles(series, source_kernel=None, target_kernel="L")
    assert [one.series_instance_uid for one in roles.sources] == ["2"]
    assert [issue.action for issue in issues] == ["fail"]
    assert "its slices are 1 mm thick, those of the target 5 mm" in issues[0].reason


@pytest.mark.parametrize("spec", ["auto", "patient:0.6", "z:0.7"])
def test_each_side_is_split_for_itself(make_series, spec):
    z_mm = tuple(5.0 * np.arange(12))
    sources, targets = (
        [make_series(f"{kernel}{n}", kernel=kernel, patient=f"{kernel}{n}", z_mm=z_mm, frame=f"{kernel}{n}") for n in range(4)]
        for kernel in "BL"
    )
    split = split_manifest(check_manifest(build_manifest([], sources=sources, targets=targets)), spec)
    assert {role: set(rows["split"]) for role, rows in split.groupby("role")} == {
        "source": {"train", "val", "test"},
        "target": {"train", "val", "test"},
    }
    if not spec.startswith("z"):
        assert (split.groupby("patient")["split"].nunique() == 1).all()


def test_a_patient_of_both_sides_is_in_one_split(make_series):
    sources = [make_series(f"b{n}", patient=f"p{n}", frame=f"b{n}") for n in range(5)]
    targets = [make_series(f"l{n}", kernel="L", patient=f"p{n}", frame=f"l{n}") for n in range(2, 7)]
    split = split_manifest(build_manifest([], sources=sources, targets=targets), "patient:0.6")
    assert (split.groupby("patient")["split"].nunique() == 1).all()


def test_two_patients_a_side_are_split_by_slices(make_series):
    sides = [[make_series(f"{k}{n}", kernel=k, patient=f"{k}{n}") for n in range(2)] for k in "BL"]
    assert split_manifest(build_manifest([], sources=sides[0], targets=sides[1])).attrs["split"] == "z:0.7"


# --- files


def test_an_archive_without_pairs_becomes_sources_and_targets(tmp_path, write_dicom, images):
    for n, kernel in enumerate("BBLD"):
        write_dicom(tmp_path / f"{n}", images, kernel=kernel, patient=f"p{n}", frame=f"1.2.{n}", study=f"1.3.{n}")
    result = collect_archive(tmp_path, source_kernel="B", target_kernel="L")
    assert _roles(result.manifest) == {"source": {"B"}, "target": {"L"}, "other": {"D"}}
    assert result.manifest["pair_id"].isna().all()
    assert len(result.table) == 0


def test_pairs_are_kept_as_pairs(tmp_path, write_dicom, images):
    write_dicom(tmp_path / "soft", images, kernel="B")
    write_dicom(tmp_path / "sharp", images, kernel="L")
    write_dicom(tmp_path / "alone", images, kernel="B", patient="p2", frame="1.2.7", study="1.3.7")
    manifest = collect_archive(tmp_path, source_kernel=None, target_kernel="L").manifest
    assert manifest["pair_id"].notna().sum() == 8
    assert manifest[manifest["pair_id"].isna()]["role"].tolist() == ["source"] * 4


@pytest.mark.parametrize(("kernel", "role"), [("B", "target"), ("L", "source")])
def test_an_archive_with_one_side_says_which_is_missing(tmp_path, write_dicom, images, kernel, role):
    write_dicom(tmp_path / "one", images, kernel=kernel)
    with pytest.raises(ValueError, match=f"none can be a {role}"):
        collect_archive(tmp_path, source_kernel=None, target_kernel="L")


def test_folders_and_volume_files_can_be_named(tmp_path, write_dicom, images):
    for n in range(2):
        write_dicom(tmp_path / "sources" / f"{n}", images, kernel="B", patient=f"p{n}", frame=f"1.2.{n}", study=f"1.3.{n}")
    target = save_volume(images, tmp_path / "target.nrrd")
    manifest = collect_named([tmp_path / "sources"], [target]).manifest
    assert manifest.groupby("role")["series_uid"].nunique().to_dict() == {"source": 2, "target": 1}


def test_one_slice_on_each_side_is_enough(tmp_path, write_dicom, images):
    folders = [write_dicom(tmp_path / kernel, images[:1], kernel=kernel, patient=kernel) for kernel in "BL"]
    manifest = collect_named(folders[:1], folders[1:]).manifest
    assert manifest["split"].tolist() == ["train", "train"]


def test_a_series_on_both_sides_is_refused(tmp_path, write_dicom, images):
    folder = write_dicom(tmp_path / "one", images)
    with pytest.raises(ValueError, match="is named as source and as target"):
        collect_named([folder], [folder])


def test_a_bad_series_costs_itself(tmp_path, write_dicom, images):
    for n in range(2):
        write_dicom(tmp_path / "sources" / f"{n}", images, kernel="B", patient=f"p{n}", frame=f"1.2.{n}", study=f"1.3.{n}")
    bad = sorted((tmp_path / "sources" / "1").iterdir())[0]
    bad.write_bytes(bad.read_bytes()[:3000])
    target = write_dicom(tmp_path / "target", images, kernel="L", patient="p9")
    result = collect_named([tmp_path / "sources"], [target])
    assert result.manifest.groupby("role")["series_uid"].nunique().to_dict() == {"source": 1, "target": 1}
    assert [issue.action for issue in result.issues] == ["fail"]


def test_nothing_to_use_says_why(tmp_path):
    with pytest.raises(ValueError, match="there is no such file or folder"):
        collect_named([tmp_path / "absent"], [tmp_path])


def test_protocols_of_a_survey_can_be_named(tmp_path, write_dicom, images):
    rows = []
    for n, kernel in enumerate("BBLD"):
        folder = write_dicom(
            tmp_path / "archive" / f"{n}", images, kernel=kernel, patient=f"p{n}", frame=f"1.2.{n}", study=f"1.3.{n}"
        )
        ((one,), _) = find_series(folder)
        rows.append((f"protocol {kernel}", one.series_instance_uid, str(tmp_path / "archive"), False))
    survey = pd.DataFrame(rows, columns=["protocol_id", "series_uid", "folder", "derived"])
    survey.to_parquet(tmp_path / "series.parquet")
    manifest = collect_surveyed(tmp_path, source_protocol="protocol B", target_protocol="protocol L").manifest
    assert _roles(manifest) == {"source": {"B"}, "target": {"L"}}
    with pytest.raises(ValueError, match="has no series of a protocol 'X'"):
        collect_surveyed(tmp_path, source_protocol="X", target_protocol="protocol L")
    with pytest.raises(ValueError, match="holds no survey"):
        collect_surveyed(tmp_path / "archive", source_protocol="X", target_protocol="protocol L")
