"""The values of single DICOM elements, checked: a value of the wrong kind raises BadFile naming the keyword.

The sentences hold numbers, and never text: whatever stands in an element that should not may be a patient's name.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pydicom
from pydicom.charset import default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from ltdiff.dicom.dicom_file import BadFile, shared_tag

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_UID_LENGTH = 64
MAX_BYTES = 4096
"""Of an element that is read; the longest, a text, has 1024 characters."""
_MAX_SHOWN = 6
"""Numbers in a sentence."""
_MAX_REMEMBERED_BYTES = 256
"""Of a value that is converted once: most elements say the same in all slices of a series."""
_PATIENT_NAME = 0x00100010
_Value = str | int | float


def _values_of(dataset: pydicom.Dataset, keyword: str, *, max_bytes: int = MAX_BYTES) -> Sequence[_Value]:
    """All values; none when the element is absent or empty."""
    tag = tag_of(keyword)
    try:
        raw = dataset.get_item(tag)
        if raw is None:
            return ()
        if isinstance(raw, RawDataElement):
            num_bytes = len(raw.value or b"")
            if num_bytes > max_bytes:  # before it becomes a million numbers
                raise BadFile(f"has a {keyword} of {num_bytes} bytes")
            if num_bytes <= _MAX_REMEMBERED_BYTES and (values := _remembered(dataset, raw)) is not None:
                return values
        element = dataset[tag]
        value = element.value
    except BadFile:
        raise
    except Exception as error:  # what pydicom raises for an unknown VR, a decimal comma, a wrong length …
        raise BadFile(f"has an unreadable {keyword}") from error
    if value is None or value == "" or value == b"":
        return ()
    if element.VR == VR.US_SS and isinstance(value, bytes) and len(value) % 2 == 0:  # pydicom leaves the sign to who asks
        return [int.from_bytes(value[place : place + 2], "little") for place in range(0, len(value), 2)]
    values = _listed(tag, value)
    if not all(isinstance(item, _Value) for item in values):
        raise BadFile(f"has a {keyword} of the wrong kind ({element.VR})")
    return values


def _listed(tag: int, value: Any) -> list[Any]:
    """A name is a text where a name belongs, and nowhere else."""
    items = list(value) if isinstance(value, MultiValue | list) else [value]
    return list(map(str, items)) if tag == _PATIENT_NAME else items


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword of the standard."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return shared_tag(tag)


def _remembered(dataset: pydicom.Dataset, raw: RawDataElement) -> tuple[_Value, ...] | None:
    """The values of an element whose meaning hangs on no other one but the character set; None where they are of another kind."""
    encodings = dataset.original_character_set or default_encoding
    names = (encodings,) if isinstance(encodings, str) else tuple(encodings)
    return _converted(raw.tag, raw.VR, raw.value or b"", raw.is_little_endian, names)


@lru_cache(maxsize=8192)
def _converted(
    tag: BaseTag, vr: str | None, value: bytes, is_little_endian: bool, encodings: tuple[str, ...]
) -> tuple[_Value, ...] | None:
    raw = RawDataElement(tag, vr, len(value), value, 0, vr is None, is_little_endian)
    element = convert_raw_data_element(raw, encoding=list(encodings))
    found = element.value
    if found is None or found in ("", b""):
        return ()
    values = tuple(_listed(tag, found))
    return values if all(isinstance(item, _Value) for item in values) else None


def has_value(dataset: pydicom.Dataset, keyword: str) -> bool:
    """Whether the element is there and not empty, whatever it holds."""
    try:
        return keyword in dataset and bool(dataset.get_item(keyword).value)
    except Exception:  # as above
        return True


def texts_of(dataset: pydicom.Dataset, keyword: str, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """All values as stripped text; [] when absent."""
    return [str(item).strip() for item in _values_of(dataset, keyword, max_bytes=max_bytes)]


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """The value as stripped text, several joined with a backslash as in the file; "" when absent."""
    return "\\".join(texts_of(dataset, keyword))


def numbers_of(dataset: pydicom.Dataset, keyword: str, *, count: int) -> tuple[float, ...]:
    """Exactly `count` finite numbers."""
    values = _values_of(dataset, keyword)
    if not values:
        raise BadFile(f"has no {keyword}")
    try:
        numbers = tuple(map(float, values))
    except ValueError as error:
        raise BadFile(f"has a {keyword} that is not a number") from error
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        shown = str(list(numbers[:_MAX_SHOWN])) + "…" * (len(numbers) > _MAX_SHOWN)
        raise BadFile(f"has {keyword} {shown} where {count} finite numbers belong")
    return numbers


def number_of(dataset: pydicom.Dataset, keyword: str) -> float:
    """One finite number."""
    return numbers_of(dataset, keyword, count=1)[0]


def optional_number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """One finite number, or None when absent."""
    return number_of(dataset, keyword) if _values_of(dataset, keyword) else None


def integer_of(dataset: pydicom.Dataset, keyword: str) -> int:
    """One whole number."""
    number = number_of(dataset, keyword)
    if number != int(number):
        raise BadFile(f"has {keyword} {number}, which is not a whole number")
    return int(number)


def optional_integer_of(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """One whole number, or None when absent."""
    return integer_of(dataset, keyword) if _values_of(dataset, keyword) else None


def uid_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """A well-formed unique identifier: digits and dots, at most 64 of them (PS3.5 9.1), so never a path."""
    uid = optional_uid_of(dataset, keyword)
    if not uid:
        raise BadFile(f"has no {keyword}")
    return uid


def optional_uid_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """As `uid_of`, or "" when absent."""
    text = text_of(dataset, keyword)
    if text and (len(text) > _MAX_UID_LENGTH or not _UID.fullmatch(text)):
        raise BadFile(f"has a {keyword} that is no UID")
    return text
