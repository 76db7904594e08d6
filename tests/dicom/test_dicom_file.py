"""Files that are broken, lie about their size, or are something else altogether."""

import resource
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from dicom_files import bundled, edit
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ltdiff.dicom.dicom_file import MAX_INFLATED_BYTES, BadFile, SkippedFile, parse_file
from ltdiff.dicom.file_layout import MAX_DEPTH
from ltdiff.dicom.header import read_header
from ltdiff.dicom.pixels import read_slice_hu, read_stored_slice


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
    """500 undefined-length sequences in each other would exhaust the parser's stack."""
    content = one_slice.read_bytes()
    start = content.index(b"\x08\x00\x05\x00CS")  # first element after the file meta information
    opening = b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    one_slice.write_bytes(content[:start] + opening * 500 + content[start:])
    with pytest.raises(BadFile, match="has sequences nested more than 32 deep"):
        read_header(one_slice)


def nested(depth, *, vr, is_undefined, tag=b"\x08\x00\x06\x00"):
    """Sequences inside each other; what a UN holds is implicit (PS3.5 6.2.2)."""
    content = b""
    for level in range(depth):
        head = tag + (vr + b"\0\0" if vr == b"SQ" or level == depth - 1 else b"")
        if is_undefined:
            item = b"\xfe\xff\x00\xe0" + b"\xff" * 4 + content + b"\xfe\xff\x0d\xe0" + bytes(4)
            content = head + b"\xff" * 4 + item + b"\xfe\xff\xdd\xe0" + bytes(4)
        else:
            item = b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content
            content = head + len(item).to_bytes(4, "little") + item
    return content


def insert(path, content):
    """Put elements before the first one of the data set."""
    whole = path.read_bytes()
    start = whole.index(b"\x08\x00\x05\x00CS")
    path.write_bytes(whole[:start] + content + whole[start:])


@pytest.mark.parametrize("is_undefined", [True, False], ids=["undefined length", "defined length"])
@pytest.mark.parametrize("tag", [b"\x08\x00\x06\x00", b"\x09\x00\x10\x10"], ids=["public", "private"])
@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
def test_depth_has_a_limit_whatever_the_writing(one_slice, tmp_path, vr, tag, is_undefined):
    shallow, deep = (shutil.copy(one_slice, tmp_path / f"{depth}.dcm") for depth in (MAX_DEPTH, MAX_DEPTH + 1))
    for path, depth in ((shallow, MAX_DEPTH), (deep, MAX_DEPTH + 1)):
        insert(path, nested(depth, vr=vr, is_undefined=is_undefined, tag=tag))
    assert read_stored_slice(shallow).hu.shape == (32, 32)
    with pytest.raises(BadFile, match="has sequences nested more than 32 deep"):
        read_header(deep)


@contextmanager
def at_most_memory(num_bytes):
    """An address space of `num_bytes` more than there is now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def sparse_tail(path, num_bytes):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + num_bytes)


def in_fragment(path, num_bytes):
    """Zeros behind the compressed pixels, inside their fragment."""
    content = path.read_bytes()
    start = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00OB") + 20) + 4
    length = int.from_bytes(content[start : start + 4], "little")
    end = start + 4 + length
    head = content[:start] + (length + num_bytes).to_bytes(4, "little") + content[start + 4 : end]
    path.write_bytes(head + bytes(num_bytes) + content[end:])


def claim(path, start_of_pixels, length):
    content = path.read_bytes()
    place = content.index(start_of_pixels) + 8
    path.write_bytes(content[:place] + length + content[place + 4 :])


DEFLATED, RLE = DeflatedExplicitVRLittleEndian, RLELossless
LARGE = {  # transfer syntax, what is done to the file, what is said of it
    "a sparse tail": (None, lambda path: sparse_tail(path, 2**30), "far more than a CT slice"),
    "a smaller sparse tail": (None, lambda path: sparse_tail(path, 100 * 2**20), "far more than 32×32 pixels take"),
    "a deflated file with a sparse tail": (DEFLATED, lambda path: sparse_tail(path, 2**30), "far more than a CT slice"),
    "the same, smaller": (DEFLATED, lambda path: sparse_tail(path, 100 * 2**20), "is deflated and has more than 64 MiB"),
    "zeros behind RLE": (RLE, lambda path: sparse_tail(path, 128 * 2**20), "far more than 32×32 pixels take"),
    "zeros inside RLE": (RLE, lambda path: in_fragment(path, 8 * 2**20), "holds a compressed frame of"),
    "more zeros inside RLE": (RLE, lambda path: in_fragment(path, 128 * 2**20), "holds compressed pixels of more than"),
    "4 GiB of pixels claimed": (None, lambda path: claim(path, b"\xe0\x7f\x10\x00OW", b"\xfe\xff\xff\xff"), "claims 4294967294"),
    "pixels without end": (None, lambda path: claim(path, b"\xe0\x7f\x10\x00OW", b"\xff\xff\xff\xff"), "holds compressed pixels"),
    "4 GiB of an element claimed": (
        None,
        lambda path: insert(path, b"\x08\0\1\0OB\0\0" + b"\xf0" * 4),
        "is cut short in its header",
    ),
    "a large element": (None, lambda path: insert(path, b"\x08\0\1\0UT\0\0\0\0\x80\0" + b"1\\" * 2**22), "more than 1 MiB"),
    "many elements": (None, lambda path: insert(path, b"\x09\0\x10\x10LO\0\0" * 2**18), "more than 50000 elements"),
    "many items": (
        None,
        lambda path: insert(path, b"\x08\0\6\0SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0\0\0\0\0" * 2**18),
        "more than 50000 elements",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_what_is_too_large_is_refused_before_it_is_held(one_slice, case):
    transfer_syntax, change, sentence = LARGE[case]
    if transfer_syntax == RLE:
        edit(one_slice, lambda dataset: dataset.compress(RLELossless))
    elif transfer_syntax == DEFLATED:
        edit(one_slice, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", DEFLATED))
    change(one_slice)
    with at_most_memory(256 * 2**20), pytest.raises(BadFile, match=sentence):
        read_stored_slice(one_slice)


def test_a_large_private_element_is_no_fault(one_slice):
    insert(one_slice, b"\x09\0\x10\x10OB\0\0\0\0\x80\0" + bytes(2**23))
    assert read_stored_slice(one_slice).hu.shape == (32, 32)


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
        parsed = parse_file(file, tags=[0x00280010])
    assert isinstance(parsed.dataset, pydicom.Dataset)
    assert "PatientName" not in parsed.dataset
    assert parsed.num_pixel_bytes == 2 * 32 * 32


def test_pixels_in_a_broken_wrapping_fail(one_slice):
    edit(one_slice, lambda dataset: dataset.compress(JPEG2000Lossless))
    head, pixels = one_slice.read_bytes().split(b"\xe0\x7f\x10\x00", 1)
    one_slice.write_bytes(head + b"\xe0\x7f\x10\x00" + pixels.replace(b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe1"))
    with pytest.raises(BadFile, match="holds compressed pixels that are cut short or broken"):
        read_slice_hu(one_slice)
