"""Reading one DICOM file of unknown origin: it may be anything, and it may lie about its size.

Every error names file and value, and never a patient's name, ID or dates.
"""

import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import pydicom
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from ltdiff.system.text import quoted

MAX_INFLATED_BYTES = 64 * 2**20
"""Of a deflated file: twice the largest slice that is read."""
MULTI_FRAME_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


class SkippedFile(ValueError):
    """The file is no CT slice: it is left out and named in the report.

    `series_instance_uid` is known of a CT without pixels, which may be a copy that was cut short.
    """

    def __init__(self, reason: str, *, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


class BadFile(ValueError):
    """The file is a CT slice that cannot be used, and neither can its series (`series_instance_uid`, "" if unknown)."""

    def __init__(self, reason: str, *, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


def files_below(root: Path) -> list[Path]:
    """All files in the folder `root`, sorted: DICOM files may have any name. Of a file, itself."""
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]


@dataclass(frozen=True)
class ParsedFile:
    """Elements of a file without its pixels, and what is known of those without decoding them."""

    dataset: pydicom.Dataset
    transfer_syntax: UID
    num_pixel_bytes: int
    """Of PixelData, or as much of it as the file really has; 0: there is none."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep pydicom from warning and logging about odd values, which it quotes: a patient's name may be among them."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_file(path: Path) -> BinaryIO:
    """The file, opened for reading. Raises BadFile."""
    try:
        return path.open("rb")
    except OSError as error:
        raise BadFile(f"cannot be opened ({error.strerror})") from error


def parse_file(file: BinaryIO, *, keywords: Sequence[str] | None) -> ParsedFile:
    """Read the elements named by `keywords`, or all of them, from a file at its beginning.

    Raises SkippedFile when it is no CT, BadFile when it cannot be read.
    """
    _check_is_dicom(file)
    transfer_syntax = _transfer_syntax(file)
    try:
        return _parse(file, transfer_syntax, keywords)
    except BadFile:
        raise
    except Exception as error:  # whatever pydicom meets in a broken file; 500 nested sequences: RecursionError
        raise BadFile(f"has a broken header ({type(error).__name__})") from error


def read_pixel_bytes(source: Path | BinaryIO) -> bytes:
    """The PixelData of a file whose header is known to be good, as it is stored. Raises BadFile."""
    try:
        with without_warnings():
            return pydicom.dcmread(source, specific_tags=["PixelData"]).PixelData
    except Exception as error:  # as above
        raise BadFile(f"holds unreadable pixels ({type(error).__name__})") from error


def _check_is_dicom(file: BinaryIO) -> None:
    try:
        head = file.read(132)
    except OSError as error:  # a bad sector, or a file that is gone from NFS
        raise BadFile(f"cannot be read ({error.strerror})") from error
    if not head:
        raise SkippedFile("is empty")
    if head.startswith(b"version https://git-lfs"):
        raise SkippedFile("is a Git LFS pointer, not the file itself (git lfs pull fetches it)")
    if head[128:] != b"DICM":
        raise SkippedFile("is not a DICOM file (no preamble and file meta information)")


def _transfer_syntax(file: BinaryIO) -> UID:
    try:
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != 2)
        media = UID(str(meta.get("MediaStorageSOPClassUID", "")))
        transfer_syntax = UID(str(meta.get("TransferSyntaxUID", "")))
    except Exception as error:  # as above
        raise BadFile(f"has broken file meta information ({type(error).__name__})") from error
    if media == MediaStorageDirectoryStorage:
        raise SkippedFile("is a DICOMDIR")
    if media and media not in (CTImageStorage, *MULTI_FRAME_CT):
        raise SkippedFile(f"is no CT image but {quoted(media.name)}")
    if not transfer_syntax:
        raise SkippedFile("has no TransferSyntaxUID")
    if not transfer_syntax.is_transfer_syntax:
        raise BadFile(f"has the unknown TransferSyntaxUID {quoted(str(transfer_syntax))}")
    return transfer_syntax


def _parse(file: BinaryIO, transfer_syntax: UID, keywords: Sequence[str] | None) -> ParsedFile:
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        # It has to be inflated whole anyway, and then its pixels are no longer where `file` stands.
        _check_inflated_size(file)
        dataset = pydicom.dcmread(file, specific_tags=None if keywords is None else [*keywords, "PixelData"])
        return ParsedFile(dataset, transfer_syntax, len(dataset.get("PixelData", b"")))
    file.seek(0)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=None if keywords is None else list(keywords))
    return ParsedFile(dataset, transfer_syntax, _num_pixel_bytes(file, transfer_syntax))


def _check_inflated_size(file: BinaryIO) -> None:
    """Refuse a deflate bomb (205 kB can become 210 MB) without holding what it inflates to; `file` is rewound."""
    file.seek(0)
    content = file.read()
    file.seek(0)
    start = 144 + int.from_bytes(content[140:144], "little")  # where group 0002 ends (PS3.10 7.1)
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:], MAX_INFLATED_BYTES + 1)
    if len(inflated) > MAX_INFLATED_BYTES:
        raise BadFile(f"inflates to more than {MAX_INFLATED_BYTES // 2**20} MiB")


def _num_pixel_bytes(file: BinaryIO, transfer_syntax: UID) -> int:
    """Length of the PixelData element at which pydicom stopped, or what the file has of it (PS3.5 7.1)."""
    order: Literal["little", "big"] = "little" if transfer_syntax.is_little_endian else "big"
    head = file.read(8 if transfer_syntax.is_implicit_VR else 12)
    group, element = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
    if (group, element) != (0x7FE0, 0x0010):
        return 0
    length = int.from_bytes(head[-4:], order)
    return min(length, os.fstat(file.fileno()).st_size - file.tell())
