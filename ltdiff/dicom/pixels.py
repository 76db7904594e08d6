"""The pixels of one CT slice: stored values, which of them are padding, HU."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from ltdiff.dicom.dicom_file import BadFile, ParsedFile, open_file, read_pixel_bytes, without_warnings
from ltdiff.dicom.filler import find_filler
from ltdiff.dicom.header import Header, PixelFormat, named_errors, parse_header
from ltdiff.dicom.hounsfield import check_slice
from ltdiff.dicom.scan import AIR_FILL_HU, StoredSlice


@dataclass(frozen=True)
class StoredDicomSlice(StoredSlice):
    """A decoded DICOM slice: `stored` is int16 or uint16, `dataset` holds all elements of the file but its pixels."""

    header: Header
    dataset: pydicom.Dataset
    file_sha256: str
    """In hex, of the whole file; "" where only what pixels need was read."""


def read_slice_hu(path: Path) -> NDArray[np.float32]:
    """One CT slice in HU, (Y, X), with padding and what lies outside the field of view at AIR_FILL_HU.

    Raises ValueError with a sentence that names the file: no CT slice, broken, not decodable, or implausible HU.
    """
    return read_stored_slice(path, complete=False).hu


def read_stored_slice(path: Path, *, complete: bool = True) -> StoredDicomSlice:
    """One CT slice as it is stored, if not `complete` without the elements that pixels do not need; the file is opened once.

    Raises ValueError as `read_slice_hu` does.
    """
    with named_errors(path), open_file(path) as file:
        file_sha256 = hashlib.file_digest(file, "sha256").hexdigest() if complete else ""  # type: ignore[arg-type]
        file.seek(0)
        header, parsed = parse_header(path, file, complete=complete)
        try:
            stored, hu, padding = _measured(_decoded(header, parsed, file), header)
            levels = check_slice(hu, padding)
            hu[padding] = AIR_FILL_HU
        except BadFile as error:
            raise BadFile(str(error), series_instance_uid=header.series_instance_uid) from error
    return StoredDicomSlice(stored, padding, hu, levels, header, parsed.dataset, file_sha256)


def _decoded(header: Header, parsed: ParsedFile, file: BinaryIO) -> NDArray[Any]:
    transfer_syntax = header.pixel_format.transfer_syntax
    shape = (header.geometry.rows, header.geometry.columns)
    if (start := parsed.plain_pixels_start) is not None:
        file.seek(start)
        dtype = np.dtype("<i2" if header.pixel_format.signed else "<u2")
        return np.frombuffer(file.read(2 * shape[0] * shape[1]), dtype).reshape(shape)
    _check_decoder(transfer_syntax)
    try:
        with _without_libraries_words(transfer_syntax):
            file.seek(0)
            if transfer_syntax.is_encapsulated:
                _check_claimed_size(read_pixel_bytes(file), shape)
            # pydicom's fast path does not inflate
            is_deflated = transfer_syntax == DeflatedExplicitVRLittleEndian
            pixels = pixel_array(pydicom.dcmread(file) if is_deflated else file, correct_unused_bits=False)
    except (BadFile, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each decoder has its own; the panic of one written in Rust is no Exception
        raise BadFile(f"cannot be decoded as {transfer_syntax.name}: its pixels are damaged") from error
    if pixels.shape != shape:
        raise BadFile(f"holds {pixels.shape} pixels where its header says {shape}")
    return pixels


def _check_claimed_size(pixel_bytes: bytes, shape: tuple[int, int]) -> None:
    """Before decoding: a decoder allocates what the frame's own header says, were it 60000 × 60000."""
    claimed = codestream_size(next(generate_frames(pixel_bytes, number_of_frames=1), b""))
    if claimed not in (None, shape):
        raise BadFile(f"holds a compressed frame of {claimed} pixels where its header says {shape}")


for _transfer_syntax in (JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless):
    # GDCM is here for what nothing else of a fitting licence decodes, JPEG Lossless
    get_decoder(_transfer_syntax).remove_plugin("gdcm")


@contextmanager
def _without_libraries_words(transfer_syntax: UID) -> Iterator[None]:
    """Keep pydicom from warning, and GDCM from writing to the terminal, past Python."""
    with without_warnings():
        if transfer_syntax not in (JPEGLossless, JPEGLosslessSV1):
            yield
            return
        terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            os.close(nowhere)


_JPEG_START = b"\xff\xd8"
_JPEG2000_START = b"\xff\x4f\xff\x51"
"""Start of codestream, then SIZ at once (ISO 15444-1 A.5)."""
_MAX_BOX_BYTES = 1024
"""Of boxes before the codestream, which DICOM forbids and some writers leave."""
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second byte; 0xF7 is JPEG-LS (ISO 10918-1 B.1.1.3)."""


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 frame claims in its own header; None of others (RLE)."""
    start = frame.find(_JPEG2000_START, 0, _MAX_BOX_BYTES)
    if start >= 0:
        return int.from_bytes(frame[start + 12 : start + 16]), int.from_bytes(frame[start + 8 : start + 12])
    return _jpeg_size(frame) if frame.startswith(_JPEG_START) else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    start = len(_JPEG_START)
    while start + 9 <= len(frame) and frame[start] == 0xFF:
        if frame[start + 1] in _START_OF_FRAME:
            return int.from_bytes(frame[start + 5 : start + 7]), int.from_bytes(frame[start + 7 : start + 9])
        start += 2 + int.from_bytes(frame[start + 2 : start + 4])
    return None


def _check_decoder(transfer_syntax: UID) -> None:
    try:
        available = get_decoder(transfer_syntax).is_available
    except NotImplementedError as error:
        raise BadFile(f"is compressed as {transfer_syntax.name}, which cannot be decoded") from error
    if not available:
        raise BadFile(f"is compressed as {transfer_syntax.name}; to decode it: pip install 'ltdiff[codecs]'")


def _measured(pixels: NDArray[Any], header: Header) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_]]:
    """Stored values (Y, X) without their unused bits, HU, and where there is no pixel.

    Padding is looked for before and after: −2000 is often written into all 16 bits of 12-bit pixels. It keeps them.
    """
    pixel_format = header.pixel_format
    unused_bits = 16 - pixel_format.bits_stored
    stored = (pixels << unused_bits) >> unused_bits if unused_bits else pixels  # extends the sign of signed pixels
    hu = _rescaled(stored, pixel_format)
    if pixel_format.padding is None:
        return stored, hu, find_filler(hu, derived=header.derived)
    low, high = pixel_format.padding
    beyond = (pixels >= low) & (pixels <= high) & (pixels != stored)
    tagged = (stored >= low) & (stored <= high)
    padding = beyond | find_filler(hu, tagged=tagged & ~beyond, derived=header.derived)
    return np.where(padding, pixels, stored), hu, padding


def _rescaled(stored: NDArray[Any], pixel_format: PixelFormat) -> NDArray[np.float32]:
    hu = stored.astype(np.float32)
    hu *= pixel_format.slope
    hu += pixel_format.intercept_hu
    return hu
