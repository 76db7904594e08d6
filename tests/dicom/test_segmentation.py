"""Lesion masks as DICOM Segmentation."""

import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE
from pydicom.uid import SegmentationStorage

from ltdiff.dicom.segmentation import find_segmentations, read_segmentation, write_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid


@pytest.fixture
def series(write_series):
    return find_series(write_series())[0][0]


def lesions() -> np.ndarray:
    labels = np.zeros((NUM_SLICES, SIZE, SIZE), dtype=np.uint8)
    labels[1:3, 5:9, 5:9] = 1
    labels[2, 20:24, 10:20] = 3  # 2 has no pixels
    return labels


@pytest.fixture
def segmentation(series, tmp_path):
    return write_segmentation(series, lesions(), path=tmp_path / "out" / "lesions.dcm", algorithm="phantom")


def test_round_trip(series, segmentation):
    read = read_segmentation(segmentation, series)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, lesions())


def test_it_conforms(segmentation, conformance_errors):
    assert conformance_errors(segmentation) == []


def test_segments_are_tracked_lesions_of_the_series(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    assert dataset.SOPClassUID == SegmentationStorage
    assert dataset.FrameOfReferenceUID == series.frame_of_reference_uid
    assert dataset.StudyInstanceUID == series.study_instance_uid
    assert [segment.TrackingID for segment in dataset.SegmentSequence] == ["lesion 1", "lesion 2", "lesion 3"]
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == series.series_instance_uid


def test_segmentations_are_found_by_series(series, segmentation, tmp_path):
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"?" * 90)
    assert find_segmentations(tmp_path) == {series.series_instance_uid: [segmentation]}
    assert find_segmentations(segmentation) == {series.series_instance_uid: [segmentation]}
    copy = shutil.copy(segmentation, tmp_path / "IM0001")  # DICOM files may have any name
    assert find_segmentations(tmp_path) == {series.series_instance_uid: [copy, segmentation]}


def test_segments_that_overlap_are_said_to(series, segmentation):
    """As other programs write them."""
    dataset = pydicom.dcmread(segmentation)
    frames = dataset.PerFrameFunctionalGroupsSequence
    segments = {frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames}
    assert segments == {1, 3}
    size = dataset.Rows * dataset.Columns // 8
    first = next(n for n, frame in enumerate(frames) if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1)
    pixels = bytearray(dataset.PixelData)
    for n in range(len(frames)):
        pixels[n * size : (n + 1) * size] = dataset.PixelData[first * size : (first + 1) * size]
    dataset.PixelData = bytes(pixels)
    dataset.SegmentsOverlap = "YES"
    dataset.save_as(segmentation)
    with pytest.raises(ValueError, match=r"lesions\.dcm cannot be read as a segmentation \(its segments overlap\)"):
        read_segmentation(segmentation, series)


def test_frames_find_their_slices_without_being_told_which_they_are_of(series, segmentation):
    """As other programs write them: no word on locations, or on the slice; or turned, or cut to what is not empty."""
    dataset = pydicom.dcmread(segmentation)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_segmentation(segmentation, series), lesions())
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_segmentation(segmentation, series), lesions())
    frames = dataset.pixel_array[:, ::-1, 2:]  # the last row first, and two columns less
    dataset.Columns = frames.shape[2]
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    plane = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    rows, columns = np.array(plane.ImageOrientationPatient[:3]), np.array(plane.ImageOrientationPatient[3:])
    plane.ImageOrientationPatient = [*rows, *-columns]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        moved = 2 * series.spacing_mm[1] * rows + (SIZE - 1) * series.spacing_mm[0] * columns
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved)
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_segmentation(segmentation, series), lesions())


@pytest.mark.parametrize("moved_mm", [(0, 0, 0.5), (0.3, 0, 0)])
def test_frames_beside_the_grid_are_refused(series, segmentation, moved_mm):
    dataset = pydicom.dcmread(segmentation)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved_mm)
    dataset.save_as(segmentation)
    with pytest.raises(ValueError, match=r"lesions\.dcm lies on another grid than the slices of the series"):
        read_segmentation(segmentation, series)


def test_frames_whose_positions_were_rounded_find_their_slices(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        place = frame.PlanePositionSequence[0]
        moved_mm = ((0.05, -0.04, 0.05), (-0.05, 0, -0.1))[number % 2]
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved_mm)
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_segmentation(segmentation, series), lesions())


def test_frames_beyond_the_series_are_passed_over(series, segmentation):
    part = replace(series, slices=series.slices[2:])
    np.testing.assert_array_equal(read_segmentation(segmentation, part), lesions()[2:])


def test_a_fractional_segmentation_is_refused(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 1
    dataset.SegmentationFractionalType = "PROBABILITY"
    dataset.save_as(segmentation)
    with pytest.raises(ValueError, match="is a FRACTIONAL segmentation, and only BINARY ones are read"):
        read_segmentation(segmentation, series)


def test_it_is_no_ct_series(segmentation):
    series, (issue,) = find_series(segmentation)
    assert (series, issue.action) == ([], "skip")


def test_another_series_is_refused(segmentation, write_series):
    (other,), _ = find_series(write_series("other", series_uid=stable_uid("other")))
    with pytest.raises(ValueError, match="is the segmentation of another series"):
        read_segmentation(segmentation, other)


def test_it_fits_what_was_derived_from_its_series(series, segmentation, derived):
    np.testing.assert_array_equal(read_segmentation(segmentation, derived(series)), lesions())


def test_another_file_is_refused(series):
    with pytest.raises(ValueError, match="cannot be read as a segmentation"):
        read_segmentation(series.slices[0].path, series)


@pytest.mark.parametrize(
    ("labels", "sentence"), [(lesions()[1:], "do not fit"), (np.zeros_like(lesions()), "there is no lesion")]
)
def test_labels_that_cannot_be_written(series, tmp_path, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_segmentation(series, labels, path=tmp_path / "x.dcm", algorithm="phantom")
