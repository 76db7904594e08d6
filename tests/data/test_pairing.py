"""Pairs found in an archive, pairs that are named, and what is said about near misses."""

import logging
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from ltdiff.data.manifest import check_manifest, read_hu, read_manifest, write_manifest
from ltdiff.data.manifest_rows import build_manifest, kernel_table
from ltdiff.data.pairing import find_pairs, pair_archive, pair_named
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume


def _kernels(pairs):
    return [(pair.source.kernel, pair.target.kernel) for pair in pairs]


def _edit(folder, **elements):
    """Change the slices in a folder."""
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def _shifted(series, *, by_mm):
    slices = tuple(
        replace(one, position_mm=tuple(np.add(one.position_mm, by_mm)), z_mm=one.z_mm + by_mm[2]) for one in series.slices
    )
    return replace(series, slices=slices)


# --- headers only


def test_two_kernels_of_one_acquisition_are_a_pair(make_series):
    pairs, issues = find_pairs([make_series("1", kernel="L"), make_series("2", kernel="B")], target_kernel="L")
    assert _kernels(pairs) == [("B", "L")]
    assert issues == []


def test_one_slice_is_enough(make_series):
    series = [make_series("1", kernel="L", z_mm=(7.0,)), make_series("2", kernel="B", z_mm=(7.0,))]
    assert len(find_pairs(series, target_kernel="L")[0]) == 1


def test_each_of_several_kernels_is_paired_with_the_target(make_series):
    series = [make_series(f"{n}", kernel=kernel) for n, kernel in enumerate("DBL")]
    pairs, issues = find_pairs(series, target_kernel="L")
    assert _kernels(pairs) == [("D", "L"), ("B", "L")]
    assert issues == []
    manifest = build_manifest(pairs)
    check_manifest(manifest)
    assert (manifest["kernel"] == "L").sum() == 8  # each target slice once per pair


def test_the_order_of_the_archive_does_not_matter(make_series):
    series = [make_series(f"{p}.{k}", kernel=k, patient=p, frame=p) for p in ("p1", "p2") for k in "BLD"]
    assert find_pairs(series, target_kernel="L") == find_pairs(series[::-1], target_kernel="L")


@pytest.mark.parametrize("by_mm", [(0.04, 0, 0), (0, 0, 0.04)])
def test_rounded_positions_still_pair(make_series, by_mm):
    series = [make_series("1", kernel="L"), _shifted(make_series("2"), by_mm=by_mm)]
    assert len(find_pairs(series, target_kernel="L")[0]) == 1


@pytest.mark.parametrize(
    ("change", "action", "sentence"),
    [
        ({"z_mm": (0.0, 5.0, 15.0)}, "fail", r"1 of 4 slices of kernel 'L' have no partner \(002\.dcm at z 10 mm\)"),
        ({"z_mm": (0.0, 5.0, 7.5, 10.0, 15.0)}, "fail", r"1 of 5 slices of kernel 'B' have no partner .*at z 7.5 mm"),
        ({"rows": 16}, "fail", "16 x 8 pixels, the other 8 x 8|8 x 8 pixels, the other 16 x 8"),
        ({"spacing_mm": 0.81}, "fail", r"pixel spacing is 0.8\\0.8 mm and 0.81\\0.81 mm"),
        ({"frame": "1.2.10"}, "fail", "their FrameOfReferenceUID differs"),
        ({"z_mm": tuple(np.arange(0.0, 16.0))}, "skip", r"12 of 16 slices of kernel 'B' have no partner"),
        ({"thickness_mm": 1.0}, "skip", "slices are 5 mm and 1 mm thick"),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, "skip", "their orientation is"),
        ({"acquisition": "101130"}, "skip", "another acquisition, they were acquired 80 s apart"),
        ({"kernel": ""}, "skip", "only one of them names its kernel"),
        ({"derived": True}, "skip", "is derived, so it is neither paired nor trained on"),
    ],
)
def test_a_near_miss_is_no_pair_and_is_explained(make_series, change, action, sentence):
    pairs, issues = find_pairs([make_series("1", kernel="L"), make_series("2", **change)], target_kernel="L")
    assert pairs == []
    assert [issue.action for issue in issues] == [action]
    assert re.search(sentence, str(issues[0]))
    assert "/archive/" in issues[0].reason


