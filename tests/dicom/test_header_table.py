"""Headers as a table: what comes out is what was read, of good files and of refused ones."""

import os
from pathlib import Path

import pytest
from dicom_files import bundled, edit

from ltdiff.dicom.dicom_file import BadFile, SkippedFile, files_below
from ltdiff.dicom.header import read_header
from ltdiff.dicom.header_table import Files, headers_of, read_rows


def rows_of(folder: Path):
    files = Files(f"{folder}/", [os.fsencode(path.relative_to(folder)) for path in files_below(folder)])
    return files, read_rows(files)


def refusal_of(path: Path):
    """(action, reason, series, whether it is of its folder) of a file, or its header."""
    try:
        return read_header(path)
    except SkippedFile as error:
        return "skip", str(error), error.series_instance_uid, None
    except BadFile as error:
        return "fail", str(error), error.series_instance_uid, error.is_of_folder


def test_headers_come_out_as_they_were_read(write_series):
    folder = write_series(kernel="Bl64")
    edit(folder / "slice_0002.dcm", PixelPaddingValue=-2000, ImageType=["DERIVED", "PRIMARY"], AcquisitionTime="101112.25")
    edit(folder / "slice_0003.dcm", SliceThickness=None, RescaleIntercept="-1024.1", PatientID="")
    files, rows = rows_of(folder)
    assert headers_of(rows, files.prefix) == [read_header(folder / os.fsdecode(name)) for name in files.names]


@pytest.mark.parametrize("kind", ["of other packages", "broken"])
def test_so_do_headers_and_refusals_of_odd_files(write_series, kind):
    folder = bundled("CT_small.dcm").parent if kind != "broken" else write_series()
    if kind == "broken":
        edit(folder / "slice_0002.dcm", RescaleSlope=None)
        for number, length in ((3, 300), (4, 0)):
            path = folder / f"slice_{number:04d}.dcm"
            path.write_bytes(path.read_bytes()[:length])
    files, rows = rows_of(folder)
    assert set(rows["action"].to_pylist()) == {"skip", None} | ({"fail"} if kind == "broken" else set())
    for number, (name, row) in enumerate(zip(files.names, rows.to_pylist(), strict=True)):
        expected = refusal_of(folder / os.fsdecode(name))
        if isinstance(expected, tuple):
            assert (row["action"], row["reason"], row["series_instance_uid"], row["is_of_folder"]) == expected
        else:
            assert headers_of(rows.slice(number, 1), files.prefix) == [expected]


@pytest.mark.parametrize("change", ["kernel", "kvp", "position", "nothing"])
def test_the_digest_stands_for_what_a_header_says(write_series, change):
    path = write_series() / "slice_0001.dcm"
    before = read_header(path)
    changes = {"kernel": {"ConvolutionKernel": "X"}, "kvp": {"KVP": 99}, "position": {"ImagePositionPatient": [0, 0, 1]}}
    edit(path, **changes.get(change, {"PatientComments": "not read"}))
    after = read_header(path)
    assert (before.digest == after.digest) == (change == "nothing")


def test_a_file_that_is_gone_is_a_refusal_that_may_pass(tmp_path):
    (row,) = read_rows(Files(f"{tmp_path}/", [b"gone"])).to_pylist()
    assert (row["action"], row["lasts"], row["is_of_folder"]) == ("fail", False, False)
    assert row["reason"] == f"{tmp_path}/gone cannot be opened (No such file or directory)"
