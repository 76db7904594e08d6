"""Which series are found in a folder tree, and what is said of the rest."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SPACING_MM, bundled, edit, phantom_hu

from ltdiff.dicom import header as header_module
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.raw_data import is_one_event
from ltdiff.dicom.series import find_series, no_series_error
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.errors import NothingToDoError


def only_issue(root: Path, *, action: str = "fail"):
    series, issues = find_series(root)
    assert not series
    (issue,) = issues
    assert issue.action == action
    assert str(issue) == issue.reason
    assert "\n" not in str(issue)
    return issue


def test_a_series_is_described(write_series):
    (series,), issues = find_series(write_series(kernel="Br40"))
    assert issues == []
    assert (series.num_slices, series.rows, series.columns) == (NUM_SLICES, 32, 32)
    assert series.spacing_mm == SPACING_MM[1:]
    assert series.slice_spacing_mm == pytest.approx(SPACING_MM[0])
    assert (series.kernel, series.manufacturer, series.slice_thickness_mm) == ("Br40", "ltdiff", 2.5)
    assert len(series.patient_key) == len(series.person_key) == 12
    assert not series.derived
    assert not series.standardized_by_ltdiff


def test_slices_ascend_along_the_normal_whatever_their_names_and_numbers(write_series):
    folder = write_series()
    paths = sorted(folder.iterdir())
    names = [f"{number:02d}" for number in range(len(paths))]
    random.Random(0).shuffle(names)
    for path, name in zip(paths, names, strict=True):
        edit(path, InstanceNumber=int(name) + 1).rename(folder / name)
    (series,), _ = find_series(folder)
    assert [header.path.name for header in series.slices] == names
    assert [header.z_mm for header in series.slices] == [-100 + 2.5 * index for index in range(NUM_SLICES)]
    volume = np.stack([read_slice_hu(header.path) for header in series.slices])
    np.testing.assert_array_equal(volume, phantom_hu())


def test_positions_project_on_the_normal_of_a_coronal_series(write_series):
    folder = write_series()
    for index, path in enumerate(sorted(folder.iterdir())):
        edit(path, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[5, 10 - 3 * index, 7])
    (series,), _ = find_series(folder)
    assert [header.z_mm for header in series.slices] == [-2, 1, 4, 7, 10]  # the normal is +y
    assert series.slice_spacing_mm == pytest.approx(3)


def test_mixed_series_are_grouped(write_series, tmp_path):
    for name in ("a", "b"):
        folder = write_series(name, series_uid=stable_uid(name), kernel=name)
        for path in folder.iterdir():
            path.rename(tmp_path / f"{name}-{path.name}")
    series, issues = find_series(tmp_path)
    assert sorted((one.kernel, one.num_slices) for one in series) == [("a", NUM_SLICES), ("b", NUM_SLICES)]
    assert issues == []


def test_one_file_is_a_series_of_one_slice(one_slice):
    (series,), issues = find_series(one_slice)
    assert (series.num_slices, series.slice_spacing_mm, issues) == (1, series.slice_thickness_mm, [])


def test_absent_kernel_and_acquisition_are_legal(write_series):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, ConvolutionKernel=None, KVP=None, AcquisitionDate=None, AcquisitionTime=None, AcquisitionNumber=None)
    (series,), issues = find_series(folder)
    assert (series.kernel, issues) == ("", [])
    assert not is_one_event([series.slices[0].raw_data], [series.slices[0].raw_data])


def test_a_kernel_of_two_values_is_joined(write_series):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, ConvolutionKernel=["I40f", "3"])
    assert find_series(folder)[0][0].kernel == "I40f\\3"


def test_without_a_patient_id_a_study_is_a_patient(write_series):
    """As de-identification may leave it: else all patients of an archive would be one."""
    keys = []
    for name, study in (("a", "1.2.3"), ("b", "1.2.3"), ("c", "1.2.4")):
        folder = write_series(name, series_uid=stable_uid(name), kernel=name)
        for path in folder.iterdir():
            edit(path, PatientID="", StudyInstanceUID=study)
        keys.append(find_series(folder)[0][0].patient_key)
    assert keys[0] == keys[1] != keys[2]


def test_two_kernels_of_one_acquisition_share_their_keys(write_series):
    keys = set()
    for name in ("a", "b"):
        (series,), _ = find_series(write_series(name, series_uid=stable_uid(name), kernel=name))
        keys.add((series.patient_key, *(one.raw_data for one in series.slices)))
    (other,), _ = find_series(write_series("c", patient_id="patient-2"))
    assert len(keys) == 1
    assert other.patient_key not in {patient_key for patient_key, *_ in keys}


def test_an_identical_duplicate_is_dropped(write_series):
    folder = write_series()
    shutil.copy(folder / "slice_0003.dcm", folder / "copy.dcm")
    renamed = shutil.copy(folder / "slice_0002.dcm", folder / "sent_again.dcm")
    edit(renamed, SOPInstanceUID="1.2.3")
    (series,), issues = find_series(folder)
    assert (series.num_slices, issues) == (NUM_SLICES, [])


@pytest.mark.parametrize("sop_instance_uid", [None, "1.2.3"], ids=["same UID", "other UID"])
def test_a_different_duplicate_fails(write_series, sop_instance_uid):
    folder = write_series()
    other = shutil.copy(folder / "slice_0003.dcm", folder / "z.dcm")
    edit(other, PixelData=pydicom.dcmread(folder / "slice_0001.dcm").PixelData)
    if sop_instance_uid:
        edit(other, SOPInstanceUID=sop_instance_uid)
    reason = only_issue(folder).reason
    assert "two different slices" in reason
    assert "z = -95.00, -95.00 mm" in reason


@pytest.mark.parametrize("name", ["slice_0001.dcm", "slice_0005.dcm"])
def test_a_slice_that_was_cut_short_fails_its_series(write_series, name):
    """At its ends there is no gap that would tell; cut in its header it looks like a file without pixels."""
    folder = write_series()
    path = folder / name
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert f"{name} has no PixelData, which also fails the {NUM_SLICES - 1} good slices" in only_issue(folder).reason
    for other in folder.iterdir():
        if other != path:
            other.unlink()
    assert find_series(folder)[1][0].action == "skip"  # alone it is no slice of anything


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that can be opened and not read")
def test_a_file_that_cannot_be_read_is_named():
    series, (issue,) = find_series(Path("/proc/self/mem"))
    assert (series, issue.action) == ([], "fail")
    assert issue.reason == "/proc/self/mem cannot be read (Input/output error)"


@pytest.mark.parametrize("length", [140, 170, 200, 260, 330, 400, 700, 1000])
@pytest.mark.parametrize("name", ["slice_0001.dcm", "slice_0005.dcm"])
def test_a_file_that_was_cut_anywhere_fails_the_series_beside_it(write_series, tmp_path, name, length):
    """At its ends there is no gap; cut before its SeriesInstanceUID it could be a slice of any series of its folder."""
    folder = write_series()
    write_series("other", series_uid=stable_uid("other"))
    path = folder / name
    path.write_bytes(path.read_bytes()[:length])
    (series,), issues = find_series(tmp_path)
    assert series.series_instance_uid == stable_uid("other")
    assert [issue.action for issue in issues] == ["fail"]
    assert f"{name} " in issues[0].reason


def test_a_cut_file_beside_no_series_fails_alone(write_series):
    folder = write_series()
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:300])
    assert only_issue(folder).path == path


def test_what_nobody_foresaw_costs_its_series_and_no_other(write_series, tmp_path, monkeypatch):
    """Whatever it is, it is named with its place; the exception's own text, which may quote a header, stays away."""
    write_series("good", series_uid=stable_uid("good"))
    bad = write_series("bad", series_uid=stable_uid("bad"), kernel="trap")
    original = header_module._geometry
    monkeypatch.setattr(
        header_module, "_geometry", lambda dataset: 1 / 0 if dataset.ConvolutionKernel == "trap" else original(dataset)
    )
    (series,), (issue,) = find_series(tmp_path)
    assert series.series_instance_uid == stable_uid("good")
    assert issue.path.parent == bad
    assert "met an error that ltdiff does not foresee: ZeroDivisionError in test_series.py, line " in issue.reason
    trace = Path(issue.reason.split("please report ")[1].split(",")[0])
    assert "_header" in trace.read_text()
    assert "division by zero" not in trace.read_text() + issue.reason
    assert trace.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["empty", "text", "MR", "bad", "derived"])
