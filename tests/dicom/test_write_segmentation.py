"""Regions of a mask of any kind as DICOM SEG; lesions are in test_segmentation."""

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, edit, phantom_hu, set_raw

from ltdiff.dicom.segmentation import read_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_segmentation import write_regions

SHAPE = (NUM_SLICES, SIZE, SIZE)
NAMES = ["GTV", "a name of more than sixty-four characters, as some programs have them, and more"]


@pytest.fixture
def layers() -> list[np.ndarray]:
    """Two regions that overlap."""
    first, second = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint16)
    first[1:3, 5:9, 5:9] = 1
    second[2:4, 6:20, 3:8] = 2
    return [first, second]


def read(folder):
    return find_series(folder)[0][0]


def test_regions_that_overlap_are_read_back(write_series, layers, tmp_path, conformance_errors):
    series = read(write_series())
    path = write_regions(series, NAMES, layers, folder=tmp_path / "out")
    found = list(read_segmentation(path, series))
    assert [(region.number, region.name) for region in found] == [(1, "GTV"), (2, NAMES[1][:64])]
    for region, layer in zip(found, layers, strict=True):
        np.testing.assert_array_equal(region.mask, layer > 0)
    assert conformance_errors(path) == []


@pytest.mark.parametrize("kind", ["tilted", "uneven", "one slice"])
def test_slices_need_no_regular_grid(write_series, layers, tmp_path, conformance_errors, kind):
    num_slices = 1 if kind == "one slice" else NUM_SLICES
    folder = write_series(hu=phantom_hu()[:num_slices])
    for index, path in enumerate(sorted(folder.iterdir())):
        x, y, z = map(float, pydicom.dcmread(path).ImagePositionPatient)
        edit(path, ImagePositionPatient=[x, y + 0.9 * index, z] if kind == "tilted" else [x, y, z + 2.5 * max(0, index - 2)])
    series = read(folder)
    assert bool(series.irregularity) == (num_slices > 1)
    layer = layers[0][2 : 2 + num_slices] if num_slices == 1 else layers[0]
    path = write_regions(series, NAMES[:1], [layer], folder=tmp_path / "out")
    (region,) = read_segmentation(path, series)
    np.testing.assert_array_equal(region.mask, layer > 0)
    assert conformance_errors(path) == []


def test_layers_may_hold_several(write_series, layers, tmp_path):
    series = read(write_series())
    layers[1][0, 25:28, 25:28] = 3
    together = [np.maximum(layers[0], (layers[1] == 3) * np.uint16(3)), np.where(layers[1] == 2, 2, 0).astype(np.uint16)]
    path = write_regions(series, ["a", "b", "c"], together, folder=tmp_path)
    masks = {region.name: region.mask for region in read_segmentation(path, series)}
    for number, name in enumerate("abc", 1):
        np.testing.assert_array_equal(masks[name], np.any([layer == number for layer in layers], axis=0))


def test_the_same_regions_have_the_same_uid_and_others_another(write_series, layers, tmp_path):
    series = read(write_series())
    first = write_regions(series, NAMES, layers, folder=tmp_path)
    assert write_regions(series, NAMES, layers, folder=tmp_path) == first
    assert write_regions(series, NAMES, layers[::-1], folder=tmp_path) != first
    layers[0][4, 0, 0] = 1
    assert write_regions(series, NAMES, layers, folder=tmp_path) != first


def test_patient_and_study_are_those_of_the_slice_as_they_are_stored(write_series, layers, tmp_path, caplog):
    """Values that DICOM does not allow, at which highdicom would stop, or which it would log: a sex, a date, a name."""
    folder = write_series()
    for path in folder.iterdir():
        edit(path, SpecificCharacterSet="ISO_IR 100", PatientSex="X", PatientBirthDate=None, StudyID=None)
        edit(path, lambda dataset: set_raw(dataset, "PatientName", "Müller^^^^^^Secret=a=b=c".encode("latin-1")))
        edit(path, lambda dataset: set_raw(dataset, "StudyDate", b"19.5.2020"))
    path = write_regions(read(folder), ["Läsion", "肺"], layers, folder=tmp_path / "out")
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(path)
        assert dataset.PatientSex == "X"
        assert str(dataset.PatientName) == "Müller^^^^^^Secret=a=b=c"
        assert dataset.PatientBirthDate == ""
        assert dataset.StudyID == ""
        assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["Läsion", "?"]
    assert "Secret" not in caplog.text


def test_a_slice_that_was_replaced_fails(write_series, layers, tmp_path):
    series = read(write_series())
    edit(series.slices[0].path, PatientID="another")
    with pytest.raises(ValueError, match=r"slice_0001\.dcm is no longer the file that was found: it has another patient"):
        write_regions(series, NAMES, layers, folder=tmp_path / "out")
    assert not list((tmp_path / "out").glob("**/*"))
