"""Features as a DICOM Structured Report: it conforms, it is read by highdicom and pydicom, and a PACS keeps it with the study."""

import json
import urllib.error

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, edit
from orthanc_server import orthanc
from pydicom.sr.codedict import codes

from ltdiff.dicom.measurement_report import Algorithm, write_measurement_report
from ltdiff.dicom.segmentation_reference import SegmentationReference
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_segmentation import write_regions

CODES = {
    "morph_volume": ("RNU0", "", "mm3"),
    "cm_joint_max_3D_comb": ("GYBY", "IAZD", "1"),
    "stat_var": ("ECT3", "", "HU2"),
    "GLCM3D_sum_1_SumVariance": ("", "", "1"),
    "GLCM3D_sum_4_Contrast": ("ACUI", "GLCM3D_sum_4_Contrast", "1"),
}
ROWS = {
    1: {"num_voxels": 32, "volume_mm3": 44.8, "morph_volume": 1 / 3, "cm_joint_max_3D_comb": 1e-300, "stat_var": 1.5e21},
    2: {"GLCM3D_sum_1_SumVariance": -7.123456789012345, "GLCM3D_sum_4_Contrast": 0.0},
}
ALGORITHM = Algorithm("ltdiff ibsi", "1.2", ("25 HU per bin", "läuft"))


@pytest.fixture
def files(write_series, tmp_path):
    """A series, its segmentation and the report."""
    (series,), _ = find_series(write_series())
    layer = np.zeros((NUM_SLICES, SIZE, SIZE), np.uint16)
    layer[1:3, 5:9, 5:9] = 1
    layer[2, 20:24, 10:20] = 2
    segmentation = write_regions(series, ["GTV", "node"], [layer], folder=tmp_path / "out")
    return series, segmentation, write(series, segmentation)


def write(series, segmentation, rows=ROWS, algorithm=ALGORITHM):
    reference = SegmentationReference.read(segmentation, series)
    return write_measurement_report(
        series, rows, feature_codes=CODES, segmentation=reference, algorithm=algorithm, folder=segmentation.parent
    )


def groups_of(report):
    return hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()


def test_it_conforms(files, conformance_errors):
    assert conformance_errors(files[2]) == []


def test_values_names_and_units_are_read_back_by_highdicom(files):
    first, second = groups_of(files[2])
    found = [(m.name.value, m.name.scheme_designator, m.value, m.unit.value) for m in first.get_measurements()]
    assert found == [
        ("num_voxels", "99LTDIFF", 32, "{voxels}"),
        ("118565006", "SCT", 44.8, "mm3"),
        ("RNU0", "IBSI", 1 / 3, "mm3"),
        ("GYBY", "IBSI", 1e-300, "1"),
        ("ECT3", "IBSI", 1.5e21, "[hnsf'U]2"),
    ]
    assert first.get_measurements(name=codes.IBSI.JointMaximumOfGLCM)[0].method.value == "IAZD"
    private, contrast = second.get_measurements()
    assert (private.name.meaning, private.value) == ("GLCM3D_sum_1_SumVariance", -7.123456789012345)
    assert contrast.name == codes.IBSI.ContrastOfGLCM
    assert contrast.method.meaning == "GLCM3D_sum_4_Contrast"


def test_a_group_refers_to_the_segment_and_says_how_it_was_measured(files):
    series, segmentation, report = files
    stored = hd.seg.segread(segmentation)
    for number, group in enumerate(groups_of(report), 1):
        reference, described = group.referenced_segment, stored.get_segment_description(number)
        assert reference[0].referenced_sop_instance_uid == stored.SOPInstanceUID
        assert reference[0].referenced_segment_numbers == [number]
        assert reference[1].value == series.series_instance_uid
        assert (group.tracking_identifier, group.tracking_uid) == (described.segment_label, described.tracking_uid)
        texts = {item.name.meaning: [] for item in group[0].ContentSequence}
        for item in group[0].ContentSequence:
            texts[item.name.meaning].append(item.get("TextValue"))
        assert texts["Algorithm Name"] == ["ltdiff ibsi"]
        assert texts["Algorithm Version"] == ["1.2"]
        assert texts["Algorithm Parameters"] == ["25 HU per bin", "läuft"]
        assert not group.finding_sites


def test_it_is_part_of_the_study_with_all_slices_as_evidence(files):
    series, segmentation, report = files
    dataset, source = pydicom.dcmread(report), pydicom.dcmread(series.path)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "SpecificCharacterSet"):
        assert dataset[keyword] == source[keyword]
    assert (dataset.CompletionFlag, dataset.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
    evidence = {item.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence for item in one.ReferencedSOPSequence}
    assert evidence == {pydicom.dcmread(segmentation).SOPInstanceUID, *(one.sop_instance_uid for one in series.slices)}


def test_the_same_values_have_the_same_uid_and_others_another(files):
    series, segmentation, report = files
    assert write(series, segmentation) == report
    assert write(series, segmentation, rows=ROWS | {1: {"morph_volume": 0.3}}) != report
    assert write(series, segmentation, algorithm=Algorithm("ltdiff ibsi", "1.2", ())) != report
    assert not list(report.parent.glob(".*"))


def test_where_the_segmentation_names_its_site_so_does_the_report(files):
    series, segmentation, _ = files
    lung = pydicom.Dataset()
    lung.CodeValue, lung.CodingSchemeDesignator, lung.CodeMeaning = codes.SCT.Lung[:3]

    def add_site(dataset):
        dataset.SegmentSequence[0].AnatomicRegionSequence = [lung]

    edit(segmentation, add_site)
    first, second = groups_of(write(series, segmentation))
    assert [site.topographical_modifier or site.value for site in first.finding_sites] == [codes.SCT.Lung]
    assert not second.finding_sites


def test_a_pacs_keeps_it_with_the_study(files, tmp_path):
    series, segmentation, report = files
    with orthanc(tmp_path) as pacs:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            pacs.call("/instances", password="wrong")
        for header in series.slices:
            pacs.store(header.path)
        stored = {path: pacs.store(path) for path in (segmentation, report)}
        (patient,), (study,) = (json.loads(pacs.call(path)) for path in ("/patients", "/studies"))
        of_study = [json.loads(pacs.call(f"/series/{uid}")) for uid in json.loads(pacs.call(f"/studies/{study}"))["Series"]]
        assert sorted(one["MainDicomTags"]["Modality"] for one in of_study) == ["CT", "SEG", "SR"]
        assert json.loads(pacs.call(f"/patients/{patient}"))["MainDicomTags"]["PatientID"] == "patient-1"
        for path, name in stored.items():
            fetched = tmp_path / f"fetched-{path.name}"
            fetched.write_bytes(pacs.call(f"/instances/{name}/file"))
            assert pydicom.dcmread(fetched) == pydicom.dcmread(path)
    assert groups_of(tmp_path / f"fetched-{report.name}")[0].get_measurements()[2].value == 1 / 3
