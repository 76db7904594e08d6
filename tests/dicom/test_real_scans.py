"""What scanners and archives really send: every file of a collection of odd and broken ones, and whole series."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_files import DERIVATION, assert_as_plain_pydicom, with_sources

from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.scan import AIR_FILL_HU
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_derived import write_derived_series

BAD_INPUT = {  # outcome and a part of the sentence; "read" is a series whose pixels can be read, of this kernel
    "19001006-064.dcm": ("read", "FC07"),  # coronal reformat, derived
    "19001231-056.dcm": ("read", "FC07"),
    "693_J2KI.dcm": ("read", "STANDARD"),
    "693_J2KR.dcm": ("read", "STANDARD"),
    "693_UNCI.dcm": ("read", "STANDARD"),
    "693_UNCR.dcm": ("read", "STANDARD"),
    "CT1_J2KI": ("read", "STANDARD"),
    "CT1_J2KR": ("read", "STANDARD"),
    "CT1_JLSL": ("read", "STANDARD"),
    "CT1_JLSN": ("read", "STANDARD"),
    "CT1_JPLL": ("read", "STANDARD"),
    "CT1_RLE": ("read", "STANDARD"),
    "CT2_J2KI": ("read", "FC21"),
    "CT2_J2KR": ("read", "FC21"),
    "CT2_JLSL": ("read", "FC21"),
    "CT2_JLSN": ("read", "FC21"),
    "CT2_JPLL": ("read", "FC21"),
    "CT2_RLE": ("read", "FC21"),
    "CT_small.dcm": ("read", "STANDARD"),
    "ExplVR_BigEndNoMeta.dcm": ("skip", "not a DICOM file"),
    "J2K_pixelrep_mismatch.dcm": ("read", "11"),
    "MR_small_bigendian.dcm": ("skip", "MR Image Storage"),
    "MR_truncated.dcm": ("skip", "MR Image Storage"),
    "badVR.dcm": ("skip", "RT Dose Storage"),
    "bad_sequence.dcm": ("fail", "that is no UID"),
    "eCT_Supplemental.dcm": ("fail", "multi-frame (enhanced) CT"),
    "emri_small_jpeg_2k_lossless_too_short.dcm": ("skip", "Enhanced MR Image Storage"),
    "explicit_VR-UN.dcm": ("read", ""),
    "image_dfl.dcm": ("skip", "Secondary Capture Image Storage"),
    "liver.dcm": ("skip", "Segmentation Storage"),
    "lungmask_no_modality.dcm": ("fail", "has no HighBit"),
    "meta_missing_tsyntax.dcm": ("skip", "no TransferSyntaxUID"),
    "mlut_18.dcm": ("skip", "Secondary Capture Image Storage"),
    "nested_priv_SQ.dcm": ("skip", "no SOPClassUID"),
    "no_meta.dcm": ("skip", "not a DICOM file"),
    "priv_SQ.dcm": ("skip", "MR Image Storage"),
    "rtplan_truncated.dcm": ("skip", "RT Plan Storage"),
    "rtstruct.dcm": ("skip", "not a DICOM file"),
}


@pytest.mark.parametrize(("name", "outcome", "part"), [(name, *rest) for name, rest in BAD_INPUT.items()])
def test_each_odd_file_gets_what_it_should(real_data, name, outcome, part):
    path = real_data / "bad-input" / name
    series, issues = find_series(path)
    if outcome in ("skip", "fail"):
        assert (series, [issue.action for issue in issues]) == ([], [outcome])
        assert part in issues[0].reason
        return
    assert issues == []
    assert series[0].kernel == part
    assert read_slice_hu(path).min() >= -1500


def test_the_list_is_complete(real_data):
    assert {path.name for path in (real_data / "bad-input").iterdir()} == set(BAD_INPUT)


@pytest.mark.parametrize("name", ["lung-pet-ct-dx-a0001", "lidc-small", "4d-lung-p113"])
def test_pixels_are_those_of_plain_pydicom(real_data, name):
    series, _ = find_series(real_data / name)
    for one in series:
        for slice_header in one.slices[::10]:
            assert_as_plain_pydicom(slice_header.path)


@pytest.mark.parametrize("codec", ["J2KR", "JLSL", "JPLL"])
@pytest.mark.parametrize("name", ["CT1", "CT2"])
def test_lossless_codecs_agree(real_data, name, codec):
    folder = real_data / "bad-input"
    np.testing.assert_array_equal(read_slice_hu(folder / f"{name}_{codec}"), read_slice_hu(folder / f"{name}_RLE"))


def test_the_folder_as_a_whole_names_the_duplicates(real_data):
    _, issues = find_series(real_data / "bad-input")
    assert sum("two different slices" in issue.reason for issue in issues) == 3  # CT1, CT2, 693


def test_one_acquisition_with_two_kernels(real_data):
    series, issues = find_series(real_data / "lung-pet-ct-dx-a0001")
    assert sorted((one.kernel, one.num_slices, one.slice_spacing_mm) for one in series) == [("B", 64, 5), ("L", 64, 5)]
    assert len({(one.frame_of_reference_uid, one.patient_key, one.person_key) for one in series}) == 1
    assert {issue.action for issue in issues} <= {"skip"}


def test_three_series_with_filler_outside_the_field_of_view(real_data):
    series, _ = find_series(real_data / "lidc-small")
    assert [one.num_slices for one in series] == [16, 12, 11]
    for one in series:
        hu = read_slice_hu(one.slices[0].path)
        assert hu[0, 0] == AIR_FILL_HU
        assert -1100 < hu.min() <= AIR_FILL_HU  # the noise of air stays


def test_a_series_without_a_kernel(real_data):
    (series,), (issue,) = find_series(real_data / "4d-lung-p113")
    assert (series.num_slices, series.kernel) == (99, "")
    assert "RT Structure Set" in issue.reason
    assert read_slice_hu(series.slices[50].path).min() == -1000


@pytest.mark.parametrize("name", ["lung-pet-ct-dx-a0001/soft_B", "lidc-small/LIDC-IDRI-0002", "4d-lung-p113/ct"])
def test_a_real_series_is_derived_unchanged_where_nothing_changed(real_data, tmp_path, name, conformance_errors):
    (series,), _ = find_series(real_data / name)
    series = replace(series, slices=series.slices[:10])
    slices = (read_slice_hu(one.path) for one in series.slices)
    folder = write_derived_series(series, with_sources(series, slices), out_dir=tmp_path, derivation=DERIVATION)
    for one, path in zip(series.slices, sorted(folder.iterdir()), strict=True):
        np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, pydicom.dcmread(one.path).pixel_array)
    assert conformance_errors(folder / "slice_0001.dcm") == []