def test_why_there_is_no_series_is_told(write_series, tmp_path, kind):
    root = tmp_path / "root"
    derived = ["DERIVED", "PRIMARY", "AXIAL"]
    changes = {"MR": {"Modality": "MR"}, "bad": {"RescaleSlope": None}, "derived": {"ImageType": derived}}
    if kind in changes:
        for path in write_series("root").iterdir():
            edit(path, **changes[kind])
    else:
        root.mkdir()
    if kind == "text":
        (root / "notes.txt").write_text("n" * 200)
    found, issues = find_series(root)
    error = no_series_error(root, found, issues)
    assert isinstance(error, NothingToDoError) == (kind != "bad")
    expected = {
        "empty": "there is no file",
        "text": "notes.txt is not a DICOM file",
        "MR": "its Modality is another, and 4 more files are none",
        "bad": "has no RescaleSlope, as 4 more do of its series",
        "derived": "1 series are derived",
    }
    assert f"{root}: no original CT series found: " in str(error)
    assert expected[kind] in str(error)


def test_two_slices_with_one_uid_fail(write_series):
    folder = write_series()
    uid = pydicom.dcmread(folder / "slice_0001.dcm").SOPInstanceUID
    edit(folder / "slice_0004.dcm", SOPInstanceUID=uid)
    assert "z = -100.00, -92.50 mm" in only_issue(folder).reason


