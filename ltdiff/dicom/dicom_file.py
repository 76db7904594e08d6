"""Reading one DICOM file of unknown origin: it may be anything, and it may lie about its size.

Every error names file and value, and never a patient's name, ID or dates.
"""

import logging
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from ltdiff.dicom.file_layout import UNDEFINED, FileLayout, LayoutError, find_layout
from ltdiff.system.remote_input import fetch_missing
from ltdiff.system.text import quoted

MAX_PIXELS = 4096 * 4096
"""Largest size of a slice: it bounds what a lying header can make a decoder allocate."""
MAX_INFLATED_BYTES = 64 * 2**20
"""Of a deflated file: twice the largest slice that is read."""
MAX_EXTRA_BYTES = 64 * 2**20
"""Of a file beside its pixels."""
_CHARACTER_SET, _MEDIA, _TRANSFER_SYNTAX, _PIXEL_DATA = 0x00080005, 0x00020002, 0x00020010, 0x7FE00010
MULTI_FRAME_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
# It logs tracebacks and values of headers, a patient's name among them; what matters of it is in our own sentences.


class SkippedFile(ValueError):
    """The file is no CT slice: it is left out and named in the report.

    `series_instance_uid` is known of a CT without pixels, which may be a copy that was cut short.
    """

    def __init__(self, reason: str, *, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


class BadFile(ValueError):
    """The file is a CT slice that cannot be used, and neither can its series (`series_instance_uid`, "" if unknown).

    `is_of_folder`: it is a slice of one of the series in its folder, and does not tell of which. `may_pass`: not the file is bad
    but a disk, or a fault of ours that may be mended: another day it may be read.
    """

    def __init__(self, reason: str, *, series_instance_uid: str = "", is_of_folder: bool = False, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid
        self.is_of_folder = is_of_folder
        self.may_pass = may_pass


def files_below(root: Path) -> list[Path]:
    """All files in the folder `root`, sorted: DICOM files may have any name. Of a file, itself."""
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]


@dataclass(frozen=True)
class ParsedFile:
    """Elements of a file without its pixels, and what is known of those without decoding them."""

    dataset: pydicom.Dataset
    transfer_syntax: UID
    layout: FileLayout
    num_bytes: int
    """Of the whole file."""

    @property
    def num_pixel_bytes(self) -> int:
        """Of PixelData, or as much of it as the file really has; 0: there is none."""
        return min(self.layout.num_pixel_bytes, self.layout.num_bytes_left)

    @property
    def plain_pixels_start(self) -> int | None:
        """Place of a single frame's bytes that can be taken as they stand, little-endian; None where they need decoding."""
        is_plain = (
            self.transfer_syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and self.layout.stopped_at == _PIXEL_DATA
        )
        return self.num_bytes - self.layout.num_bytes_left if is_plain and "NumberOfFrames" not in self.dataset else None


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep pydicom from warning about odd values, which it quotes: a patient's name may be among them."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_file(path: Path) -> BinaryIO:
    """The file, opened for reading. Raises BadFile."""
    try:
        return _open_copy(path)
    except OSError as error:
        raise BadFile(f"cannot be opened ({error.strerror})", may_pass=True) from error


def _open_copy(path: Path) -> BinaryIO:
    """Open a file; one that is the local copy of an object, and is missing, is fetched first."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        if not fetch_missing(path):
            raise
        return path.open("rb")


def parse_file(file: BinaryIO, *, tags: Collection[int] | None) -> ParsedFile:
    """Read the elements with these tags, or all of them, from a file at its beginning.

    Raises SkippedFile when it is no CT, BadFile when it cannot be read.
    """
    _check_is_dicom(file)
    transfer_syntax = _transfer_syntax(file)
    num_bytes = num_bytes_of(file)
    if num_bytes > 8 * MAX_PIXELS + MAX_EXTRA_BYTES:
        raise BadFile(f"has {num_bytes} bytes, far more than a CT slice", is_of_folder=True)
    is_deflated = transfer_syntax == DeflatedExplicitVRLittleEndian
    content = _inflated(file) if is_deflated else file
    start = content.tell()
    is_implicit, is_little_endian = transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian
    wanted = () if tags is None else {_CHARACTER_SET, *tags}
    try:
        layout = find_layout(content, is_implicit=is_implicit, is_little_endian=is_little_endian, wanted=wanted)
    except LayoutError as error:
        uid = error.series_instance_uid
        raise BadFile(str(error), series_instance_uid=uid, is_of_folder=not uid) from error
    content.seek(start)
    try:
        if tags is None:
            dataset = read_dataset(content, is_implicit, is_little_endian, stop_when=lambda tag, vr, length: tag.group == 0x7FE0)
        else:
            dataset = _wanted_elements(layout, is_little_endian=is_little_endian)
    except Exception as error:  # whatever pydicom meets in a broken file
        uid = layout.series_instance_uid
        raise BadFile("has a broken header", series_instance_uid=uid, is_of_folder=not uid) from error
    return ParsedFile(dataset, transfer_syntax, layout, num_bytes)


@cache
def shared_tag(number: int) -> BaseTag:
    """One object for each tag: pydicom compares two of them in Python."""
    return BaseTag(number)


def _wanted_elements(layout: FileLayout, *, is_little_endian: bool) -> pydicom.Dataset:
    """What `read_dataset` would give for these elements, in a fifth of its time: it takes up every element of the file."""
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    for number, (vr, length, value) in layout.elements.items():
        tag = shared_tag(number)
        if length == UNDEFINED:
            elements[tag] = read_dataset(BytesIO(value), layout.is_implicit, is_little_endian)[tag]
        else:
            elements[tag] = RawDataElement(tag, vr or None, length, value, 0, layout.is_implicit, is_little_endian)
    character_set = layout.elements.get(_CHARACTER_SET)
    encoding = _encoding(character_set.value) if character_set else default_encoding
    dataset = pydicom.Dataset(elements, parent_encoding=default_encoding)
    dataset.set_original_encoding(layout.is_implicit, is_little_endian, encoding)
    return dataset


@lru_cache
def _encoding(character_set: bytes) -> list[str]:
    raw = RawDataElement(BaseTag(_CHARACTER_SET), "CS", len(character_set), character_set, 0, False, True)
    return convert_encodings(convert_raw_data_element(raw).value)


def num_bytes_of(file: BinaryIO) -> int:
    """Size of an open file, whose place is kept."""
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    return size


def read_pixel_bytes(source: Path | BinaryIO) -> bytes:
    """The PixelData of a file whose header is known to be good, as it is stored. Raises BadFile."""
    try:
        with without_warnings():
            return pydicom.dcmread(source, specific_tags=["PixelData"]).PixelData
    except Exception as error:  # as above
        raise BadFile("holds unreadable pixels") from error


def _check_is_dicom(file: BinaryIO) -> None:
    try:
        head = file.read(132)
    except OSError as error:  # a bad sector, or a file that is gone from NFS
        raise BadFile(f"cannot be read ({error.strerror})", may_pass=True) from error
    if not head:
        raise SkippedFile("is empty")
    if head.startswith(b"version https://git-lfs"):
        raise SkippedFile("is a Git LFS pointer, not the file itself (git lfs pull fetches it)")
    if head[128:] != b"DICM":
        raise SkippedFile("is not a DICOM file (no preamble and file meta information)")


def _transfer_syntax(file: BinaryIO) -> UID:
    """Raises SkippedFile or BadFile; `file` stands behind the file meta information afterwards."""
    try:
        meta = find_layout(file, is_implicit=False, is_little_endian=True, wanted=(_MEDIA, _TRANSFER_SYNTAX), is_meta=True)
        file.seek(meta.end)
        media, transfer_syntax = (
            _uid(meta.elements[tag].value) if tag in meta.elements else UID("") for tag in (_MEDIA, _TRANSFER_SYNTAX)
        )
    except OSError:
        raise
    except Exception as error:  # as above
        raise BadFile("is cut short or broken in its file meta information", is_of_folder=True) from error
    if media == MediaStorageDirectoryStorage:
        raise SkippedFile("is a DICOMDIR")
    if media and media not in (CTImageStorage, *MULTI_FRAME_CT):
        raise SkippedFile(f"is no CT image but {uid_name(media)}")
    if media and not _has_more(file):
        raise BadFile("is cut short behind its file meta information", is_of_folder=True)
    if not transfer_syntax:
        raise SkippedFile("has no TransferSyntaxUID")
    if not transfer_syntax.is_transfer_syntax:
        raise BadFile("has an unknown TransferSyntaxUID", is_of_folder=True)
    return transfer_syntax


@lru_cache
def _uid(value: bytes) -> UID:
    raw = RawDataElement(BaseTag(_TRANSFER_SYNTAX), "UI", len(value), value, 0, False, True)
    return UID(str(convert_raw_data_element(raw).value))


def uid_name(uid: str) -> str:
    """The name that the standard gives a UID, as it may stand in a message."""
    name = UID(uid).name
    return quoted(name, max_length=60) if name != uid else "another SOP class"


def _has_more(file: BinaryIO) -> bool:
    position = file.tell()
    has_more = bool(file.read(1))
    file.seek(position)
    return has_more


def _inflated(file: BinaryIO) -> BinaryIO:
    """What a deflated file holds; a bomb is refused without holding what it inflates to (205 kB can become 210 MB)."""
    if num_bytes_of(file) > MAX_INFLATED_BYTES:
        raise BadFile(f"is deflated and has more than {MAX_INFLATED_BYTES // 2**20} MiB", is_of_folder=True)
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_INFLATED_BYTES + 1)
    except zlib.error as error:
        raise BadFile("cannot be inflated", is_of_folder=True) from error
    if len(inflated) > MAX_INFLATED_BYTES:
        raise BadFile(f"inflates to more than {MAX_INFLATED_BYTES // 2**20} MiB", is_of_folder=True)
    return BytesIO(inflated)
