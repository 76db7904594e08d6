"""Where the elements of a DICOM file lie, found without decoding any: what is too deep, too large or cut short is refused first.

A file may be made to exhaust whoever reads it: a decoder allocates what a length claims, and the writer of pydicom takes twice as
long for each further level of nested sequences.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from struct import Struct
from typing import BinaryIO, NamedTuple

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

UNDEFINED = 0xFFFFFFFF
"""Length of what a delimiter ends."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_SERIES_INSTANCE_UID = 0x0020000E
_UNDECODED_GROUPS = frozenset([*range(0x5000, 0x5100), *range(0x6000, 0x6100), 0x7FE0])
"""Curves, overlays and pixels; beside them private groups, which are odd."""
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_WINDOW_BYTES = 2**14
"""Read at a time: the whole header of most slices."""


class LayoutError(ValueError):
    """The rest of a sentence that begins with the file; `series_instance_uid` is "" where the file did not come to it."""

    def __init__(self, reason: str, series_instance_uid: str = "") -> None:
        super().__init__(reason)
        self.series_instance_uid = series_instance_uid


class FoundElement(NamedTuple):
    """An element of the data set itself, undecoded. Of a sequence that a delimiter ends, `value` is all of it with its tag."""

    vr: str  # "": implicit
    length: int
    value: bytes


@dataclass(frozen=True)
class FileLayout:
    """What is known of a data set before it is decoded."""

    series_instance_uid: str
    end: int
    """Place of the element that stopped the walk, or the end of the file."""
    is_implicit: bool
    """Whether the elements are without a VR, whatever the transfer syntax says."""
    stopped_at: int = 0
    """Tag of the element that stopped the walk; 0: none."""
    num_pixel_bytes: int = 0
    """Of PixelData, as it claims, or of its fragments; 0: there is none."""
    num_bytes_left: int = 0
    """From the first of them to the end of the file."""
    is_encapsulated: bool = False
    elements: dict[int, FoundElement] = field(default_factory=dict)
    """Those that were wanted, by tag."""


class _Level(NamedTuple):
    """A sequence or an item that was entered; `end` is None where a delimiter ends it."""

    end: int | None
    is_implicit: bool
    is_sequence: bool


class _Order(NamedTuple):
    """How numbers are read out of bytes at an offset."""

    implicit: Struct  # group, element, length
    explicit: Struct  # group, element, VR, length of 16 bits
    length: Struct
    starts: frozenset[bytes]  # of what a sequence holds

    @classmethod
    def of(cls, sign: str) -> "_Order":
        starts = (Struct(f"{sign}HH").pack(tag >> 16, tag & 0xFFFF) for tag in (_ITEM, _SEQUENCE_END))
        return cls(Struct(f"{sign}HHL"), Struct(f"{sign}HH2sH"), Struct(f"{sign}L"), frozenset(starts))


_LITTLE, _BIG = _Order.of("<"), _Order.of(">")


