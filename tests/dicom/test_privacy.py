"""A patient's name, ID and dates are found nowhere but in derived DICOM."""

import logging

import numpy as np
import pytest
from dicom_files import edit
from test_write_derived import derive, sharpened

from ltdiff.dicom.measurement_report import Algorithm, write_measurement_report
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.segmentation_reference import SegmentationReference
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_segmentation import write_regions

CANARY = "CANARY"
IDENTIFIERS = {
    "PatientName": f"{CANARY}^NAME",
    "PatientID": f"{CANARY}-ID-" + "9" * 80,  # longer than the standard allows: pydicom would warn and quote it
    "IssuerOfPatientID": CANARY,
    "PatientBirthDate": f"19{CANARY}",
    "StudyDate": CANARY,
    "AcquisitionDate": CANARY,
    "AccessionNumber": CANARY * 5,
    "ReferringPhysicianName": CANARY,
    "InstitutionName": CANARY * 20,
}
FAULTS = [
    {},
    {"RescaleSlope": b"1,5"},
    {"SeriesInstanceUID": "x"},
    {"ConvolutionKernel": "other"},
    {"ImagePositionPatient": [0, 0, 5000]},
    {"Rows": 33},
    {"RescaleIntercept": 30000},
    {"Modality": "MR"},
    {"SpecificCharacterSet": "no such thing"},
]


@pytest.fixture
def everything_said(caplog, recwarn, capfd):
    caplog.set_level(logging.DEBUG)

    def said() -> str:
        output = capfd.readouterr()
        warned = [str(warning.message) for warning in recwarn]
        return "\n".join([caplog.text, output.out, output.err, *warned])

    return said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: next(iter(fault), "none"))
def test_reading_says_nothing(write_series, everything_said, caplog, recwarn, fault):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, **IDENTIFIERS)
    edit(folder / "slice_0003.dcm", **fault)
    recwarn.clear()  # what preparing the files said
    caplog.clear()
    series, issues = find_series(folder)
    sentences = [str(issue) for issue in issues]
    try:
        read_slice_hu(folder / "slice_0003.dcm")
    except ValueError as error:
        sentences.append(str(error))
    text = "\n".join([*sentences, everything_said(), repr(series)])
    assert CANARY not in text
    assert (not fault) == (not sentences) or "SpecificCharacterSet" in fault


def test_writing_says_nothing(write_series, tmp_path, everything_said, caplog, recwarn):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, **IDENTIFIERS)
    recwarn.clear()
    caplog.clear()
    derived = derive(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="NaN") as caught:
        derive(write_series("other", series_uid=stable_uid("other")), tmp_path / "out", np.full_like(sharpened(), np.nan))
    assert CANARY not in everything_said() + str(caught.value) + str(derived)
    assert CANARY in next(derived.iterdir()).read_bytes().decode("latin-1")  # the patient keeps the derived images


def test_a_report_of_features_says_nothing(write_series, tmp_path, everything_said, caplog, recwarn):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, **IDENTIFIERS)
    (series,), _ = find_series(folder)
    recwarn.clear()
    caplog.clear()
    labels = np.ones((series.num_slices, series.rows, series.columns), np.uint16)
    segmentation = write_regions(series, ["all"], [labels], folder=tmp_path / "out")
    report = write_measurement_report(
        series,
        {1: {"num_voxels": 3}},
        feature_codes={},
        segmentation=SegmentationReference.read(segmentation, series),
        algorithm=Algorithm("test", "1", ()),
        folder=tmp_path / "out",
    )
    assert CANARY not in everything_said() + str(segmentation) + str(report)
    assert all(CANARY in path.read_bytes().decode("latin-1") for path in (segmentation, report))