@pytest.mark.parametrize("change", [{"patient": "p2"}, {"study": "other"}, {"kernel": "L"}])
def test_unrelated_series_are_neither_paired_nor_reported(make_series, change):
    assert find_pairs([make_series("1", kernel="L"), make_series("2", **change)], target_kernel="L") == ([], [])


@pytest.mark.parametrize(
    "z_mm", [(0.0, 5.0, 10.0), (5.0, 10.0, 15.0), (5.0, 10.0, 15.0, 20.0), (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)]
)
def test_a_reconstruction_may_begin_or_end_earlier(make_series, z_mm):
    pairs, issues = find_pairs([make_series("1", kernel="L"), make_series("2", z_mm=z_mm)], target_kernel="L")
    assert issues == []
    (pair,) = pairs
    shared = sorted({0, 5, 10, 15} & set(z_mm))
    assert [one.z_mm for one in pair.source.slices] == [one.z_mm for one in pair.target.slices] == shared


def test_one_study_of_two_patients_is_named(make_series):
    series = [make_series("1", kernel="L", study="s"), make_series("2", patient="p2", study="s")]
    pairs, (issue,) = find_pairs(series, target_kernel="L")
    assert pairs == []
    assert issue.action == "fail"
    assert "they belong to different patients" in issue.reason


def test_contrast_phases_are_not_mixed_up(make_series):
    series = [
        make_series(f"{phase}.{k}", kernel=k, acquisition=time)
        for phase, time in (("early", "101010"), ("late", "101130"))
        for k in "BL"
    ]
    pairs, issues = find_pairs(series, target_kernel="L")
    assert [(pair.source.series_instance_uid, pair.target.series_instance_uid) for pair in pairs] == [
        ("early.B", "early.L"),
        ("late.B", "late.L"),
    ]
    assert issues == []


def test_an_acquisition_without_the_target_kernel_is_reported(make_series):
    pairs, issues = find_pairs([make_series("1", kernel="L"), make_series("2")], target_kernel="Br40")
    assert pairs == []
    assert [(issue.action, "none has the target kernel 'Br40'" in str(issue)) for issue in issues] == [("skip", True)]


def test_kernel_table_counts_acquisitions_and_slices(make_series):
    series = [make_series(f"{p}.{k}", kernel=k, patient=p, frame=p) for p in ("p1", "p2") for k in "BL"]
    series += [make_series("3.D", kernel="D", patient="p3"), make_series("3.L", kernel="L", patient="p3")]
    table = kernel_table(find_pairs(series, target_kernel="L")[0])
    assert table["acquisitions"].to_dict() == {"L": {"B": 2, "D": 1}}
    assert table["slices"].to_dict() == {"L": {"B": 8, "D": 4}}
    assert kernel_table([]).empty


# --- files


@pytest.fixture
def images():
    """Soft and sharp images (4, 32, 32) of the same anatomy."""
    anatomy = np.random.default_rng(0).normal(-400, 150, (4, 32, 32))
    soft = sum(np.roll(anatomy, shift, axis=(1, 2)) for shift in [(0, 0), (0, 1), (1, 0), (1, 1)]) / 4
    return np.round(soft), np.round(anatomy)


def test_a_slice_that_was_exchanged_since_it_was_paired_is_named(tmp_path, write_dicom, images):
    """By one of another series, and by one of the same."""
    soft, sharp = images
    for name, hu in (("x", sharp), ("y", soft)):
        write_dicom(tmp_path / name, hu, kernel=name, patient="p1", frame="1.1", study="2.1")
    manifest = pair_archive(tmp_path).manifest
    rows = manifest[manifest["kernel"] == "x"].sort_values("z_mm").to_dict("records")
    others = manifest[manifest["kernel"] == "y"].sort_values("z_mm").to_dict("records")
    for row, source in ((rows[0], others[0]), (rows[1], rows[2])):
        assert read_hu(row).shape == (32, 32)
        shutil.copy(source["path"], row["path"])
        with pytest.raises(ValueError, match="is no longer the slice that the manifest names: pair the scans again"):
            read_hu(row)


