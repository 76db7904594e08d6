"""The values that a derived slice has of its own: legal, and true of what was done."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pydicom
import pytest
from dicom_files import DERIVATION, SPACING_MM, edit, identity, phantom_hu, set_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2K, JPEG2000, HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSNearLossless
from test_write_derived import derive

from ltdiff.dicom.derived_header import DerivedHeaders
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.elements import texts_of
from ltdiff.dicom.file_layout import MAX_DEPTH
from ltdiff.dicom.pixels import read_stored_slice
from ltdiff.dicom.write_dataset import save_dataset
from ltdiff.dicom.write_original import write_ct_series

MADE = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"), max_size=80)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A slice as it was read."""
    folder = tmp_path_factory.mktemp("source") / "series"
    write_ct_series(phantom_hu()[:1], out_dir=folder, identity=identity(), spacing_mm=SPACING_MM)
    return read_stored_slice(folder / "slice_0001.dcm")


@pytest.fixture(scope="module")
def described(source):
    """The derived header of `source` whose elements are changed; bytes are set as they would stand in a file."""

    def describe(*, derivation=DERIVATION, transfer_syntax=None, **elements) -> Dataset:
        pixel_format = source.header.pixel_format
        pixel_format = replace(pixel_format, transfer_syntax=transfer_syntax or pixel_format.transfer_syntax)
        with without_warnings():
            dataset = pydicom.dcmread(source.header.path)
            for keyword, value in elements.items():
                if isinstance(value, bytes):
                    set_raw(dataset, keyword, value)
                elif isinstance(value, tuple):  # with another type
                    set_raw(dataset, keyword, *value)
                else:
                    setattr(dataset, keyword, value)
            headers = DerivedHeaders(derivation, series_uid="2.25.1", sharper=True, made=MADE)
            return headers.describe(dataset, replace(source.header, pixel_format=pixel_format))

    return describe


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (b"2", 9002),
        (b"-9000", 0),
        (b"2147474647", 2147483647),
        (b"2147483647", 9000),  # the sum would be no IS
        (b"-2147483648", -2147474648),
        (b"99999999999", 9000),
        (b"", 9000),
        (b"2\\3", 9000),
        (b"1.5", 9000),
        (b"Doe^Jane", 9000),
    ],
)
def test_the_series_number_is_always_one(described, written, number):
    assert described(SeriesNumber=written).SeriesNumber == number


@pytest.mark.parametrize(
    ("offset", "date", "clock"),
    [
        ("+0900", "20261129", "083000"),
        ("-0330", "20261128", "200000"),
        ("+1400", "20261129", "133000"),
        ("+0000", "20261128", "233000"),
    ],
)
def test_new_times_are_in_the_zone_of_the_old_ones(described, offset, date, clock):
    new = described(TimezoneOffsetFromUTC=offset)
    assert new.TimezoneOffsetFromUTC == offset
    assert {new.SeriesDate, new.ContentDate, new.InstanceCreationDate} == {date}
    assert {new.SeriesTime, new.ContentTime, new.InstanceCreationTime} == {clock}
    assert (new.StudyDate, new.AcquisitionTime) == ("20200517", "113000")


@pytest.mark.parametrize("offset", ["", "+9900", "0900", "+09:00", "JST", "+0900\\+0800", "+0960"])
def test_a_zone_that_is_none_is_not_copied(described, offset):
    new = described(TimezoneOffsetFromUTC=offset)
    assert "TimezoneOffsetFromUTC" not in new
    assert f"{new.SeriesDate}{new.SeriesTime}" == f"{MADE.astimezone():%Y%m%d%H%M%S}"  # of this machine


def test_the_time_of_the_contribution_names_its_zone(described):
    assert described().ContributingEquipmentSequence[-1].ContributionDateTime == f"{MADE.astimezone():%Y%m%d%H%M%S%z}"


