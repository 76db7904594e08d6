"""Files that are broken, lie about their size, or are something else altogether."""

import zlib

import pydicom
import pytest
from dicom_files import bundled, edit
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ltdiff.dicom.dicom_file import MAX_INFLATED_BYTES, BadFile, SkippedFile, parse_file
from ltdiff.dicom.header import read_header
from ltdiff.dicom.pixels import read_slice_hu


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"some text " * 50, "is not a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 526324\n", "Git LFS pointer"),
        (b"\0" * 128 + b"DIC", "is not a DICOM file"),
    ],
)
def test_other_files_are_skipped(tmp_path, content, sentence):
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(SkippedFile, match=sentence):
        read_header(path)


def test_a_file_cut_anywhere_is_named_and_never_read_as_whole(one_slice):
    content = one_slice.read_bytes()
    for length in range(0, len(content), 53):
        one_slice.write_bytes(content[:length])
        with pytest.raises((SkippedFile, BadFile)):
            read_slice_hu(one_slice)


def test_random_damage_never_gets_past_a_valueerror(one_slice):
    content = one_slice.read_bytes()
    for place in range(130, 1500, 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        one_slice.write_bytes(damaged)
        try:
            read_slice_hu(one_slice)
        except ValueError as error:
            assert str(one_slice) in str(error)  # noqa: PT017


def test_truncated_pixels_fail(one_slice):
    one_slice.write_bytes(one_slice.read_bytes()[:-100])
    with pytest.raises(BadFile, match="truncated: 1948 bytes"):
        read_header(one_slice)


def test_nested_sequences_fail(one_slice):
    """500 undefined-length sequences in each other exhaust the parser's stack."""
    content = one_slice.read_bytes()
    start = content.index(b"\x08\x00\x05\x00CS")  # first element after the file meta information
    opening = b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    one_slice.write_bytes(content[:start] + opening * 500 + content[start:])
    with pytest.raises(BadFile, match=r"broken header \(RecursionError\)"):
        read_header(one_slice)


def test_a_deflate_bomb_is_refused_before_it_is_held(one_slice):
    edit(one_slice, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    content = one_slice.read_bytes()
    end_of_meta = 144 + int.from_bytes(content[140:144], "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(b"\0" * 2**20) for _ in range(MAX_INFLATED_BYTES // 2**20 + 1)) + deflate.flush()
    one_slice.write_bytes(content[:end_of_meta] + bomb)
    assert one_slice.stat().st_size < 100_000
    with pytest.raises(BadFile, match="inflates to more than 64 MiB"):
        read_header(one_slice)


def test_a_lying_rle_header_is_refused_before_decoding(one_slice):
    edit(one_slice, lambda dataset: dataset.compress(RLELossless))
    edit(one_slice, Rows=30000, Columns=30000)
    with pytest.raises(BadFile, match="claims 30000×30000 pixels"):
        read_slice_hu(one_slice)


def test_a_lying_jpeg_2000_frame_is_refused_before_decoding(tmp_path):
    path = tmp_path / "x.dcm"
    content = bytearray(bundled("693_J2KI.dcm").read_bytes())
    size = content.index(b"\xff\x4f\xff\x51") + 8
    content[size : size + 8] = (60000).to_bytes(4) * 2
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"frame of \(60000, 60000\) pixels where its header says \(512, 512\)"):
        read_slice_hu(path)


def test_an_unknown_transfer_syntax_fails(one_slice):
    content = one_slice.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")
    one_slice.write_bytes(content)
    with pytest.raises(BadFile, match="unknown TransferSyntaxUID"):
        read_header(one_slice)


def test_only_the_named_elements_are_read(one_slice):
    with one_slice.open("rb") as file:
        parsed = parse_file(file, keywords=["Rows"])
    assert isinstance(parsed.dataset, pydicom.Dataset)
    assert "PatientName" not in parsed.dataset
    assert parsed.num_pixel_bytes == 2 * 32 * 32


def test_pixels_in_a_broken_wrapping_fail(one_slice):
    edit(one_slice, lambda dataset: dataset.compress(JPEG2000Lossless))
    head, pixels = one_slice.read_bytes().split(b"\xe0\x7f\x10\x00", 1)
    one_slice.write_bytes(head + b"\xe0\x7f\x10\x00" + pixels.replace(b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe1"))
    with pytest.raises(BadFile, match="cannot be decoded as JPEG 2000"):
        read_slice_hu(one_slice)