def test_an_archive_is_paired_by_itself(tmp_path, write_dicom, images, caplog):
    caplog.set_level(logging.INFO, logger="ltdiff")
    soft, sharp = images
    for patient in ("p1", "p2"):
        ids = {"patient": patient, "frame": f"1.{patient[1]}", "study": f"2.{patient[1]}"}
        write_dicom(tmp_path / patient / "x", sharp, kernel="ASHARP", **ids)  # the name must not decide
        write_dicom(tmp_path / patient / "y", soft, kernel="ZSOFT", **ids)
    write_dicom(tmp_path / "alone", soft, kernel="ZSOFT", patient="p3", frame="1.3", study="2.3")
    write_dicom(tmp_path / "made", soft, kernel="ASHARP", patient="p3", frame="1.3", study="2.3", image_type="DERIVED")
    (tmp_path / "note.txt").write_text("no CT")
    result = pair_archive(tmp_path)
    assert result.table["acquisitions"].to_dict() == {"ASHARP": {"ZSOFT": 2}}
    assert "sharpest kernel is ASHARP" in caplog.text
    assert result.manifest.groupby(["role", "kernel"]).size().to_dict() == {
        ("other", "ZSOFT"): 4,
        ("source", "ZSOFT"): 8,
        ("target", "ASHARP"): 8,
    }
    assert sorted((issue.action, issue.path.name) for issue in result.issues) == [("skip", "made"), ("skip", "note.txt")]
    assert result.manifest.attrs["split"] == "z:0.7"
    for row in result.manifest.to_dict("records"):
        expected = sharp if row["role"] == "target" else soft
        np.testing.assert_array_equal(read_hu(row), expected[round(row["z_mm"] / 5)])
    write_manifest(result.manifest, tmp_path / "pairs.parquet")
    assert len(read_manifest(tmp_path / "pairs.parquet")) == 20


