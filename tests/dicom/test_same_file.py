"""What is read is what was scanned: a series fails whose file is another one by then, whatever else is right about it."""

import os
import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from ltdiff.dicom.series import find_series


def edited(path, **elements):
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def other_patient(path, _):
    return edited(path, PatientID="Canary^Other")


def other_series(path, _):
    return edited(path, SeriesInstanceUID=generate_uid())


def other_image(path, _):
    return edited(path, SOPInstanceUID=generate_uid())


def other_slice(_, neighbour):
    return edited(neighbour)


def other_place(path, _):
    x, y, z = pydicom.dcmread(path).ImagePositionPatient
    return edited(path, ImagePositionPatient=[x, y, z + 1])


def corrected(path, _):
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.roll(dataset.pixel_array, 5).tobytes()
    return dataset


CHANGES = {
    other_patient: "patient",
    other_series: "SeriesInstanceUID",
    other_image: "SOPInstanceUID",
    other_slice: "SOPInstanceUID",
    other_place: "ImagePositionPatient",
    corrected: "time of change",
}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(sorted(CHANGES, key=lambda change: change.__name__)), index=st.integers(0, NUM_SLICES - 1))
@pytest.mark.parametrize("all_slices", [True, False])
def test_a_file_that_was_exchanged_fails_by_name(write_series, change, index, all_slices):
    """Also where nobody could tell by its time, if its identity tells."""
    folder = write_series()
    (series,), _ = find_series(folder)
    path, neighbour = series.slices[index].path, series.slices[(index + 1) % NUM_SLICES].path
    before = path.stat()
    change(path, neighbour).save_as(path)
    keeps_time = change is not corrected
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (not keeps_time)))
    with pytest.raises(ValueError, match=f"{path.name} is no longer the file that was found: it has another ") as failed:
        _ = list(series.read_slices()) if all_slices else series.read_slice(index)
    assert str(failed.value).endswith(CHANGES[change]) or "size" in str(failed.value)
    assert "Canary" not in str(failed.value)
    shutil.rmtree(folder)


def test_what_is_the_same_is_read(write_series):
    (series,), _ = find_series(write_series())
    assert len(list(series.read_slices())) == NUM_SLICES
    assert np.array_equal(series.read_slice(1), list(series.read_slices())[1].hu)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_slice_that_comes_while_the_series_is_read_fails_it(write_series, tmp_path, is_whole):
    folder = write_series()
    late = sorted(folder.iterdir())[-1].rename(tmp_path / "late.dcm")
    (series,), _ = find_series(folder)
    slices = series.read_slices()
    next(slices)
    (folder / "late.dcm").write_bytes(late.read_bytes()[: None if is_whole else -100])
    with pytest.raises(ValueError, match=r"late\.dcm came to its series while that was read: run again"):
        _ = list(slices)


def test_what_else_comes_is_no_matter(write_series, tmp_path):
    """Another series, a report, a copy of a slice."""
    folder = write_series()
    (series,), _ = find_series(folder)
    slices = series.read_slices()
    next(slices)
    other = sorted(write_series("other", kernel="S").iterdir())[0]
    edited(other, SeriesInstanceUID=generate_uid()).save_as(folder / "other.dcm")
    (folder / "report.csv").write_text("")
    shutil.copy(sorted(folder.iterdir())[0], folder / "copy.dcm")
    assert len(list(slices)) == NUM_SLICES - 1
