"""The regions of a series as DICOM: whose segmentation a report refers to."""

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, edit, identity, phantom_hu
from structure_sets import rectangle, write_structure_set

from ltdiff.data.masks import read_named_masks
from ltdiff.data.region_report import RegionReport
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume
from ltdiff.dicom.segmentation import read_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.dicom.write_segmentation import write_segmentation

CODES = {"stat_mean": ("Q4LE", "", "HU")}


@pytest.fixture
def series(tmp_path):
    folder = write_ct_series(phantom_hu(), out_dir=tmp_path / "ct", identity=identity(), spacing_mm=(2.5, 0.8, 0.7))
    return find_series(folder)[0][0]


@pytest.fixture
def segmentation(series, tmp_path):
    labels = np.zeros((NUM_SLICES, SIZE, SIZE), np.uint8)
    labels[1:3, 5:9, 5:9] = 1
    labels[2, 20:24, 10:20] = 2
    return write_segmentation(series, labels, path=tmp_path / "masks" / "seg.dcm", algorithm="phantom")


def write(series, mask, folder, leave_out=()):
    """The files that are written for a mask, each region with the number of its voxels as its mean."""
    report, values = RegionReport(series, mask), {}
    for name, voxels in read_named_masks(mask, series, hu=series.read_hu()):
        if name not in leave_out:
            report.add(name, voxels)
            values[name] = {"stat_mean": float(voxels.sum())}
    return report.write(values, feature_codes=CODES, algorithm=("test", "1"), parameters=("as it is",), folder=folder)


def segments_of(path):
    """SOPInstanceUID and segment number of each group, with the value measured there."""
    groups = pydicom.dcmread(path).ContentSequence[-1].ContentSequence
    found = []
    for group in groups:
        items = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in group.ContentSequence}
        reference = items["Referenced Segment"].ReferencedSOPSequence[0]
        value = items["Mean Intensity"].MeasuredValueSequence[0].FloatingPointValue
        found.append((reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber, value))
    return found


def test_a_segmentation_of_the_study_is_referred_to_and_not_written_again(series, segmentation, tmp_path):
    (report,) = write(series, segmentation.parent, tmp_path / "out", leave_out=["lesion 1"])
    assert segments_of(report) == [(pydicom.dcmread(segmentation).SOPInstanceUID, 2, 40.0)]
    assert list((tmp_path / "out").iterdir()) == [report]


@pytest.mark.parametrize("kind", ["volume file", "structure set", "another study"])
def test_of_another_mask_a_segmentation_is_written(series, segmentation, tmp_path, kind):
    mask = tmp_path / "mask.nrrd"
    if kind == "volume file":
        labels = sum(number * mask_ for number, _, mask_ in read_segmentation(segmentation, series)).astype(np.float32)
        volume = series.read_volume()
        write_volume(Volume(labels, volume.spacing_mm, volume.origin_mm, volume.direction), mask)
    elif kind == "structure set":
        boxes = [("GTV", (1, 2), (4.5, 8.5), (4.5, 8.5)), ("PTV", (2,), (6.5, 16.5), (4.5, 8.5))]  # they overlap
        rois = [(name, [rectangle(series, z, rows, columns) for z in slices]) for name, slices, rows, columns in boxes]
        mask = write_structure_set(tmp_path / "rs.dcm", series, rois)
    else:
        mask = edit(segmentation, StudyInstanceUID=stable_uid("another"))
    written, report = write(series, mask, tmp_path / "out")
    uid = pydicom.dcmread(written).SOPInstanceUID
    assert segments_of(report) == [(uid, 1, 32.0), (uid, 2, 40.0)]
    expected = dict(read_named_masks(mask, series, hu=series.read_hu()))
    found = {name: voxels for _, name, voxels in read_segmentation(written, series)}
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)
    assert write(series, mask, tmp_path / "out") == [written, report]  # the same again
    assert len(list((tmp_path / "out").iterdir())) == 2