@pytest.fixture
def scans():
    """Soft and sharp images (4, 96, 96) of a scan, and the sharp ones of another scan of the same body."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] - 48
    body = np.where((x / 42) ** 2 + (y / 36) ** 2 < 1, 40.0, -1000.0) + np.where((x - 10) ** 2 + y**2 < 80, 200, 0)
    first, second = (body + ndimage.gaussian_filter(rng.normal(0, 60, (4, 96, 96)), (0, 0.5, 0.5)) for _ in range(2))
    soft, sharp, again = ndimage.gaussian_filter(first, (0, 1, 1)), first, second
    return tuple(np.round(np.clip(hu, -1024, 3000)) for hu in (soft, sharp, again))


NO_EVENT = {"AcquisitionDate": "", "AcquisitionTime": "", "AcquisitionNumber": ""}


@pytest.mark.parametrize(
    ("number", "is_named", "action"), [(1, True, ""), (1, False, ""), (2, True, "fail"), (2, False, "skip"), (0, False, "fail")]
)
def test_an_archive_s_pairs_have_one_noise(tmp_path, write_dicom, scans, number, is_named, action):
    """Whether or not headers name the acquisition: emptied by de-identification, two of them are no proof."""
    air = np.full_like(scans[0], -1000)
    source, target = (air, air) if number == 0 else (scans[0], scans[number])
    for kernel, hu in (("B", source), ("L", target)):
        write_dicom(tmp_path / kernel, hu, kernel=kernel)
    if not is_named:
        _edit(tmp_path, **NO_EVENT)
    result = pair_archive(tmp_path, target_kernel="L")
    assert [issue.action for issue in result.issues] == ([action] if action else [])
    assert result.manifest["pair_id"].notna().all() == (not action)
    if action:
        assert "two scans" in result.issues[0].reason
        assert "name them with --source and --target" in result.issues[0].reason


def test_named_scans_are_paired_and_doubted(tmp_path, write_dicom, scans, caplog):
    soft, sharp, again = (write_dicom(tmp_path / f"{i}", hu, kernel="BLL"[i]) for i, hu in enumerate(scans))
    assert len(pair_named(soft, again).manifest) == 8
    assert "may be two scans: the coherence of their noise is" in caplog.text
    caplog.clear()
    _edit(sharp, KVP=80)
    pair_named(soft, sharp)
    assert "may be two scans: their KVP differs" in caplog.text


def test_a_patient_id_of_several_patients_or_none_is_named(tmp_path, write_dicom, images, caplog):
    for number in range(3):
        folder = write_dicom(tmp_path / f"{number}", images[0], frame=f"1.{number + 1}", study=f"2.{number + 1}")
        _edit(folder, PatientBirthDate=f"19{number + 10}0101")
    pair_archive(tmp_path)
    assert "3 studies with 3 different names, birth dates or sexes have one PatientID" in caplog.text
    caplog.clear()
    _edit(tmp_path, PatientID="")
    pair_archive(tmp_path)
    assert "3 studies have no PatientID: each counts as a patient" in caplog.text


def test_one_source_kernel_can_be_asked_for(tmp_path, write_dicom, images):
    """For a model of its own; series of the others are no pairs, but still slices that phase 1 may see."""
    soft, sharp = images
    for kernel, hu in (("B", soft), ("D", soft + 3), ("L", sharp)):
        write_dicom(tmp_path / kernel, hu, kernel=kernel)
    assert pair_archive(tmp_path).table["acquisitions"].to_dict() == {"L": {"B": 1, "D": 1}}
    one = pair_archive(tmp_path, source_kernel="D", target_kernel="L")
    assert one.table["acquisitions"].to_dict() == {"L": {"D": 1}}
    assert set(one.manifest.loc[one.manifest["kernel"] == "B", "role"]) == {"other"}
    with pytest.raises(ValueError, match="no pair has the source kernel 'Br40', only B, D"):
        pair_archive(tmp_path, source_kernel="Br40", target_kernel="L")


def test_an_unreadable_slice_fails_its_acquisition_only(tmp_path, write_dicom, images):
    soft, sharp = images
    for patient, kernels in (("p1", "QR"), ("p2", "BL")):
        ids = {"patient": patient, "frame": f"1.{patient[1]}", "study": f"2.{patient[1]}"}
        write_dicom(tmp_path / patient / "soft", soft if patient == "p2" else soft + 4000, kernel=kernels[0], **ids)
        write_dicom(tmp_path / patient / "sharp", sharp, kernel=kernels[1], **ids)
    result = pair_archive(tmp_path)
    assert result.table["acquisitions"].to_dict() == {"L": {"B": 1}}
    assert [issue.action for issue in result.issues] == ["fail"]
    assert "implausible" in str(result.issues[0])


def test_a_name_that_is_no_text_costs_its_series_only(tmp_path, write_dicom, images):
    """As older systems wrote them: a folder in Latin-1."""
    for kernel, hu in zip("BL", images, strict=True):
        write_dicom(tmp_path / kernel, hu, kernel=kernel)
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")
    write_dicom(Path(folder), images[0], kernel="B", patient="other")
    result = pair_archive(tmp_path)
    (issue,) = [one for one in result.issues if one.action == "fail"]
    assert "M\\udcfcller" in issue.reason
    assert issue.reason.endswith("lies under a name that is not UTF-8: rename it")
    assert result.manifest["pair_id"].notna().all()


def test_an_archive_without_ct_says_so(tmp_path):
    with pytest.raises(ValueError, match="no original CT series found"):
        pair_archive(tmp_path)


def test_named_folders_pair(tmp_path, write_dicom, images):
    soft, sharp = (
        write_dicom(tmp_path / k, hu, kernel=k, acquisition_number=n)  # the user knows that it is one acquisition
        for n, (k, hu) in enumerate(zip("BL", images, strict=True))
    )
    manifest = pair_named(sharp, soft).manifest  # in the order that the user wants
    assert manifest.groupby("role")["kernel"].first().to_dict() == {"source": "L", "target": "B"}


def test_named_files_pair(tmp_path, write_dicom, images):
    soft, sharp = (write_dicom(tmp_path / k, hu, kernel=k) for k, hu in zip("BL", images, strict=True))
    result = pair_named(soft / "002.dcm", sharp / "002.dcm")
    assert len(result.manifest) == 2
    with pytest.raises(ValueError, match=r"1 of 1 slices .* have no partner \(002\.dcm at z 10 mm\)"):
        pair_named(soft / "002.dcm", sharp / "003.dcm")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"patient": "p2"}, "different patients"),
        ({"frame": "1.2.10"}, "FrameOfReferenceUID differs"),
        ({"spacing_mm": 0.7}, "pixel spacing"),
        ({"z_mm": (0.0, 5.0, 10.0, 15.1)}, "1 of 4 slices of kernel 'B' have no partner .* and 1 of 4 slices of kernel 'L'"),
        ({"z_mm": (0.0, 5.0, 15.0, 20.0)}, "gaps"),
        ({"image_type": "DERIVED"}, "this series is derived"),
    ],
)
def test_named_series_that_differ_fail_in_one_sentence(tmp_path, write_dicom, images, change, sentence):
    soft = write_dicom(tmp_path / "soft", images[0])
    sharp = write_dicom(tmp_path / "sharp", images[1], kernel="L", **change)
    with pytest.raises(ValueError, match=sentence) as caught:
        pair_named(soft, sharp)
    assert "\n" not in str(caught.value)
    assert str(sharp) in str(caught.value)


def test_naming_too_much_or_nothing_is_refused(tmp_path, write_dicom, images):
    soft = write_dicom(tmp_path / "soft", images[0])
    write_dicom(tmp_path / "sharp", images[1], kernel="L")
    with pytest.raises(ValueError, match="here are 2"):
        pair_named(tmp_path, soft)
    with pytest.raises(ValueError, match="no such file or folder"):
        pair_named(soft, tmp_path / "gone")
    with pytest.raises(ValueError, match="the same series"):
        pair_named(soft, soft)


@pytest.mark.parametrize("num_slices", [1, 4])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_named_volume_files_pair(tmp_path, images, suffix, num_slices):
    paths = []
    for name, hu in zip(("soft", "sharp"), images, strict=True):
        paths.append(tmp_path / f"{name}{suffix}")
        grid = {"spacing_mm": (5.0, 0.8, 0.8), "origin_mm": (-50.0, -40.0, 7.0), "direction": tuple(np.eye(3).ravel())}
        write_volume(Volume(hu[:num_slices].astype(np.float32), **grid), paths[-1])
    manifest = check_manifest(pair_named(*paths).manifest)
    assert len(manifest) == 2 * num_slices
    assert manifest["patient"].nunique() == 1
    for row in manifest.to_dict("records"):
        np.testing.assert_array_equal(read_hu(row), images[row["role"] == "target"][row["slice_index"]])
    with pytest.raises(ValueError, match="the same series"):
        pair_named(paths[0], paths[0])


def test_a_volume_file_pairs_with_a_dicom_folder(tmp_path, write_dicom, images):
    soft = write_dicom(tmp_path / "soft", images[0])
    grid = {"spacing_mm": (5.0, 0.8, 0.8), "origin_mm": (-50.0, -40.0, 0.0), "direction": tuple(np.eye(3).ravel())}
    write_volume(Volume(images[1].astype(np.float32), **grid), tmp_path / "sharp.nii.gz")
    manifest = pair_named(soft, tmp_path / "sharp.nii.gz").manifest
    assert manifest["patient"].nunique() == 1
    assert manifest.groupby("role")["kernel"].first().to_dict() == {"source": "B", "target": ""}
    write_volume(Volume(images[1].astype(np.float32), **(grid | {"origin_mm": (-50.0, -40.0, 2.5)})), tmp_path / "off.nrrd")
    with pytest.raises(ValueError, match="4 of 4 slices"):
        pair_named(soft, tmp_path / "off.nrrd")


def test_the_real_pair_is_found(real_data):
    result = pair_archive(real_data / "lung-pet-ct-dx-a0001")
    assert result.table["slices"].to_dict() == {"L": {"B": 64}}
    sources = result.manifest[result.manifest["role"] == "source"]
    assert sources["split"].value_counts().to_dict() == {"train": 40, "test": 19, "val": 5}


def test_real_series_of_other_patients_train_phase_1(real_data):
    result = pair_archive(real_data / "lidc-small")
    assert result.table.empty
    assert sorted(result.manifest.groupby("patient").size()) == [11, 12, 16]
    assert set(result.manifest["role"]) == {"other"}
