"""Where the elements of a DICOM file lie, found without decoding any: what is too deep, too large or cut short is refused first.

A file may be made to exhaust whoever reads it: a decoder allocates what a length claims, and the writer of pydicom takes twice as
long for each further level of nested sequences.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

MAX_DEPTH = 32
"""Sequences inside each other; the deepest known objects, structured reports, have some 15."""
MAX_ELEMENTS = 50_000
"""Of a header; a CT slice has some 200."""
MAX_HEADER_BYTES = 2**20
"""Of the values that may be decoded: all but private elements, curves, overlays and pixels."""
MAX_FRAGMENT_BYTES = 64 * 2**20
"""Of a compressed frame: twice the largest slice that is read."""
MAX_FRAGMENTS = 4096
"""Of a compressed frame; most have one."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_SERIES_INSTANCE_UID = 0x0020000E
_UNDECODED_GROUPS = ((0x5000, 0x50FF), (0x6000, 0x60FF), (0x7FE0, 0x7FE0))
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)


class LayoutError(ValueError):
    """The rest of a sentence that begins with the file; `series_instance_uid` is "" where the file did not come to it."""

    def __init__(self, reason: str, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


@dataclass(frozen=True)
class FileLayout:
    """What is known of a data set before it is decoded."""

    series_instance_uid: str
    num_pixel_bytes: int
    """Of PixelData, as it claims, or of its fragments; 0: there is none."""
    num_bytes_left: int
    """From the first of them to the end of the file."""
    is_encapsulated: bool


class _Level(NamedTuple):
    """A sequence or an item that was entered; `end` is None where a delimiter ends it."""

    end: int | None
    is_implicit: bool
    is_sequence: bool


class _Element(NamedTuple):
    tag: int
    vr: bytes  # b"": implicit
    length: int
    start: int  # of the value


def find_layout(
    file: BinaryIO, *, is_implicit: bool, is_little_endian: bool, stop: Callable[[int], bool] = lambda tag: tag in _PIXELS
) -> FileLayout:
    """Walk over the elements from where `file` stands to the pixels (`stop`), or to the end of the file.

    Raises:
        LayoutError: nesting, number or size of the elements is beyond what a CT slice has, or they end before their end.
    """
    order: Literal["little", "big"] = "little" if is_little_endian else "big"
    position, size = file.tell(), _size(file)
    series_instance_uid, num_elements, num_bytes = "", 0, 0
    levels: list[_Level] = []
    depth = 0
    is_implicit = _is_really_implicit(file, position, is_implicit)
    while True:
        while levels and levels[-1].end is not None and position >= levels[-1].end:
            depth -= levels.pop().is_sequence
        level = levels[-1] if levels else _Level(None, is_implicit, False)
        element = _read_element(file, position, order, is_implicit=level.is_implicit)
        if element is None:
            if size > position:
                raise LayoutError("is cut short in its header", series_instance_uid)
            return FileLayout(series_instance_uid, 0, 0, False)
        tag, vr, length, position = element
        num_elements += 1
        if num_elements > MAX_ELEMENTS:
            raise LayoutError(f"has more than {MAX_ELEMENTS} elements in its header", series_instance_uid)
        if not levels and stop(tag):
            if length == _UNDEFINED and tag in _PIXELS:
                num_fragment_bytes = _skip_fragments(file, position, order, at_most=MAX_FRAGMENT_BYTES) - position
                return FileLayout(series_instance_uid, num_fragment_bytes, size - position, True)
            return FileLayout(series_instance_uid, length, size - position, False)
        if tag == _ITEM:
            levels.append(_Level(None if length == _UNDEFINED else position + length, level.is_implicit, False))
        elif tag in (_ITEM_END, _SEQUENCE_END):
            if levels:
                depth -= levels.pop().is_sequence
        elif _is_sequence(file, element, order):
            depth += 1
            if depth > MAX_DEPTH:
                raise LayoutError(f"has sequences nested more than {MAX_DEPTH} deep", series_instance_uid)
            end = None if length == _UNDEFINED else position + length
            # a sequence of unknown VR is implicit (PS3.5 6.2.2), though not every writer knows
            is_inner_implicit = _is_really_implicit(file, position + 8, True) if vr == b"UN" else level.is_implicit or not vr
            levels.append(_Level(end, is_inner_implicit, True))
        elif length == _UNDEFINED:
            position = _skip_fragments(file, position, order)
        else:
            if position + length > size:
                raise LayoutError("is cut short in its header", series_instance_uid)
            num_bytes += 0 if _is_undecoded(tag) else length
            if num_bytes > MAX_HEADER_BYTES:
                raise LayoutError(f"has a header of more than {MAX_HEADER_BYTES // 2**20} MiB", series_instance_uid)
            if tag == _SERIES_INSTANCE_UID and not levels:
                file.seek(position)
                series_instance_uid = file.read(min(length, 64)).decode("ascii", "replace").strip("\0 ")
            position += length


def _size(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


def _is_really_implicit(file: BinaryIO, position: int, is_implicit: bool) -> bool:
    """As pydicom decides, by the first element: some writers name the wrong transfer syntax."""
    file.seek(position)
    vr = file.read(6)[4:]
    return not (vr.isalpha() and vr.isupper()) if len(vr) == 2 else is_implicit


def _read_element(file: BinaryIO, position: int, order: Literal["little", "big"], *, is_implicit: bool) -> _Element | None:
    """The element at `position` (PS3.5 7.1); None where the file ends."""
    file.seek(position)
    head = file.read(12)
    if len(head) < 8:
        return None
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    vr = head[4:6]
    if is_implicit or tag >> 16 == 0xFFFE or not b"AA" <= vr <= b"ZZ":  # as pydicom: some writers change to implicit
        return _Element(tag, b"", int.from_bytes(head[4:8], order), position + 8)
    if vr in _LONG_VRS:
        return _Element(tag, vr, int.from_bytes(head[8:12], order), position + 12) if len(head) == 12 else None
    return _Element(tag, vr, int.from_bytes(head[6:8], order), position + 8)


def _is_sequence(file: BinaryIO, element: _Element, order: Literal["little", "big"]) -> bool:
    """By its VR; of an implicit or unknown one by what it holds, or what the dictionary says of it (PS3.5 6.2.2)."""
    if element.vr not in (b"", b"UN"):
        return element.vr == b"SQ"
    if element.length == _UNDEFINED and element.tag in _PIXELS:
        return False
    if element.length >= 8:
        file.seek(element.start)
        first = file.read(4)
        return int.from_bytes(first[:2], order) << 16 | int.from_bytes(first[2:], order) in (_ITEM, _SEQUENCE_END)
    return False


def _skip_fragments(file: BinaryIO, position: int, order: Literal["little", "big"], *, at_most: int = MAX_HEADER_BYTES) -> int:
    """The place behind fragments and their delimiter (PS3.5 A.4)."""
    start, size = position, _size(file)
    for _ in range(MAX_FRAGMENTS):
        element = _read_element(file, position, order, is_implicit=True)
        if element is None and position == size:  # some writers leave the delimiter out
            return position
        if element is None or element.tag not in (_ITEM, _SEQUENCE_END):
            raise LayoutError("holds compressed pixels that are cut short or broken")
        if element.tag == _SEQUENCE_END:
            return element.start
        position = element.start + element.length
        if position > size:
            raise LayoutError("holds compressed pixels that are cut short or broken")
        if position - start > at_most:
            raise LayoutError(f"holds compressed pixels of more than {at_most} bytes")
    raise LayoutError(f"holds compressed pixels in more than {MAX_FRAGMENTS} fragments")


def _is_undecoded(tag: int) -> bool:
    group = tag >> 16
    return group % 2 == 1 or any(first <= group <= last for first, last in _UNDECODED_GROUPS)
