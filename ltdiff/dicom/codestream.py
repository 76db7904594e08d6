"""The size that a compressed frame claims in its own header: a decoder believes that one, not the DICOM header's."""

from __future__ import annotations

_JPEG_START = b"\xff\xd8"
_JPEG2000_START = b"\xff\x4f\xff\x51"  # start of codestream, then SIZ at once (ISO 15444-1 A.5)
_MAX_BOXES = 1024  # bytes of boxes before the codestream, which DICOM forbids and some writers leave
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # second byte; 0xF7 is JPEG-LS (ISO 10918-1 B.1.1.3)


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS or JPEG 2000 frame; None where there is no such header (RLE)."""
    start = frame.find(_JPEG2000_START, 0, _MAX_BOXES)
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