def test_a_machine_elsewhere_writes_the_same_moment(write_series, monkeypatch):
    folder = write_series(hu=phantom_hu()[:1])
    edit(folder / "slice_0001.dcm", TimezoneOffsetFromUTC="+0900")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        before = datetime.now(UTC).replace(microsecond=0)
        made = derive(folder, folder.with_name("out"), phantom_hu(1)[:1])
    finally:
        monkeypatch.undo()
        time.tzset()
    new = pydicom.dcmread(made / "slice_0001.dcm")
    moment = datetime.strptime(f"{new.SeriesDate}{new.SeriesTime}{new.TimezoneOffsetFromUTC}", "%Y%m%d%H%M%S%z")
    assert before <= moment <= datetime.now(UTC)


@pytest.mark.parametrize(("old", "new"), [("HU", "HU"), ("", "HU"), ("US", "US"), ("MGML", "MGML"), ("HU_MOD", "HU_MOD")])
def test_only_what_was_hu_claims_hu(described, old, new):
    """Other types are refused where a series is read; the writer adds no claim to them."""
    assert described(RescaleType=old).RescaleType == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], []),
        (["ORIGINAL", "PRIMARY", "AXIAL", "VMI"], ["VMI"]),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], []),  # a scanner's own word for how it was made
        (["ORIGINAL"], []),
    ],
)
def test_the_image_type_keeps_the_energy(described, old, new):
    assert list(described(ImageType=old).ImageType) == ["DERIVED", "SECONDARY", "AXIAL", *new]


def test_a_certified_source_does_not_certify(described):
    new = described(
        SOPInstanceStatus="AO",
        SOPAuthorizationDateTime="20200101120000",
        AuthorizationEquipmentCertificationNumber="1",
        ContentQualification="PRODUCT",
        SyntheticData="NO",
    )
    assert not {"SOPInstanceStatus", "SOPAuthorizationDateTime", "SyntheticData"} & {element.keyword for element in new}
    assert "AuthorizationEquipmentCertificationNumber" not in new
    assert new.ContentQualification == "RESEARCH"
    assert described(SyntheticData="YES").SyntheticData == "YES"


@pytest.mark.parametrize(
    ("said", "transfer_syntax", "lossy", "method"),
    [
        (None, None, None, None),
        ("00", None, "00", None),
        ("NO", None, None, None),
        ("01", None, "01", None),  # a history that the file's own compression does not show
        ("00", JPEG2000Lossless, "00", None),
        (None, HTJ2KLossless, None, None),
        (None, JPEG2000, "01", "ISO_15444_1"),
        ("NO", JPEGLSNearLossless, "01", "ISO_14495_1"),
        ("00", JPEG2000, "00", None),  # which can be lossless
        (None, HTJ2K, "01", "ISO_15444_15"),
        ("00", JPEGBaseline8Bit, "01", "ISO_10918_1"),  # which cannot
    ],
)
def test_what_was_lost_is_said(described, said, transfer_syntax, lossy, method):
    new = described(transfer_syntax=transfer_syntax, **({} if said is None else {"LossyImageCompression": said}))
    assert (new.get("LossyImageCompression"), new.get("LossyImageCompressionMethod")) == (lossy, method)
    assert ("LossyImageCompressionRatio" in new) == (method is not None)


@settings(max_examples=50, deadline=None)
@given(kernel=TEXT, target=TEXT, name=TEXT, version=TEXT)
def test_texts_of_ours_are_legal(described, kernel, target, name, version):
    derivation = replace(DERIVATION, source_kernel=kernel, target_kernel=target, model_name=name, model_version=version)
    new = described(derivation=derivation)
    equipment = new.ContributingEquipmentSequence[-1]
    for value, length in [
        (new.SeriesDescription, 64),
        (new.DerivationDescription, 1024),
        (equipment.ManufacturerModelName, 64),
        *((value, 64) for value in equipment.SoftwareVersions),
        *((value, 16) for value in texts_of(new, "ConvolutionKernel")),
    ]:
        assert len(value) <= length
        assert value.isascii()
        assert not value or value.isprintable()
    assert len(equipment.SoftwareVersions) == 2
    assert texts_of(new, "ConvolutionKernel")[-1] == "ltdiff derived"


