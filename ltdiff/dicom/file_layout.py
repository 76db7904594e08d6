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


class _Walk:
    """What was met on the way through a file: the levels that were entered and not left, and the elements that were kept."""

    def __init__(self, file: BinaryIO, order: _Order, *, is_implicit: bool, wanted: Collection[int]) -> None:
        self.window, self.order, self.wanted = _Window(file), order, wanted
        self.is_implicit = _is_really_implicit(self.window, self.window.start, is_implicit)
        self.series_instance_uid = ""
        self.elements: dict[int, FoundElement] = {}
        self.levels: list[_Level] = []
        self.depth = self.num_bytes = 0
        self.outer = (0, 0)  # start and tag of the sequence that was entered first, if a delimiter ends it

    def refuse(self, reason: str) -> LayoutError:
        return LayoutError(reason, self.series_instance_uid)

    def stop(self, start: int, tag: int, length: int, position: int) -> FileLayout:
        """The layout of a file whose walk ends with this element, which is that of the pixels but for meta information."""
        num_left, is_encapsulated = self.window.size - position, length == UNDEFINED and tag in _PIXELS
        if is_encapsulated:
            length = _skip_fragments(self.window, position, self.order, at_most=MAX_FRAGMENT_BYTES) - position
        return FileLayout(
            self.series_instance_uid, start, self.is_implicit, tag, length, num_left, is_encapsulated, self.elements
        )

    def is_sequence(self, tag: int, length: int, position: int) -> bool:
        """Whether an element of unknown VR is a sequence, by what it begins with (PS3.5 6.2.2)."""
        offset = position - self.window.start
        begin = self.window.content[offset : offset + 4]
        if len(begin) < 4:
            begin = self.window.read(position, 4)
        return begin in self.order.starts and not (length == UNDEFINED and tag in _PIXELS)

    def enter_item(self, length: int, position: int, *, is_implicit: bool) -> None:
        self.levels.append(_Level(None if length == UNDEFINED else position + length, is_implicit, False))

    def enter_sequence(self, start: int, tag: int, vr: bytes, length: int, position: int, *, is_implicit: bool) -> None:
        if not self.levels:
            self.outer = start, tag if length == UNDEFINED else 0
            if tag in self.wanted and length != UNDEFINED:
                self.elements[tag] = FoundElement(vr.decode("latin-1"), length, self.window.read(position, length))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.refuse(f"has sequences nested more than {MAX_DEPTH} deep")
        end = None if length == UNDEFINED else position + length
        # a sequence of unknown VR is implicit (PS3.5 6.2.2), though not every writer knows
        is_inner_implicit = _is_really_implicit(self.window, position + 8, True) if vr == b"UN" else is_implicit or not vr
        self.levels.append(_Level(end, is_inner_implicit, True))

    def leave(self) -> None:
        self.depth -= self.levels.pop().is_sequence

    def delimit(self, position: int) -> None:
        """Leave the item or sequence that ends with a delimiter before `position`."""
        if not self.levels:
            self.wanted = ()  # to pydicom, a data set ends here
            return
        self.leave()
        start, tag = self.outer
        if not self.levels and tag in self.wanted:  # it had no length
            self.elements[tag] = FoundElement("SQ", UNDEFINED, self.window.read(start, position - start))

    def pass_value(self, tag: int, vr: bytes, length: int, position: int) -> None:
        """Count the bytes of a value that is no sequence, and keep it where it is wanted."""
        if position + length > self.window.size:
            raise self.refuse("is cut short in its header")
        group = tag >> 16
        self.num_bytes += 0 if group % 2 or group in _UNDECODED_GROUPS else length
        if self.num_bytes > MAX_HEADER_BYTES:
            raise self.refuse(f"has a header of more than {MAX_HEADER_BYTES // 2**20} MiB")
        if self.levels:
            return
        if tag in self.wanted and 0 < length <= MAX_HEADER_BYTES:
            self.elements[tag] = FoundElement(vr.decode("latin-1"), length, self.window.read(position, length))
        if tag == _SERIES_INSTANCE_UID:
            self.series_instance_uid = self.window.read(position, min(length, 64)).decode("ascii", "replace").strip("\0 ")


def find_layout(
    file: BinaryIO, *, is_implicit: bool, is_little_endian: bool, wanted: Collection[int] = (), is_meta: bool = False
) -> FileLayout:
    """Walk over the elements from where `file` stands to the pixels, or to the end of the file.

    Those of the `wanted` tags are kept as they stand in the file. Of meta information, the walk ends with its group.

    Raises:
        LayoutError: nesting, number or size of the elements is beyond what a CT slice has, or they end before their end.
    """
    order = _LITTLE if is_little_endian else _BIG
    read_implicit, read_explicit, read_length = order.implicit.unpack_from, order.explicit.unpack_from, order.length.unpack_from
    walk = _Walk(file, order, is_implicit=is_implicit, wanted=wanted)
    window, levels = walk.window, walk.levels
    position, num_elements = window.start, 0
    while True:
        while levels and levels[-1].end is not None and position >= levels[-1].end:
            walk.leave()
        # PS3.5 7.1. In place, and not in a function: this loop is most of the time that a header takes
        level_is_implicit = levels[-1].is_implicit if levels else walk.is_implicit
        offset = position - window.start
        if not 0 <= offset <= len(window.content) - 12:
            window.move(position)
            offset = 0
            if len(window.content) < 8:
                break
        content, start, vr = window.content, position, b""
        if not level_is_implicit:
            group, number, vr, length = read_explicit(content, offset)
        if level_is_implicit or group == 0xFFFE or not b"AA" <= vr <= b"ZZ":  # as pydicom: some writers change to implicit
            group, number, length = read_implicit(content, offset)
            vr, position = b"", position + 8
        elif vr in _LONG_VRS:
            if len(content) - offset < 12:
                break
            length, position = read_length(content, offset + 8)[0], position + 12
        else:
            position += 8
        tag = group << 16 | number
        num_elements += 1
        if num_elements > MAX_ELEMENTS:
            raise walk.refuse(f"has more than {MAX_ELEMENTS} elements in its header")
        if not levels and (group != 2 if is_meta else tag in _PIXELS):
            return walk.stop(start, tag, length, position)
        if tag == _ITEM:
            walk.enter_item(length, position, is_implicit=level_is_implicit)
        elif tag in (_ITEM_END, _SEQUENCE_END):
            walk.delimit(position)
        elif vr == b"SQ" or (length >= 8 and (not vr or vr == b"UN") and walk.is_sequence(tag, length, position)):
            walk.enter_sequence(start, tag, vr, length, position, is_implicit=level_is_implicit)
        elif length == UNDEFINED:
            position = _skip_fragments(window, position, order)
        else:
            walk.pass_value(tag, vr, length, position)
            position += length
    if window.size > position:
        raise walk.refuse("is cut short in its header")
    return FileLayout(walk.series_instance_uid, window.size, walk.is_implicit, elements=walk.elements)


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
