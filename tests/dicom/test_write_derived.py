"""A derived series: valid, honest about what it is, the same place and patient, and idempotent."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import DERIVATION, NUM_SLICES, assert_no_new_errors, edit, phantom_hu, set_stored, with_sources
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

import ltdiff
from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.header import PixelFormat
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_derived import _stored_values, derived_series_uid, write_derived_series
from ltdiff.system.atomic_files import PARTIAL_PREFIX

# fmt: off
KEPT = [
    "PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "ImagePositionPatient",
    "SliceThickness", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber", "AcquisitionNumber",
    "AcquisitionTime", "KVP", "Exposure", "Rows", "Columns", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "Manufacturer", "PatientPosition",
]
# fmt: on


def source_of(folder: Path):
    (series,), issues = find_series(folder)
    assert issues == []
    return series


def sharpened(seed: int = 1) -> np.ndarray:
    """What a network might return: not whole HU, rougher than the source."""
    return phantom_hu() + np.random.default_rng(seed).normal(0, 30, phantom_hu().shape).astype(np.float32)


def derive(folder: Path, out_dir: Path, hu=None, derivation: Derivation = DERIVATION) -> Path:
    """Also checks that nothing in the derived series is less valid than in its source."""
    hu = sharpened() if hu is None else hu
    series = source_of(folder)
    derived = write_derived_series(series, with_sources(series, hu), out_dir=out_dir, derivation=derivation)
    assert_no_new_errors(series, derived)
    return derived


def derive_first(folder: Path, out_dir: Path, hu=None) -> Dataset:
    """The derived first slice."""
    return pydicom.dcmread(derive(folder, out_dir, hu) / "slice_0001.dcm")


@pytest.fixture
def out_dir(tmp_path) -> Path:
    return tmp_path / "out"


def test_hu_round_trip(write_series, out_dir):
    folder = derive(write_series(), out_dir)
    expected = np.clip(np.rint(sharpened()), -1024, 3071)
    series = source_of(folder)
    np.testing.assert_array_equal(np.stack([read_slice_hu(one.path) for one in series.slices]), expected)


def test_it_is_found_as_derived_and_never_standardized_again(write_series, out_dir):
    series = source_of(derive(write_series(), out_dir))
    assert series.derived
    assert series.standardized_by_ltdiff
    with pytest.raises(ValueError, match="is derived itself"):
        write_derived_series(series, [], out_dir=out_dir, derivation=DERIVATION)


def test_every_slice_conforms(write_series, out_dir, conformance_errors):
    for path in derive(write_series(), out_dir).iterdir():
        assert conformance_errors(path) == []


def test_place_patient_and_study_are_kept(write_series, out_dir):
    source = write_series()
    folder = derive(source, out_dir)
    for path in sorted(folder.iterdir()):
        old, new = pydicom.dcmread(source / path.name), pydicom.dcmread(path)
        for keyword in KEPT:
            assert new[keyword].value == old[keyword].value, keyword


def test_it_says_what_it_is(write_series, out_dir):
    source = write_series()
    new = derive_first(source, out_dir)
    old = pydicom.dcmread(source / "slice_0001.dcm")
    assert new.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert new.RescaleType == "HU"
    assert new.BurnedInAnnotation == "NO"
    assert new.ConvolutionKernel == ["Bl64", "ltdiff derived"]
    assert new.SeriesNumber == old.SeriesNumber + 9000
    assert new.SeriesDescription == "ltdiff Br40 to Bl64 (derived)"
    for part in ("phantom 3", "ab" * 32, "bridge", "residual", "4 steps", "seed 7", "not for diagnostic use", "Br40"):
        assert part in new.DerivationDescription
    assert new.SeriesDate == new.ContentDate > old.ContentDate
    assert new.preamble == b"\0" * 128
    assert new.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


OUTSIDE = "kernel 'H\\u00e4rter' instead of 'Br40'; slice thickness 1 mm instead of 5 mm"


def test_it_says_what_the_model_was_not_trained_for(write_series, out_dir, conformance_errors):
    folder = derive(write_series(), out_dir, derivation=replace(DERIVATION, out_of_domain=OUTSIDE))
    for path in folder.iterdir():
        assert conformance_errors(path) == []
        description = pydicom.dcmread(path).DerivationDescription
        assert "; outside what the model was trained for: kernel 'H u00e4rter' instead of 'Br40'; slice" in description
        assert all(part in description for part in ("not for diagnostic use", "ab" * 32, "seed 7"))
    assert source_of(folder).standardized_by_ltdiff
    assert "out_of_domain" not in DERIVATION.description


def test_long_names_push_neither_warning_nor_weights_out_of_the_description():
    description = replace(DERIVATION, out_of_domain="x" * 2000).description
    assert "outside what the model was trained for: xxx" in description
    assert "ab" * 32 in description
    description = replace(DERIVATION, out_of_domain=OUTSIDE, source_kernel="y" * 2000).description
    assert len(description) == 1024
    assert "slice thickness 1 mm instead of 5 mm" in description


def test_a_warning_makes_another_series(write_series):
    series = source_of(write_series())
    plain, marked = (derived_series_uid(series, replace(DERIVATION, out_of_domain=text)) for text in ("", OUTSIDE))
    assert plain != marked
    facts = map(str, astuple(DERIVATION))
    sources = sorted(one.sop_instance_uid for one in series.slices)
    assert plain == stable_uid("derived series", series.series_instance_uid, *sources, *facts)


def test_it_says_where_it_came_from(write_series, out_dir):
    source = write_series()
    for path in sorted(derive(source, out_dir).iterdir()):
        old, new = pydicom.dcmread(source / path.name), pydicom.dcmread(path)
        (reference,) = new.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == old.SOPClassUID
        assert reference.SpatialLocationsPreserved == "YES"
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


def test_equipment_is_added_to_the_sources(write_series, out_dir):
    folder = write_series()
    item = Dataset()
    item.Manufacturer = "before"
    for path in folder.iterdir():
        edit(path, ContributingEquipmentSequence=[item])
    first, second = derive_first(folder, out_dir).ContributingEquipmentSequence
    assert first.Manufacturer == "before"
    assert second.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert second.SoftwareVersions == [ltdiff.__version__, "3"]


@pytest.mark.parametrize(("hu", "code"), [(sharpened(), "113086"), (phantom_hu() * 0.9, "113087")])
def test_the_derivation_code_tells_sharpening_from_smoothing(write_series, out_dir, hu, code):
    assert derive_first(write_series(), out_dir, hu).DerivationCodeSequence[0].CodeValue == code


def test_uids_are_new_and_stable(write_series, out_dir, tmp_path):
    source = write_series()
    series = source_of(source)
    first, second = derive(source, out_dir), derive(source, tmp_path / "again")
    assert first.name == second.name == derived_series_uid(series, DERIVATION)
    for path in first.iterdir():
        new, again = pydicom.dcmread(path), pydicom.dcmread(second / path.name)
        old = pydicom.dcmread(source / path.name)
        assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
        assert new.SOPInstanceUID != old.SOPInstanceUID
        assert new.SeriesInstanceUID == first.name != old.SeriesInstanceUID
        assert new.PixelData == again.PixelData
    changes = [{"seed": 8}, {"weights_sha256": "cd" * 32}, {"num_inference_steps": 1}, {"decode": "direct"}]
    uids = {derived_series_uid(series, replace(DERIVATION, **change)) for change in changes}
    assert len(uids | {first.name}) == len(changes) + 1


def test_a_finished_series_is_returned_without_work(write_series, out_dir):
    folder = derive(write_series("a"), out_dir)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def slices():
        pytest.fail("the slices were consumed")
        yield

    assert derive(write_series("b"), out_dir, slices()) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_belongs_to_the_old_pixels_is_dropped(write_series, out_dir):
    def add_old(dataset: Dataset) -> None:
        dataset.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "secret")
        inner = Dataset()
        inner.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "secret")
        inner.CodeValue = "1"
        dataset.RequestAttributesSequence = [inner]
        dataset.IconImageSequence = [Dataset()]
        dataset.add_new("SmallestImagePixelValue", "US", 1)
        dataset.add_new("LargestImagePixelValue", "US", 2)
        dataset.WindowCenter, dataset.WindowWidth = -600, 1600
        dataset.add_new(0x60003000, "OW", b"\0\0")
        dataset.add_new(0xFFFAFFFA, "SQ", [])
        dataset.ReferencedStudySequence = [Dataset()]
        dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"  # half a reference

    folder = write_series()
    for path in folder.iterdir():
        edit(path, add_old)
    new = derive_first(folder, out_dir)
    for keyword in ("IconImageSequence", "SmallestImagePixelValue", "LargestImagePixelValue", "WindowCenter"):
        assert keyword not in new
    assert "ReferencedStudySequence" not in new
    assert not [element for element in new.iterall() if element.tag.is_private]
    assert not [tag for tag in new if tag.tag.group in (0x6000, 0xFFFA)]
    assert new.RequestAttributesSequence[0].CodeValue == "1"


def test_values_that_cannot_be_read_are_dropped(write_series, out_dir):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, CTDIvol=b"half")  # 4 bytes where a number has 8
    assert "CTDIvol" not in derive_first(folder, out_dir)


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "kept"),
    [
        ("DetectorPositioningType", "LO", "-1e308", None),  # no characters of a CS
        ("BodyPartExamined", "LO", "x" * 99, None),
        ("BodyPartExamined", "LO", "CHEST", "CHEST"),
        ("AcquisitionDate", "DA", b"\x10\0", None),
        ("PatientPosition", "US", 3, ""),  # CT images have one, if only an empty one
    ],
)
def test_a_value_that_its_type_cannot_have_is_dropped(write_series, out_dir, keyword, vr, value, kept):
    def change(dataset: Dataset) -> None:
        tag = Tag(keyword)
        if isinstance(value, bytes):
            dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        else:
            dataset[tag] = DataElement(tag, vr, value)

    folder = write_series()
    for path in folder.iterdir():
        edit(path, change)
    assert derive_first(folder, out_dir).get(keyword) == kept


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_a_place_of_another_type_is_written_as_it_was_read(write_series, out_dir, keyword):
    folder = write_series()
    expected = []

    def change_type(dataset: Dataset) -> None:
        values = [float(value) for value in dataset[keyword].value]
        expected.append(values)
        del dataset[keyword]
        dataset.add_new(keyword, "FD", values)

    for path in sorted(folder.iterdir()):
        edit(path, change_type)
    new = derive_first(folder, out_dir)
    assert new[keyword].VR == "DS"
    assert [float(value) for value in new[keyword].value] == pytest.approx(expected[0])


def test_padding_is_restored(write_series, out_dir):
    folder = write_series()
    for path, hu in zip(sorted(folder.iterdir()), phantom_hu(), strict=True):
        stored = (hu + 1024).astype(np.int16)
        stored[:4] = -2000
        set_stored(path, stored, BitsStored=16, HighBit=15, PixelRepresentation=1, PixelPaddingValue=63536)
    hu = sharpened()
    hu[:, 0] = np.nan  # whatever a model makes of padding
    hu[:, 10, 10] = -3024.4  # would be stored as padding
    new = derive_first(folder, out_dir, hu)
    assert (new["PixelPaddingValue"].VR, new.PixelPaddingValue) == ("SS", -2000)
    assert (new.pixel_array[:4] == -2000).all()
    assert (new.pixel_array[4:] >= 0).all()


def test_filler_without_a_tag_is_restored(write_series, out_dir):
    folder = write_series()
    for path, hu in zip(sorted(folder.iterdir()), phantom_hu(), strict=True):
        stored = hu.astype(np.int16)
        stored[:4] = -2048
        set_stored(path, stored, BitsStored=16, HighBit=15, PixelRepresentation=1, RescaleIntercept=0)
    new = derive_first(folder, out_dir)
    assert "PixelPaddingValue" not in new
    assert (new.pixel_array[:4] == -2048).all()
    assert (new.pixel_array[4:] >= -1024).all()


def test_padding_at_the_dark_end_is_not_written_elsewhere(write_series, out_dir):
    """Stored 0 means "no pixel" here, so the darkest air is 1."""
    folder = write_series()
    for path, hu in zip(sorted(folder.iterdir()), phantom_hu(), strict=True):
        stored = np.maximum(hu + 1024, 1).astype(np.uint16)
        stored[0] = 0
        set_stored(path, stored, PixelPaddingValue=0)
    hu = phantom_hu()
    hu[:, 1] = -2000
    pixels = derive_first(folder, out_dir, hu).pixel_array
    assert (pixels[0] == 0).all()
    assert (pixels[1] == 1).all()


@given(
    bits_stored=st.integers(10, 16),
    signed=st.booleans(),
    intercept=st.integers(-1100, 1100),
    low=st.integers(-40000, 70000),
    width=st.integers(0, 300),
    hu=st.lists(st.floats(-1e6, 1e6), min_size=1),
)
def test_values_fit_the_format_and_are_no_padding(bits_stored, signed, intercept, low, width, hu):
    """Whatever the model gives: no value wraps around, and none becomes padding by chance."""
    lowest = -(2 ** (bits_stored - 1)) if signed else 0
    highest = lowest + 2**bits_stored - 1
    low = min(max(low, lowest), highest)
    padding = (low, min(low + width, highest))
    stored = _stored_values(
        np.array(hu), PixelFormat(ExplicitVRLittleEndian, bits_stored, signed, 1.0, float(intercept), padding)
    ).astype(int)
    assert lowest <= stored.min() <= stored.max() <= highest
    assert not ((stored >= padding[0]) & (stored <= padding[1])).any()


def test_a_rescale_that_cannot_hold_whole_hu_is_replaced(write_series, out_dir, conformance_errors):
    folder = write_series()
    for path, hu in zip(sorted(folder.iterdir()), phantom_hu(), strict=True):
        stored = np.rint((hu + 1024) / 1.7).astype(np.uint16)
        stored[0] = 4095
        set_stored(path, stored, RescaleSlope="1.7", PixelPaddingValue=4095)
    derived = derive(folder, out_dir)
    new = pydicom.dcmread(derived / "slice_0001.dcm")
    assert (new.RescaleSlope, new.RescaleIntercept, new.PixelRepresentation, new.BitsStored) == (1, 0, 1, 16)
    assert (new.pixel_array[0] == new.PixelPaddingValue).all()
    np.testing.assert_array_equal(new.pixel_array[1:], np.maximum(np.rint(sharpened()[0, 1:]), -1024))
    assert conformance_errors(derived / "slice_0001.dcm") == []


def test_a_fine_rescale_is_kept(write_series, out_dir):
    folder = write_series()
    for path, hu in zip(sorted(folder.iterdir()), phantom_hu(), strict=True):
        set_stored(path, ((hu + 1024) * 4).astype(np.uint16), RescaleSlope="0.25", BitsStored=16, HighBit=15)
    new = derive_first(folder, out_dir)
    assert (new.RescaleSlope, new.RescaleIntercept) == (0.25, -1024)
    np.testing.assert_allclose(read_slice_hu(Path(new.filename)), np.maximum(sharpened()[0], -1024), atol=0.126)


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEGLSLossless])
def test_a_compressed_source(write_series, out_dir, transfer_syntax):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, lambda dataset: dataset.compress(transfer_syntax))
    new = derive_first(folder, out_dir)
    assert "LossyImageCompression" not in new
    np.testing.assert_array_equal(new.pixel_array, np.clip(np.rint(sharpened()[0]), -1024, 3071) + 1024)


def test_lossy_stays_lossy(write_series, out_dir):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_15444_1")
    new = derive_first(folder, out_dir)
    assert (new.LossyImageCompression, new.LossyImageCompressionRatio) == ("01", 12.5)
    assert new.LossyImageCompressionMethod == "ISO_15444_1"


def test_absent_elements_are_filled(write_series, out_dir, conformance_errors):
    folder = write_series()
    absent = ("KVP", "AcquisitionNumber", "ConvolutionKernel", "InstanceNumber", "StudyID", "FrameOfReferenceUID")
    for path in folder.iterdir():
        edit(path, **dict.fromkeys(absent))
    derived = derive(folder, out_dir)
    assert conformance_errors(derived / "slice_0001.dcm") == []
    new = [pydicom.dcmread(path) for path in sorted(derived.iterdir())]
    assert [one.InstanceNumber for one in new] == list(range(1, NUM_SLICES + 1))
    assert len({one.FrameOfReferenceUID for one in new}) == 1


def test_a_number_that_is_none_is_counted(write_series, out_dir):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, InstanceNumber=b"99999999999")
    numbers = [pydicom.dcmread(path).InstanceNumber for path in sorted(derive(folder, out_dir).iterdir())]
    assert numbers == list(range(1, NUM_SLICES + 1))


def test_numbers_that_begin_with_0_stay(write_series, out_dir):
    folder = write_series()
    for number, path in enumerate(sorted(folder.iterdir())):
        edit(path, InstanceNumber=number)
    numbers = [pydicom.dcmread(path).InstanceNumber for path in sorted(derive(folder, out_dir).iterdir())]
    assert numbers == list(range(NUM_SLICES))


def test_text_that_is_not_ascii_is_kept_and_added_to(write_series, out_dir):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen", ConvolutionKernel="weich ä")
    derivation = replace(DERIVATION, source_kernel="weich ä", model_name="Modell ∞")
    folder = derive(folder, out_dir, derivation=derivation)
    new = pydicom.dcmread(folder / "slice_0001.dcm")
    assert new.PatientName == "Müller^Jürgen"
    assert "weich ?" in new.DerivationDescription


@pytest.mark.parametrize("character_set", [None, "no such thing", "ISO_IR 192"])
@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_text_in_no_valid_character_set_is_no_obstacle(write_series, out_dir, character_set, transfer_syntax):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, SpecificCharacterSet=character_set, PatientName=b"M\xfcller^J", StudyDescription=b"\xff\xfe")
        edit(path, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", transfer_syntax))
    assert len(list(derive(folder, out_dir).iterdir())) == NUM_SLICES


@pytest.mark.parametrize(
    ("hu", "sentence"),
    [
        (sharpened()[:-1], "has 5 slices, and 4 came"),
        (np.concatenate([sharpened(), sharpened()]), "more slices came .* than the 5"),
        (sharpened()[:, :-1], r"has shape \(31, 32\), not \(32, 32\)"),
        (np.where(np.arange(NUM_SLICES)[:, None, None] == 3, np.nan, sharpened()), "NaN or infinity"),
    ],
)
def test_bad_slices_fail_and_leave_nothing(write_series, out_dir, hu, sentence):
    with pytest.raises(ValueError, match=sentence):
        derive(write_series(), out_dir, hu)
    assert list(out_dir.iterdir()) == []


def test_an_error_of_the_model_passes_and_leaves_nothing(write_series, out_dir):
    def slices():
        yield sharpened()[0]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        derive(write_series(), out_dir, slices())
    assert list(out_dir.iterdir()) == []


def test_a_killed_writer_leaves_no_visible_series(write_series, out_dir):
    source = write_series()
    folders = [str(folder) for folder in (Path(ltdiff.__file__).parents[1], Path(__file__).parents[1], Path(__file__).parent)]
    script = f"""
        import sys
        sys.path[:0] = {folders!r}
        import time
        from pathlib import Path
        from test_write_derived import derive, sharpened
        def slices():
            yield from sharpened()[:3]
            print("writing", flush=True)
            time.sleep(60)
        derive(Path({str(source)!r}), Path({str(out_dir)!r}), slices())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        os.kill(process.pid, signal.SIGKILL)
    (left,) = out_dir.iterdir()
    assert left.name.startswith(PARTIAL_PREFIX)
    series, (issue,) = find_series(out_dir)
    assert (series, issue.action) == ([], "skip")
    assert "unfinished" in issue.reason
    assert source_of(derive(source, out_dir)).num_slices == NUM_SLICES


def test_no_identifier_becomes_a_path(write_series, tmp_path):
    """Folder and file names are made of hashes and numbers, whatever the file says."""
    folder = write_series(patient_id="../../evil")
    for path in folder.iterdir():
        edit(path, PatientID="../../evil\\/x\0\n", SeriesDescription="/etc/passwd")
    derived = derive(folder, tmp_path / "deep" / "out")
    assert derived.parent == tmp_path / "deep" / "out"
    assert derived.name.replace(".", "").isdigit()
    assert not list(tmp_path.rglob("*evil*"))
