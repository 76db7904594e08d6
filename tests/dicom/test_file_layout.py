"""Elements that are taken out of a file one by one are those that pydicom reads."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicom_files import bundled, edit
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ltdiff.dicom import file_layout
from ltdiff.dicom.dicom_file import SkippedFile, parse_file, without_warnings
from ltdiff.dicom.header import named_errors, open_file, parse_header, read_header

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


def _both(path: Path):
    """The header as it is read alone, and as it is read with all elements; or the sentences that refuse the file."""
    found = []
    for complete in (False, True):
        try:
            with named_errors(path), open_file(path) as file:
                found.append(parse_header(path, file, complete=complete)[0])
        except ValueError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_a_header_is_the_same_when_all_elements_are_read(write_series, syntax):
    def change(dataset):
        source = Dataset()
        source.ReferencedSOPInstanceUID = "1.2.3"
        dataset.SourceImageSequence = [source]
        dataset.ImageType = ["DERIVED", "PRIMARY"]
        dataset.file_meta.TransferSyntaxUID = syntax

    path = edit(
        write_series() / "slice_0001.dcm", change, SpecificCharacterSet="ISO_IR 192", Manufacturer="Müller", PixelPaddingValue=5
    )
    one, other = _both(path)
    assert one == other
    assert (one.source_sop_instance_uid, one.manufacturer, one.pixel_format.padding) == ("1.2.3", "Müller", (5, 5))


def test_a_sequence_without_a_length_is_kept(one_slice):
    """Behind others, inside of which there are elements of the same tag."""
    item = b"\xfe\xff\x00\xe0" + b"\xff" * 4
    end = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    uid = b"\x08\x00\x55\x11UI\x06\x001.2.3\0"
    inner = b"\x08\x00\x18\x00UI\x04\x009.9\0"
    first = b"\x08\x00\x10\x11SQ\0\0" + b"\xff" * 4 + item + inner + end
    second = b"\x08\x00\x12\x21SQ\0\0" + b"\xff" * 4 + item + uid + end
    content = one_slice.read_bytes()
    start = content.index(b"\x10\x00\x10\x00PN")
    one_slice.write_bytes(content[:start] + first + second + content[start:])
    edit(one_slice, lambda dataset: setattr(dataset, "ImageType", ["DERIVED", "PRIMARY"]))
    one, other = _both(one_slice)
    assert one == other
    assert one.source_sop_instance_uid == "1.2.3"
    assert one.sop_instance_uid != "9.9"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "JPEG2000.dcm", "image_dfl.dcm"])
def test_wanted_elements_of_other_files(name, monkeypatch):
    """Whatever the file is; sequences and private elements among them."""
    path = bundled(name)
    whole = pydicom.dcmread(path, stop_before_pixels=True)
    monkeypatch.setattr("ltdiff.dicom.dicom_file.CTImageStorage", whole.file_meta.MediaStorageSOPClassUID)
    tags = [element.tag for element in whole]
    with path.open("rb") as file, without_warnings():
        parsed = parse_file(file, tags=tags)
    expected = {element.tag: str(element) for element in whole if element.value not in ("", None, b"", [])}
    found = {element.tag: str(element) for element in parsed.dataset}
    assert found == expected


def test_random_damage_never_tells_the_two_ways_of_reading_apart(one_slice):
    content = one_slice.read_bytes()
    for place in range(132, 1400, 5):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        one_slice.write_bytes(damaged)
        one, other = _both(one_slice)
        assert one == other or isinstance(one, str) or isinstance(other, str)


def test_a_header_longer_than_the_window_is_walked_over(one_slice, monkeypatch):
    expected = read_header(one_slice)
    monkeypatch.setattr(file_layout, "_WINDOW_BYTES", 16)
    assert read_header(one_slice) == expected


def test_a_walk_from_the_middle_of_a_file_ends_at_its_place():
    element = b"\x02\x00\x10\x00UI\x04\x001.2\0"
    file = BytesIO(b"head" + element + b"\x10\x00\x10\x00PN\x02\x00A ")
    file.seek(4)
    layout = file_layout.find_layout(file, is_implicit=False, is_little_endian=True, wanted=(0x00020010,), is_meta=True)
    assert layout.end == 4 + len(element)
    assert layout.elements == {0x00020010: ("UI", 4, b"1.2\0")}


def test_a_file_of_another_kind_is_skipped(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bundled("rtplan.dcm").read_bytes())
    with pytest.raises(SkippedFile, match="is no CT image but 'RT Plan Storage'"):
        read_header(path)
