"""Which segmentations a report of a series can refer to."""

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, edit

from ltdiff.dicom.segmentation_reference import SegmentationReference
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_segmentation import write_segmentation


@pytest.fixture
def series(write_series):
    return find_series(write_series())[0][0]


@pytest.fixture
def path(series, tmp_path):
    labels = np.zeros((NUM_SLICES, SIZE, SIZE), np.uint8)
    labels[1:3, 5:9, 5:9] = 1
    labels[2, 20:24, 10:20] = 2
    return write_segmentation(series, labels, path=tmp_path / "seg.dcm", algorithm="phantom")


def test_identity_and_tracking_are_its_own(series, path):
    reference, dataset = SegmentationReference.read(path, series), pydicom.dcmread(path)
    assert reference.instance.SOPInstanceUID == dataset.SOPInstanceUID
    assert reference.source_series_uid == series.series_instance_uid
    assert reference.names == {1: "lesion 1", 2: "lesion 2"}
    assert reference.tracking == {
        number: (segment.TrackingID, segment.TrackingUID) for number, segment in enumerate(dataset.SegmentSequence, 1)
    }


def test_segments_without_tracking_get_one_that_stays(series, path):
    def forget(dataset):
        del dataset.SegmentSequence[0].TrackingUID
        dataset.SegmentSequence[1].TrackingUID = "no UID"

    edit(path, forget)
    first, second = (SegmentationReference.read(path, series).tracking for _ in range(2))
    assert first == second
    assert [name for name, _ in first.values()] == ["lesion 1", "lesion 2"]
    assert len({uid for _, uid in first.values()}) == 2


def test_one_that_was_drawn_on_another_kernel_says_so(series, path, write_series):
    other = find_series(write_series("other", series_uid=stable_uid("other"), kernel="Bl64"))[0][0]
    assert SegmentationReference.read(path, other).source_series_uid == series.series_instance_uid


@pytest.mark.parametrize("what", ["study", "uid", "segment"])
def test_others_are_not_referred_to(series, path, what):
    def change(dataset):
        if what == "segment":
            del dataset.SegmentSequence[1]

    edit(path, change, **{"study": {"StudyInstanceUID": stable_uid("x")}, "uid": {"SOPInstanceUID": "1.2.x"}}.get(what, {}))
    assert SegmentationReference.read(path, series) is None


def test_an_error_names_the_file(series, path):
    edit(path, lambda dataset: dataset.SegmentSequence[0].pop("SegmentNumber"))
    with pytest.raises(ValueError, match=r"seg\.dcm has no SegmentNumber"):
        SegmentationReference.read(path, series)