def test_a_gap_fails_with_its_position(write_series):
    folder = write_series()
    (folder / "slice_0003.dcm").unlink()
    assert "2.50 mm apart, but not from z = -97.50 to -92.50 mm" in only_issue(folder).reason


def test_rounded_positions_are_no_gap(write_series):
    folder = write_series()
    for index, path in enumerate(sorted(folder.iterdir())):
        edit(path, ImagePositionPatient=[-10, -20, round(1.25 * index, 1)])
    assert find_series(folder)[0][0].num_slices == NUM_SLICES


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ImageOrientationPatient": [0.8, 0.6, 0, -0.6, 0.8, 0]}, "mixes orientations: z = -92.50 mm"),
        ({"PixelSpacing": [0.9, 0.9]}, "mixes PixelSpacings: z = -92.50 mm"),
        ({"ConvolutionKernel": "Bl64"}, "mixes convolution kernels: z = -92.50 mm"),
        ({"FrameOfReferenceUID": "1.2.3"}, "mixes FrameOfReferenceUIDs: z = -92.50 mm"),
        ({"StudyInstanceUID": "1.2.3"}, "mixes StudyInstanceUIDs: z = -92.50 mm"),
        ({"PatientID": "somebody else"}, "mixes patients: z = -92.50 mm"),
        ({"Rows": 16, "Columns": 64}, "mixes sizes (Rows × Columns): z = -92.50 mm"),
        ({"ImagePositionPatient": [-10, -18, -92.5]}, "2.00 mm beside the first slice: z = -92.50 mm"),
    ],
)
def test_a_series_that_is_no_grid_fails_with_positions(write_series, change, sentence):
    folder = write_series()
    edit(folder / "slice_0004.dcm", **change)
    assert sentence in only_issue(folder).reason


def test_gantry_tilt_is_read_and_named(write_series):
    folder = write_series()
    for index, path in enumerate(sorted(folder.iterdir())):
        edit(path, ImagePositionPatient=[-10, -20 + 0.5 * index, -100 + 2.5 * index])
    (series,), issues = find_series(folder)
    assert (series.irregularity, issues) == ("its gantry was tilted by 11.3°", [])


def test_a_bad_slice_fails_its_series_and_no_other(write_series, tmp_path):
    write_series("good", series_uid=stable_uid("good"))
    bad = write_series("bad", series_uid=stable_uid("bad"))
    edit(bad / "slice_0002.dcm", RescaleSlope=None)
    edit(bad / "slice_0003.dcm", RescaleSlope=None)
    (series,), (issue,) = find_series(tmp_path)
    assert series.series_instance_uid == stable_uid("good")
    assert issue.path == bad / "slice_0002.dcm"
    assert "has no RescaleSlope" in issue.reason


def test_a_derived_series_is_marked(write_series):
    folder = write_series()
    edit(folder / "slice_0001.dcm", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    (series,), _ = find_series(folder)
    assert series.derived
    assert not series.standardized_by_ltdiff


def test_what_is_no_file_is_not_followed(write_series, tmp_path):
    folder = write_series()
    os.mkfifo(folder / "fifo.dcm")
    (folder / "loop").symlink_to(tmp_path)
    (folder / "nowhere.dcm").symlink_to(tmp_path / "absent")
    (series,), issues = find_series(tmp_path)
    assert series.num_slices == NUM_SLICES
    reasons = {issue.path.name: issue.reason for issue in issues}
    assert {issue.action for issue in issues} == {"skip"}
    assert "no regular file" in reasons["fifo.dcm"]
    assert "not followed" in reasons["loop"]
    assert "leads nowhere" in reasons["nowhere.dcm"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Not as root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0)
        (root / "closed.dcm").touch(mode=0)
        with as_nobody():
            series, issues = find_series(root)
        assert series == []
        reasons = {issue.path.name: (issue.action, issue.reason) for issue in issues}
        assert reasons["closed"] == ("skip", f"{root}/closed cannot be listed (Permission denied)")
        assert reasons["closed.dcm"] == ("fail", f"{root}/closed.dcm cannot be opened (Permission denied)")


def test_names_with_line_breaks_stay_on_one_line(tmp_path):
    (tmp_path / "a\nb.dcm").write_text("no DICOM")
    assert "a\\nb.dcm" in only_issue(tmp_path, action="skip").reason


def test_a_root_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        find_series(tmp_path / "absent")


def test_nothing_in_pydicoms_own_test_files_raises():
    series, issues = find_series(bundled("CT_small.dcm").parent)
    assert {"CT_small.dcm"} <= {header.path.name for one in series for header in one.slices}
    assert {"skip", "fail"} == {issue.action for issue in issues}
    assert all("\n" not in issue.reason for issue in issues)
