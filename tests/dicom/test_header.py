"""What the header of a slice must hold; every other one is skipped or fails in one sentence."""

import pickle

import pytest
from dicom_files import bundled, edit
from pydicom.uid import EnhancedCTImageStorage, SecondaryCaptureImageStorage

from ltdiff.dicom.dicom_file import BadFile, SkippedFile
from ltdiff.dicom.header import read_header
from ltdiff.dicom.raw_data import KEYWORDS


def test_the_values_of_a_slice(one_slice):
    header = read_header(one_slice)
    assert header.geometry.position_mm == (-10, -20, -100)
    assert header.geometry.normal == (0, 0, 1)
    assert header.pixel_format.bits_stored == 12
    assert (header.pixel_format.slope, header.pixel_format.intercept_hu) == (1, -1024)
    assert dict(zip(KEYWORDS, header.raw_data, strict=True))["AcquisitionTime"] == "113000"
    assert len(header.patient_key) == 12


def test_the_padding_that_scanners_write_unsigned(one_slice):
    """GE writes −2000 of signed pixels as 63536."""
    edit(one_slice, PixelRepresentation=1, PixelPaddingValue=63536)
    assert read_header(one_slice).pixel_format.padding == (-2000, -2000)


def test_a_range_of_padding(one_slice):
    edit(one_slice, PixelPaddingValue=10, PixelPaddingRangeLimit=0)
    assert read_header(one_slice).pixel_format.padding == (0, 10)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"RescaleSlope": None}, "has no RescaleSlope"),
        ({"RescaleSlope": ""}, "has no RescaleSlope"),
        ({"RescaleSlope": b"NaN"}, "has RescaleSlope [nan] where 1 finite numbers belong"),
        ({"RescaleSlope": b"inf"}, "has RescaleSlope [inf]"),
        ({"RescaleSlope": b"1,5"}, "RescaleSlope"),
        ({"RescaleSlope": "0"}, "has RescaleSlope 0"),
        ({"RescaleIntercept": None}, "has no RescaleIntercept"),
        ({"RescaleIntercept": b"-1e999"}, "has RescaleIntercept [-inf]"),
        ({"PixelSpacing": None}, "has no PixelSpacing"),
        ({"PixelSpacing": "0.7"}, "has PixelSpacing [0.7] where 2 finite numbers belong"),
        ({"PixelSpacing": [0, 0.7]}, "has PixelSpacing [0.0, 0.7] where both must be above 0"),
        ({"PixelSpacing": [0.7, 700]}, "has PixelSpacing [0.7, 700.0], and no CT has pixels of more than 20 mm"),
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient"),
        ({"ImagePositionPatient": [1, 2]}, "where 3 finite numbers belong"),
        ({"ImageOrientationPatient": None}, "has no ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.1, 1, 0]}, "not orthonormal"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 0]}, "not orthonormal"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "has another PhotometricInterpretation than MONOCHROME2"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "has SamplesPerPixel 3"),
        ({"BitsAllocated": 8}, "has BitsAllocated 8"),
        ({"BitsStored": 17}, "has BitsStored 17"),
        ({"HighBit": 15}, "has BitsStored 12 with HighBit 15"),
        ({"PixelRepresentation": 2}, "has PixelRepresentation 2"),
        ({"NumberOfFrames": 2}, "has several frames"),
        ({"Rows": 0}, "claims 0×32 pixels"),
        ({"Rows": 33}, "is truncated: 2048 bytes of pixels where 33×32 pixels take 2112"),
        ({"Rows": 30000, "Columns": 30000}, "claims 30000×30000 pixels, which is not the size of a CT slice"),
        ({"SeriesInstanceUID": "../../x"}, "has a SeriesInstanceUID that is no UID"),
        ({"StudyInstanceUID": "/etc/passwd"}, "has a StudyInstanceUID that is no UID"),
        ({"SOPInstanceUID": "1.2\n3"}, "has a SOPInstanceUID that is no UID"),
        ({"SOPInstanceUID": "1." * 40 + "1"}, "has a SOPInstanceUID that is no UID"),
        ({"SeriesInstanceUID": None}, "has no SeriesInstanceUID"),
    ],
)
def test_a_bad_slice_fails(one_slice, change, sentence):
    edit(one_slice, **change)
    with pytest.raises(BadFile) as caught:
        read_header(one_slice)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(one_slice))
    assert "\n" not in str(caught.value)


def test_a_broken_value_representation_names_the_element(one_slice):
    rows = b"\x28\x00\x10\x00"
    content = one_slice.read_bytes()
    assert content.count(rows + b"US") == 1
    one_slice.write_bytes(content.replace(rows + b"US", rows + b"U\xff"))
    with pytest.raises(BadFile, match="has an unreadable Rows"):
        read_header(one_slice)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"Modality": "MR"}, "its Modality is another"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "no CT image but 'Secondary Capture Image Storage'"),
        ({"SOPClassUID": None}, "has no SOPClassUID"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "is a localizer"),
        ({"PixelData": None}, "has no PixelData"),
    ],
)
def test_what_is_no_ct_slice_is_skipped(one_slice, change, sentence):
    edit(one_slice, lambda dataset: setattr(dataset.file_meta, "MediaStorageSOPClassUID", ""), **change)
    with pytest.raises(SkippedFile, match=sentence):
        read_header(one_slice)


def test_an_enhanced_ct_fails(one_slice):
    edit(one_slice, SOPClassUID=EnhancedCTImageStorage)
    with pytest.raises(BadFile, match="multi-frame"):
        read_header(one_slice)


def test_an_absent_modality_is_forgiven(one_slice):
    edit(one_slice, Modality=None)
    assert read_header(one_slice).kernel == "Br40"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("MR_small.dcm", "MR Image Storage"),
        ("MR_truncated.dcm", "MR Image Storage"),
        ("image_dfl.dcm", "Secondary Capture Image Storage"),
        ("liver_1frame.dcm", "Segmentation Storage"),
        ("rtdose.dcm", "RT Dose Storage"),
        ("rtplan_truncated.dcm", "RT Plan Storage"),
        ("badVR.dcm", "RT Dose Storage"),
        ("test-SR.dcm", "SR"),
        ("no_meta.dcm", "not a DICOM file"),
        ("rtstruct.dcm", "not a DICOM file"),
        ("ExplVR_BigEndNoMeta.dcm", "not a DICOM file"),
        ("test1.json", "not a DICOM file"),
        ("zipMR.gz", "not a DICOM file"),
        ("meta_missing_tsyntax.dcm", "no TransferSyntaxUID"),
        ("nested_priv_SQ.dcm", "no SOPClassUID"),
        ("priv_SQ.dcm", "MR Image Storage"),
        ("DICOMDIR", "is a DICOMDIR"),
    ],
)
def test_what_pydicom_tests_itself_with_is_skipped(name, sentence):
    with pytest.raises(SkippedFile, match=sentence):
        read_header(bundled(name))


def test_a_fault_survives_the_way_back_from_a_worker(one_slice):
    edit(one_slice, RescaleSlope=None)
    with pytest.raises(BadFile) as caught:
        read_header(one_slice)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.series_instance_uid == caught.value.series_instance_uid != ""


def test_a_person_is_known_by_name_birth_date_and_sex(one_slice):
    changes = ({}, {"PatientName": "Other"}, {"PatientBirthDate": "19500102"}, {"PatientSex": "F"})
    assert len({read_header(edit(one_slice, **change)).person_key for change in changes}) == 4
