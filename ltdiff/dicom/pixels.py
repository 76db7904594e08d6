"""The pixels of one CT slice: stored values, which of them are padding, HU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGTransferSyntaxes

from ltdiff.dicom.codestream import codestream_size
from ltdiff.dicom.errors import BadFile
from ltdiff.dicom.file import read_pixel_bytes, without_warnings
from ltdiff.dicom.header import Header, PixelFormat, read_header
from ltdiff.system.text import printable

AIR_FILL_HU = -1024.0  # what padding becomes: nothing was measured there, and air is what lies around a patient
OUTSIDE_FOV_HU = -1500.0  # a corner below this holds no air but a scanner's filler (−2000, −2048, −3024)

# The largest share of a CT slice's pixels that is below or above so many HU. Wrong signedness, wrong BitsStored or a
# wrong rescale puts far more of them there.
PLAUSIBLE_SHARES = (
    ("below", -2000.0, 0.001),
    ("below", -1200.0, 0.5),
    ("above", 1500.0, 0.5),
    ("above", 2500.0, 0.1),
)


@dataclass(frozen=True)
class StoredSlice:
    """A decoded slice: as it is stored, and what that means."""

    header: Header
    stored: np.ndarray  # (Y, X) int16 or uint16
    padding: np.ndarray  # (Y, X) bool: no pixel here
    hu: np.ndarray  # (Y, X) float32, AIR_FILL_HU where there is padding


def read_slice_hu(path: Path) -> np.ndarray:
    """One CT slice in HU, (Y, X) float32, with padding and what lies outside the field of view at AIR_FILL_HU.

    Raises ValueError with a sentence that names the file: no CT slice, broken, not decodable, or implausible HU.
    """
    return read_stored_slice(path).hu


def read_stored_slice(path: Path) -> StoredSlice:
    """One CT slice as it is stored. Raises ValueError as `read_slice_hu` does."""
    header = read_header(path)
    try:
        stored, padding = _tagged_padding(_decoded(header), header.pixel_format)
        hu = _rescaled(stored, header.pixel_format)
        padding |= _outside_field_of_view(hu, derived=header.derived)
        hu[padding] = AIR_FILL_HU
        _check_plausible(hu)
    except BadFile as error:
        raise BadFile(f"{printable(path)} {error}", series_instance_uid=header.series_instance_uid) from error
    return StoredSlice(header, stored, padding, hu)


def _decoded(header: Header) -> np.ndarray:
    transfer_syntax = header.pixel_format.transfer_syntax
    shape = (header.geometry.rows, header.geometry.columns)
    _check_decoder(transfer_syntax)
    try:
        with without_warnings():
            if transfer_syntax.is_encapsulated:
                _check_claimed_size(header.path, shape)
            source: Path | pydicom.Dataset = header.path
            if transfer_syntax == DeflatedExplicitVRLittleEndian:  # pydicom's fast path does not inflate
                source = pydicom.dcmread(header.path)
            pixels = pixel_array(source, correct_unused_bits=False)
    except (BadFile, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each decoder has its own; the panic of one written in Rust is no Exception
        raise BadFile(f"cannot be decoded as {transfer_syntax.name} ({type(error).__name__})") from error
    if pixels.shape != shape:
        raise BadFile(f"holds {pixels.shape} pixels where its header says {shape}")
    return pixels


def _check_claimed_size(path: Path, shape: tuple[int, int]) -> None:
    """Before decoding: a decoder allocates what the frame's own header says, were it 60000 × 60000."""
    claimed = codestream_size(next(generate_frames(read_pixel_bytes(path), number_of_frames=1), b""))
    if claimed not in (None, shape):
        raise BadFile(f"holds a compressed frame of {claimed} pixels where its header says {shape}")


def _check_decoder(transfer_syntax: UID) -> None:
    try:
        available = get_decoder(transfer_syntax).is_available
    except NotImplementedError as error:
        raise BadFile(f"is compressed as {transfer_syntax.name}, which cannot be decoded") from error
    if not available:
        package = "pylibjpeg-libjpeg" if transfer_syntax in JPEGTransferSyntaxes else "'ltdiff[codecs]'"
        raise BadFile(f"is compressed as {transfer_syntax.name}; to decode it: pip install {package}")


def _tagged_padding(pixels: np.ndarray, pixel_format: PixelFormat) -> tuple[np.ndarray, np.ndarray]:
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


def _rescaled(stored: np.ndarray, pixel_format: PixelFormat) -> np.ndarray:
    hu = stored.astype(np.float32)
    hu *= pixel_format.slope
    hu += pixel_format.intercept_hu
    return hu


def _outside_field_of_view(hu: np.ndarray, *, derived: bool) -> np.ndarray:
    """Filler without a padding tag: one value, which reaches a corner. Noise and streaks stay as they are.

    In derived images it may have been blurred by a lossy compression.
    """
    darkest = hu[:: hu.shape[0] - 1 or 1, :: hu.shape[1] - 1 or 1].min()  # of the corners
    if darkest >= OUTSIDE_FOV_HU:
        return np.zeros(hu.shape, dtype=bool)
    return hu < OUTSIDE_FOV_HU if derived else hu == darkest


def _check_plausible(hu: np.ndarray) -> None:
    for side, limit_hu, largest_share in PLAUSIBLE_SHARES:
        share = np.count_nonzero(hu < limit_hu if side == "below" else hu > limit_hu) / hu.size
        if share > largest_share:
            raise BadFile(
                f"has implausible HU: {share:.1%} of its pixels are {side} {limit_hu:.0f} HU, {largest_share:.1%} can be; "
                "its RescaleSlope, RescaleIntercept, BitsStored or PixelRepresentation is wrong"
            )
