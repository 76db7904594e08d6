"""The pixels of one CT slice: stored values, which of them are padding, HU."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGTransferSyntaxes

from ltdiff.dicom.dicom_file import BadFile, open_file, read_pixel_bytes, without_warnings
from ltdiff.dicom.header import Header, PixelFormat, named_errors, parse_header
from ltdiff.dicom.scan import AIR_FILL_HU, StoredSlice

OUTSIDE_FOV_HU = -1500.0
"""A corner below this holds no air but a scanner's filler (−2000, −2048, −3024)."""

# The largest share of a CT slice's pixels that is below or above so many HU. Wrong signedness, wrong BitsStored or a
# wrong rescale puts far more of them there.
PLAUSIBLE_SHARES = (("below", -2000.0, 0.001), ("below", -1200.0, 0.5), ("above", 1500.0, 0.5), ("above", 2500.0, 0.1))


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
        header, dataset = parse_header(path, file, complete=complete)
        try:
            stored, padding = _tagged_padding(_decoded(header, file), header.pixel_format)
            hu = _rescaled(stored, header.pixel_format)
            padding |= _outside_field_of_view(hu, derived=header.derived)
            hu[padding] = AIR_FILL_HU
            _check_plausible(hu)
        except BadFile as error:
            raise BadFile(str(error), series_instance_uid=header.series_instance_uid) from error
    return StoredDicomSlice(stored, padding, hu, header, dataset, file_sha256)


def _decoded(header: Header, file: BinaryIO) -> NDArray[Any]:
    transfer_syntax = header.pixel_format.transfer_syntax
    shape = (header.geometry.rows, header.geometry.columns)
    _check_decoder(transfer_syntax)
    try:
        with without_warnings():
            file.seek(0)
            if transfer_syntax.is_encapsulated:
                _check_claimed_size(read_pixel_bytes(file), shape)
            # pydicom's fast path does not inflate
            is_deflated = transfer_syntax == DeflatedExplicitVRLittleEndian
            pixels = pixel_array(pydicom.dcmread(file) if is_deflated else file, correct_unused_bits=False)
    except (BadFile, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each decoder has its own; the panic of one written in Rust is no Exception
        raise BadFile(f"cannot be decoded as {transfer_syntax.name} ({type(error).__name__})") from error
    if pixels.shape != shape:
        raise BadFile(f"holds {pixels.shape} pixels where its header says {shape}")
    return pixels


def _check_claimed_size(pixel_bytes: bytes, shape: tuple[int, int]) -> None:
    """Before decoding: a decoder allocates what the frame's own header says, were it 60000 × 60000."""
    claimed = codestream_size(next(generate_frames(pixel_bytes, number_of_frames=1), b""))
    if claimed not in (None, shape):
        raise BadFile(f"holds a compressed frame of {claimed} pixels where its header says {shape}")


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
        package = "pylibjpeg-libjpeg" if transfer_syntax in JPEGTransferSyntaxes else "'ltdiff[codecs]'"
        raise BadFile(f"is compressed as {transfer_syntax.name}; to decode it: pip install {package}")


def _tagged_padding(pixels: NDArray[Any], pixel_format: PixelFormat) -> tuple[NDArray[Any], NDArray[Any]]:
    """Stored values (Y, X) without their unused bits, and where PixelPaddingValue says that there is no pixel.

    Padding is looked for before and after: −2000 is often written into all 16 bits of 12-bit pixels. It keeps them.
    """
    unused_bits = 16 - pixel_format.bits_stored
    stored = (pixels << unused_bits) >> unused_bits if unused_bits else pixels  # extends the sign of signed pixels
    if pixel_format.padding is None:
        return stored, np.zeros(stored.shape, dtype=bool)
    low, high = pixel_format.padding
    padding = ((pixels >= low) & (pixels <= high)) | ((stored >= low) & (stored <= high))
    return np.where(padding, pixels, stored), padding


def _rescaled(stored: NDArray[Any], pixel_format: PixelFormat) -> NDArray[Any]:
    hu = stored.astype(np.float32)
    hu *= pixel_format.slope
    hu += pixel_format.intercept_hu
    return hu


def _outside_field_of_view(hu: NDArray[Any], *, derived: bool) -> NDArray[Any]:
    """Filler without a padding tag: one value, which reaches a corner. Noise and streaks stay as they are.

    In derived images it may have been blurred by a lossy compression.
    """
    darkest = hu[:: hu.shape[0] - 1 or 1, :: hu.shape[1] - 1 or 1].min()  # of the corners
    if darkest >= OUTSIDE_FOV_HU:
        return np.zeros(hu.shape, dtype=bool)
    return hu < OUTSIDE_FOV_HU if derived else hu == darkest


def _check_plausible(hu: NDArray[Any]) -> None:
    for side, limit_hu, largest_share in PLAUSIBLE_SHARES:
        share = np.count_nonzero(hu < limit_hu if side == "below" else hu > limit_hu) / hu.size
        if share > largest_share:
            raise BadFile(
                f"has implausible HU: {share:.1%} of its pixels are {side} {limit_hu:.0f} HU, {largest_share:.1%} can be; "
                "its RescaleSlope, RescaleIntercept, BitsStored or PixelRepresentation is wrong"
            )