class _Window:
    """A part of the file in memory, which moves along as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.start = file.tell()
        self.size = file.seek(0, 2)
        self.content = b""

    def move(self, position: int, num_bytes: int = 0) -> None:
        """Have what lies at `position`, so many bytes of it or as many as are left."""
        self.file.seek(position)
        self.start, self.content = position, self.file.read(max(num_bytes, _WINDOW_BYTES))

    def read(self, position: int, num_bytes: int) -> bytes:
        """So many bytes, or as many as are left."""
        offset = position - self.start
        if not 0 <= offset <= len(self.content) - num_bytes:
            self.move(position, num_bytes)
            offset = 0
        return self.content[offset : offset + num_bytes]


def find_layout(
    file: BinaryIO, *, is_implicit: bool, is_little_endian: bool, wanted: Collection[int] = (), is_meta: bool = False
) -> FileLayout:
    """Walk over the elements from where `file` stands to the pixels, or to the end of the file.

    Those of the `wanted` tags are kept as they stand in the file. Of meta information, the walk ends with its group.

    Raises:
        LayoutError: nesting, number or size of the elements is beyond what a CT slice has, or they end before their end.
    """
    order = _LITTLE if is_little_endian else _BIG
    implicit, explicit, long_length = order.implicit.unpack_from, order.explicit.unpack_from, order.length.unpack_from
    window = _Window(file)
    position, size = window.start, window.size
    series_instance_uid, num_elements, num_bytes = "", 0, 0
    elements: dict[int, FoundElement] = {}
    levels: list[_Level] = []
    depth, outer = 0, (0, 0)  # start and tag of the sequence that was entered first
    is_implicit = _is_really_implicit(window, position, is_implicit)
    top = _Level(None, is_implicit, False)
    content, base = window.content, window.start
    while True:
        while levels and levels[-1].end is not None and position >= levels[-1].end:
            depth -= levels.pop().is_sequence
        level = levels[-1] if levels else top
        # PS3.5 7.1. In place, and not in a function: this loop is most of the time that a header takes
        if content is not window.content:
            content, base = window.content, window.start
        offset = position - base
        if not 0 <= offset <= len(content) - 12:
            window.move(position)
            content, base, offset = window.content, position, 0
            if len(content) < 8:
                break
        first, vr = position, b""
        if not level.is_implicit:
            group, number, vr, length = explicit(content, offset)
        if level.is_implicit or group == 0xFFFE or not b"AA" <= vr <= b"ZZ":  # as pydicom: some writers change to implicit
            group, number, length = implicit(content, offset)
            vr, position = b"", position + 8
        elif vr in _LONG_VRS:
            if len(content) - offset < 12:
                break
            length, position = long_length(content, offset + 8)[0], position + 12
        else:
            position += 8
        tag = group << 16 | number
        num_elements += 1
        if num_elements > MAX_ELEMENTS:
            raise LayoutError(f"has more than {MAX_ELEMENTS} elements in its header", series_instance_uid)
        if not levels and (group != 2 if is_meta else tag in _PIXELS):
            num_left, is_encapsulated = size - position, length == UNDEFINED and tag in _PIXELS
            if is_encapsulated:
                length = _skip_fragments(window, position, order, at_most=MAX_FRAGMENT_BYTES) - position
            return FileLayout(series_instance_uid, first, is_implicit, tag, length, num_left, is_encapsulated, elements)
        is_sequence = vr == b"SQ"
        if length >= 8 and (not vr or vr == b"UN"):  # by what it begins with (PS3.5 6.2.2)
            start = content[position - base : position - base + 4]
            start = start if len(start) == 4 else window.read(position, 4)
            is_sequence = start in order.starts and not (length == UNDEFINED and tag in _PIXELS)
        if tag == _ITEM:
            levels.append(_Level(None if length == UNDEFINED else position + length, level.is_implicit, False))
        elif tag in (_ITEM_END, _SEQUENCE_END):
            if not levels:
                wanted = ()  # to pydicom, a data set ends here
            else:
                depth -= levels.pop().is_sequence
                if not levels and outer[1] in wanted:  # it had no length
                    value = window.read(outer[0], position - outer[0])
                    elements[outer[1]] = FoundElement("SQ", UNDEFINED, value)
        elif is_sequence:
            if not levels:
                outer = first, tag if length == UNDEFINED else 0
                if tag in wanted and length != UNDEFINED:
                    elements[tag] = FoundElement(vr.decode(), length, window.read(position, length))
            depth += 1
            if depth > MAX_DEPTH:
                raise LayoutError(f"has sequences nested more than {MAX_DEPTH} deep", series_instance_uid)
            end = None if length == UNDEFINED else position + length
            # a sequence of unknown VR is implicit (PS3.5 6.2.2), though not every writer knows
            is_inner_implicit = _is_really_implicit(window, position + 8, True) if vr == b"UN" else level.is_implicit or not vr
            levels.append(_Level(end, is_inner_implicit, True))
        elif length == UNDEFINED:
            position = _skip_fragments(window, position, order)
        else:
            if position + length > size:
                raise LayoutError("is cut short in its header", series_instance_uid)
            num_bytes += 0 if group % 2 or group in _UNDECODED_GROUPS else length
            if num_bytes > MAX_HEADER_BYTES:
                raise LayoutError(f"has a header of more than {MAX_HEADER_BYTES // 2**20} MiB", series_instance_uid)
            if not levels:
                if tag in wanted and 0 < length <= MAX_HEADER_BYTES:
                    elements[tag] = FoundElement(vr.decode(), length, window.read(position, length))
                if tag == _SERIES_INSTANCE_UID:
                    series_instance_uid = window.read(position, min(length, 64)).decode("ascii", "replace").strip("\0 ")
            position += length
    if size > position:
        raise LayoutError("is cut short in its header", series_instance_uid)
    return FileLayout(series_instance_uid, size, is_implicit, elements=elements)


def _is_really_implicit(window: _Window, position: int, is_implicit: bool) -> bool:
    """As pydicom decides, by the first element: some writers name the wrong transfer syntax."""
    vr = window.read(position, 6)[4:]
    return not (vr.isalpha() and vr.isupper()) if len(vr) == 2 else is_implicit


def _skip_fragments(window: _Window, position: int, order: _Order, *, at_most: int = MAX_HEADER_BYTES) -> int:
    """The place behind fragments and their delimiter (PS3.5 A.4)."""
    start, size = position, window.size
    for _ in range(MAX_FRAGMENTS):
        head = window.read(position, 8)
        if len(head) < 8 and position == size:  # some writers leave the delimiter out
            return position
        if len(head) < 8:
            raise LayoutError("holds compressed pixels that are cut short or broken")
        group, number, length = order.implicit.unpack(head)
        if (tag := group << 16 | number) not in (_ITEM, _SEQUENCE_END):
            raise LayoutError("holds compressed pixels that are cut short or broken")
        position += 8
        if tag == _SEQUENCE_END:
            return position
        position += length
        if position > size:
            raise LayoutError("holds compressed pixels that are cut short or broken")
        if position - start > at_most:
            raise LayoutError(f"holds compressed pixels of more than {at_most} bytes")
    raise LayoutError(f"holds compressed pixels in more than {MAX_FRAGMENTS} fragments")
