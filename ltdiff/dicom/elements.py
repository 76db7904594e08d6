"""The values of single DICOM elements, checked: a value of the wrong kind raises BadFile naming keyword and value."""

import math
import re
from typing import Any

import pydicom
from pydicom.multival import MultiValue

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.system.text import quoted

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_UID_LENGTH = 64


def value_of(dataset: pydicom.Dataset, keyword: str) -> Any:
    """The element's value; None when it is absent or empty."""
    try:
        value = dataset.get(keyword)
    except Exception as error:  # what pydicom raises for an unknown VR, a decimal comma, a wrong length …
        raise BadFile(f"has an unreadable {keyword}") from error
    return None if value is None or value == "" else value


def texts_of(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """All values as stripped text; [] when absent."""
    value = value_of(dataset, keyword)
    if value is None:
        return []
    return [str(item).strip() for item in (value if isinstance(value, MultiValue | list) else [value])]


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """The value as stripped text, several joined with a backslash as in the file; "" when absent."""
    return "\\".join(texts_of(dataset, keyword))


def numbers_of(dataset: pydicom.Dataset, keyword: str, *, count: int) -> tuple[float, ...]:
    """Exactly `count` finite numbers."""
    texts = texts_of(dataset, keyword)
    if not texts:
        raise BadFile(f"has no {keyword}")
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError as error:
        raise BadFile(f"has {keyword} {quoted(texts)}, which is not a number") from error
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise BadFile(f"has {keyword} {quoted(list(numbers))} where {count} finite numbers belong")
    return numbers


def number_of(dataset: pydicom.Dataset, keyword: str) -> float:
    """One finite number."""
    return numbers_of(dataset, keyword, count=1)[0]


def optional_number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """One finite number, or None when absent."""
    return number_of(dataset, keyword) if texts_of(dataset, keyword) else None


def integer_of(dataset: pydicom.Dataset, keyword: str) -> int:
    """One whole number."""
    number = number_of(dataset, keyword)
    if number != int(number):
        raise BadFile(f"has {keyword} {number}, which is not a whole number")
    return int(number)


def uid_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """A well-formed unique identifier: digits and dots, at most 64 of them (PS3.5 9.1), so never a path."""
    text = text_of(dataset, keyword)
    if not text:
        raise BadFile(f"has no {keyword}")
    if len(text) > _MAX_UID_LENGTH or not _UID.fullmatch(text):
        raise BadFile(f"has {keyword} {quoted(text)}, which is no UID")
    return text
