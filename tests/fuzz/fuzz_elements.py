"""DICOM files taken apart into elements (explicit VR, little endian) and put together again with faults, byte by byte."""

import random
import struct
from dataclasses import dataclass, replace

from fuzz_seeds import PATIENT
from pydicom.datadict import DicomDictionary, tag_for_keyword

from ltdiff.dicom.derived_attributes import RULES

LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
VRS = (*LONG_VRS, b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS")
VRS += (b"ST", b"TM", b"UI", b"UL", b"US", b"??", b"\0\0", b"ab")
ALL_TAGS = sorted(tag for tag in DicomDictionary if 0x00080000 <= tag < 0x7FE00000)
CT_TAGS = sorted(filter(None, (tag_for_keyword(keyword) for rule in RULES for keyword in rule.keywords.split())))
CT_TAGS = [tag for tag in CT_TAGS if tag < 0x7FE00000]
READ = """
    PixelPaddingValue PixelPaddingRangeLimit RescaleType NumberOfFrames SourceImageSequence DerivationDescription
    Exposure NominalPercentageOfCardiacPhase TemporalPositionIdentifier ContrastBolusAgent ReconstructionDiameter
    ReconstructionTargetCenterPatient TimezoneOffsetFromUTC ContributingEquipmentSequence GantryDetectorTilt AcquisitionDateTime
    LossyImageCompression ModalityLUTSequence IssuerOfPatientID
"""
READ_TAGS = [tag_for_keyword(keyword) for keyword in READ.split()]
VALUES = [
    b"", b" ", b"\0", b"\0\0", b"0", b"-1", b"1", b"1,5", b"1.5", b"NaN", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-320",
    b"1e999", b"99999999999999999999", b"2147483647", b"-2147483648", b"65536", b"1_0", b"0x10", b"1\\2", b"1\\2\\3\\4\\5\\6",
    b"\\", b"\\\\\\", b"1\\\\2", b"YES", b"NO", b"HU", b"US", b"CT", b"MR", b"ORIGINAL\\PRIMARY\\LOCALIZER", b"DERIVED",
    b"ISO_IR 192", b"ISO_IR 13", b"\\ISO 2022 IR 87", b"no such thing", b"1.2", b"1..2", b".1", b"1.2.840.10008.5.1.4.1.1.2",
    b"1.2.840.10008.5.1.4.1.1.4", b"1" * 65, b"../../x", b"/etc/passwd", b"line\nline", b"\x1b$B\x1b$B", b"\xff\xfe\xfd",
    b"\xc3\x28", b"M\xfcller", b"%s%n{0}", b"+0900", b"19991331", b"x" * 70, b"x" * 1100, b"\\".join([b"1"] * 300),
    b"x" * 70000, PATIENT.encode(),
    *(struct.pack("<H", number) for number in (1, 8, 12, 15, 16, 17, 32, 0x7FFF, 0x8000, 0xF830, 0xFFFF)),
    *(struct.pack("<HH", *numbers) for numbers in ((1, 2), (0xF830, 0xF830), (0xFFFF, 0xFFFF))),
    struct.pack("<d", float("nan")), struct.pack("<d", float("inf")), struct.pack("<d", 1e300), struct.pack("<f", -2000.0),
]  # fmt: skip


@dataclass(frozen=True)
class Element:
    """An element as it stands in the file; `length` is the length that it claims where that is not the truth."""

    tag: int
    vr: bytes
    value: bytes
    length: int | None = None

    def encoded(self) -> bytes:
        head = struct.pack("<HH", self.tag >> 16, self.tag & 0xFFFF) + self.vr
        length = len(self.value) if self.length is None else self.length
        if self.vr in LONG_VRS:
            return head + struct.pack("<HI", 0, length & 0xFFFFFFFF) + self.value
        return head + struct.pack("<H", length & 0xFFFF) + self.value[: 0xFFFF if self.length is None else None]


def split(file: bytes) -> tuple[bytes, list[Element]]:
    """The preamble with the file meta information, and the elements behind it; PixelData comes last, whatever is in it."""
    start = 144 + struct.unpack("<I", file[140:144])[0]
    head, rest, elements = file[:start], file[start:], []
    while rest:
        group, number = struct.unpack("<HH", rest[:4])
        vr, tag = rest[4:6], group << 16 | number
        size, length = (12, struct.unpack("<I", rest[8:12])[0]) if vr in LONG_VRS else (8, struct.unpack("<H", rest[6:8])[0])
        if length == 0xFFFFFFFF:
            elements.append(Element(tag, vr, rest[size:], length))
            break
        elements.append(Element(tag, vr, rest[size : size + length]))
        rest = rest[size + length :]
    return head, elements


def join(head: bytes, elements: list[Element]) -> bytes:
    return head + b"".join(element.encoded() for element in elements)


def random_value(rng: random.Random) -> bytes:
    value = rng.choice(VALUES) if rng.random() < 0.85 else rng.randbytes(rng.randrange(40))
    return value if rng.random() < 0.05 else value + b" " * (len(value) % 2)  # 1 in 20 may be of odd length


def break_elements(elements: list[Element], rng: random.Random) -> list[Element]:
    """One fault somewhere in a header, rarely two."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        elements = rng.choice(_FAULTS)(list(elements), rng)
    return elements


def _any(elements: list[Element], rng: random.Random) -> int:
    return rng.randrange(max(1, len(elements) - 1))  # but PixelData


def _other_value(elements: list[Element], rng: random.Random) -> list[Element]:
    index = _any(elements, rng)
    elements[index] = replace(elements[index], value=random_value(rng))
    return elements


def _other_vr(elements: list[Element], rng: random.Random) -> list[Element]:
    index = _any(elements, rng)
    elements[index] = replace(elements[index], vr=rng.choice(VRS))
    return elements


def _other_length(elements: list[Element], rng: random.Random) -> list[Element]:
    index = rng.randrange(len(elements))
    length = len(elements[index].value)
    wrong = rng.choice((0, 1, length - 1, length + 1, length + 2, length // 2, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF))
    elements[index] = replace(elements[index], length=wrong)
    return elements


def _absent(elements: list[Element], rng: random.Random) -> list[Element]:
    del elements[_any(elements, rng)]
    return elements


def _twice(elements: list[Element], rng: random.Random) -> list[Element]:
    index = _any(elements, rng)
    again = elements[index] if rng.random() < 0.5 else replace(elements[index], value=random_value(rng))
    return [*elements[: index + 1], again, *elements[index + 1 :]]


def _out_of_order(elements: list[Element], rng: random.Random) -> list[Element]:
    elements.insert(_any(elements, rng), elements.pop(_any(elements, rng)))
    return elements


def _new(elements: list[Element], rng: random.Random) -> list[Element]:
    """An attribute of the dictionary, in its own type or another."""
    tag = rng.choice(rng.choice((ALL_TAGS, CT_TAGS, READ_TAGS)))
    vr = DicomDictionary[tag][0][:2].encode() if rng.random() < 0.7 else rng.choice(VRS)
    return sorted([*elements, Element(tag, vr, random_value(rng))], key=lambda element: element.tag)


_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)


def _nested(elements: list[Element], rng: random.Random) -> list[Element]:
    """Sequences in each other, with their lengths or without, in a tag that is kept, dropped, private or unknown."""
    depth = rng.choice((1, 8, 31, 33, 100, 245, 300, 600))
    tag = rng.choice((0x00081110, 0x00081032, 0x00291001, 0x00400275, 0x0040A730, 0x0010FFF0))
    open_ended = rng.random() < 0.5
    value = Element(0x00080104, b"LO", b"innermost ").encoded()
    for _ in range(depth):
        if open_ended:
            item = _ITEM + b"\xff\xff\xff\xff" + value + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            outer = Element(tag, b"SQ", item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), 0xFFFFFFFF)
        else:
            vr = rng.choice((b"SQ", b"SQ", b"SQ", b"UN"))
            outer = Element(tag, vr, _ITEM + struct.pack("<I", len(value)) + value)
        value = outer.encoded()
    return sorted([*elements, outer], key=lambda element: element.tag)


_FAULTS = (_other_value,) * 4 + (_other_vr, _other_vr, _new, _new, _other_length, _absent, _twice, _out_of_order, _nested)


def break_bytes(file: bytes, rng: random.Random, *, start: int = 0) -> bytes:
    """Bytes behind `start` changed, cut out, put in or cut off."""
    changed = bytearray(file)
    fault = rng.randrange(5)
    at = rng.randrange(start, max(start + 1, len(changed)))
    if fault == 0:
        for _ in range(rng.choice((1, 1, 4, 30))):
            changed[rng.randrange(start, len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif fault == 1:
        del changed[at:]
    elif fault == 2:
        del changed[at : at + rng.choice((1, 2, 8, 100))]
    elif fault == 3:
        changed[at:at] = rng.choice((b"\0", b"\xff\xff\xff\xff", b"\0" * 1000, rng.randbytes(20)))
    else:
        changed += rng.choice((b"\0", b"\0" * 100_000, rng.randbytes(50)))
    return bytes(changed)