def nested(depth: int) -> Dataset:
    """A data set with so many sequences in each other."""
    dataset = Dataset()
    dataset.CodeMeaning = "innermost"
    for _ in range(depth):
        outer = Dataset()
        outer.RequestAttributesSequence = [dataset]
        dataset = outer
    return dataset


@pytest.mark.parametrize("depth", [1, MAX_DEPTH, MAX_DEPTH + 1, 240])
def test_a_copy_is_never_deeper_than_can_be_written(described, tmp_path, depth):
    """pydicom's writer takes twice the time for each level of what it cannot write: without a limit this would never end."""
    new = described(RequestAttributesSequence=nested(depth).RequestAttributesSequence)
    assert ("RequestAttributesSequence" in new) == (depth <= MAX_DEPTH)
    new.add_new("PixelData", "OW", b"\0\0")
    save_dataset(new, tmp_path / "derived.dcm")


def test_what_is_inside_a_sequence(described):
    """Private elements, signatures and half references go at any depth; the rest of the item stays."""
    inner = Dataset()
    inner.CodeMeaning = "kept"
    inner.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "secret")
    inner.MACParametersSequence = inner.EncryptedAttributesSequence = [Dataset()]
    inner.add_new(0xFFFAFFFA, "SQ", [Dataset()])
    inner.ReferencedStudySequence = [Dataset()]
    inner.ReferencedStudySequence[0].ReferencedSOPClassUID = "1.2.3"
    outer = Dataset()
    outer.ScheduledProtocolCodeSequence = [inner]
    new = described(RequestAttributesSequence=[outer])
    (item,) = new.RequestAttributesSequence[0].ScheduledProtocolCodeSequence
    assert [element.keyword for element in item] == ["CodeMeaning"]


def test_an_element_of_another_type_is_put_right_or_left_out(described):
    """Texts get the type of their attribute; numbers and sequences that are none are not copied."""
    new = described(
        PatientName=(b"Doe^Jane", "LO"),
        StudyDescription=(b"a study ", "ST"),
        KVP=(b"120 ", "OV"),
        SliceThickness=(b"thin", "LO"),
        AcquisitionTime=(b"113000", "OF"),
        ContributingEquipmentSequence=(b"a text", "LO"),
        ProtocolName=(b"\xfe\xff\x00\xe0\x00\x00\x00\x00", "SQ"),
    )
    assert (new["PatientName"].VR, new.PatientName) == ("PN", "Doe^Jane")
    assert (new["StudyDescription"].VR, new.StudyDescription) == ("LO", "a study")
    assert new.KVP is None
    assert new.SliceThickness is None
    assert "AcquisitionTime" not in new
    assert len(new.ContributingEquipmentSequence) == 1
    assert "ProtocolName" not in new


def test_text_of_another_character_set_is_copied_byte_by_byte(described, tmp_path):
    """Bytes of Latin-1 where the header says UTF-8, at any depth."""
    item = Dataset()
    set_raw(item, "ScheduledProcedureStepDescription", b"f\xfcr")
    new = described(StudyDescription=b"M\xfcller", PatientName=b"M\xfcller^J", RequestAttributesSequence=[item])
    new.add_new("PixelData", "OW", b"\0\0")
    save_dataset(new, tmp_path / "derived.dcm")
    written = pydicom.dcmread(tmp_path / "derived.dcm")
    assert written.get_item("StudyDescription").value == b"M\xfcller"
    assert written.get_item("PatientName").value == b"M\xfcller^J"
    assert written.RequestAttributesSequence[0].get_item("ScheduledProcedureStepDescription").value == b"f\xfcr "
