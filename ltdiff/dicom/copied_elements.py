"""Elements of a source slice that its derived slice has as well, without what may not be in them (see derived_attributes).

Most say the same in all slices of a series: what the slice before had too, byte by byte, is not read again.
"""

from collections.abc import Hashable

from pydicom import DataElement, Dataset, config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, STR_VR, PersonName, validate_value

from ltdiff.dicom.derived_attributes import is_kept
from ltdiff.dicom.file_layout import MAX_DEPTH

Elements = dict[BaseTag, DataElement | RawDataElement]
"""By tag, all of them decoded: as a Dataset takes them."""
CharacterSet = str | list[str] | None
"""SpecificCharacterSet."""

CONTEXT = ("SpecificCharacterSet", "PixelRepresentation")
"""On which the meaning of other elements hangs."""
_CODED_VR = {"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
"""Types whose texts have few characters."""
_DROPPED_INSIDE = {"MACParametersSequence", "DigitalSignaturesSequence", "EncryptedAttributesSequence", ""}
"""Not copied inside of sequences: what is no longer true of a changed item, and "", the private and the unknown."""


class ElementCopier:
    """Copies elements of the slices of a series. What two slices share that follow each other is one object in both."""

    def __init__(self) -> None:
        self._context: list[Hashable] = []
        self._before: dict[BaseTag, tuple[Hashable, DataElement | None]] = {}

    def copy_kept(self, dataset: Dataset) -> Elements:
        """All elements that a derived slice has as they are. Elements are handed over: `dataset` is used up."""
        context = [stored_bytes(dataset, keyword) for keyword in CONTEXT]
        before = self._before if context == self._context else {}
        self._context, self._before = context, {}
        copied: Elements = {}
        for tag in sorted(dataset.keys(), key=int):
            if not is_kept(tag):
                continue
            stored = stored_bytes(dataset, tag)
            known, element = before.get(tag, (None, None))
            if known != stored:
                element = copy_element(dataset, tag)
            self._before[tag] = stored, element
            if element is not None:
                copied[tag] = element
        return copied


def stored_bytes(dataset: Dataset, name: BaseTag | str) -> Hashable:
    """What stands in the file for an element, type and value; of one that is decoded already, what is equal to nothing else."""
    stored = dataset.get_item(name)
    if stored is None:
        return ()
    if isinstance(stored, RawDataElement):
        return stored.VR, stored.value, stored.is_implicit_VR, stored.is_little_endian
    return object()


def copy_keyword(dataset: Dataset, keyword: str) -> DataElement | None:
    """As `copy_element`; None also where there is none."""
    return copy_element(dataset, Tag(keyword)) if keyword in dataset else None


def copy_element(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """The element without what may not be in it; None where it cannot be read or written."""
    try:
        return _cleaned(dataset, tag, dataset.get("SpecificCharacterSet"), depth=0)
    except Exception:  # whatever pydicom raises for a broken value
        return None


def _cleaned(dataset: Dataset, tag: BaseTag, encoding: CharacterSet, *, depth: int) -> DataElement | None:
    """The element in its own type, without private elements and signatures in its items; None where that cannot be."""
    stored, element = dataset.get_item(tag), dataset[tag]
    vr = dictionary_VR(tag) if keyword_for_tag(tag) else element.VR
    if vr != element.VR and " or " not in vr:
        if not ({element.VR, vr} <= STR_VR and _is_legal(element.value, vr)):
            return None
        element = DataElement(tag, vr, element.value)  # a text of another type
    elif vr == "SQ":
        return _cleaned_sequence(element, encoding, depth=depth)
    elif vr in CUSTOMIZABLE_CHARSET_VR and isinstance(stored, RawDataElement) and stored.value:
        element = DataElement(tag, vr, _encoded_text(stored.value, vr, encoding))
    elif vr in _CODED_VR and not str(element.value).isprintable():
        return None  # bytes of something else: padded as a text, they would be wrong in another way
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, encoding)  # tried alone: an error inside of sequences has no end
    return element


def _is_legal(value: object, vr: str) -> bool:
    """Whether a text, or each of several, can be a value of this type."""
    texts = [str(one) for one in value] if isinstance(value, MultiValue) else [str(value)]
    try:
        for text in texts:
            validate_value(vr, text, config.RAISE)
    except ValueError:
        return False
    return all(text.isprintable() for text in texts)


def _encoded_text(value: bytes, vr: str, encoding: CharacterSet) -> bytes | list[PersonName]:
    """The text as it stands in the file: decoded, bytes that are not of its character set would be lost."""
    if vr != "PN":
        return value
    return [PersonName(name, convert_encodings(encoding)) for name in value.split(b"\\")]


def _cleaned_sequence(element: DataElement, encoding: CharacterSet, *, depth: int) -> DataElement | None:
    if depth == MAX_DEPTH:  # pydicom's sentence on what cannot be written doubles with each
        raise ValueError(f"more than {MAX_DEPTH} sequences in each other")
    for item in element.value:
        for tag in list(item.keys()):
            inner = None
            if keyword_for_tag(tag) not in _DROPPED_INSIDE:
                inner = _cleaned(item, tag, item.get("SpecificCharacterSet", encoding), depth=depth + 1)
            if inner is None:
                del item[tag]
            else:
                item[tag] = inner
    # An anonymizer may have left half a reference, and what is no item is read as an empty one: both are invalid.
    broken = any(
        not len(item) or ("ReferencedSOPClassUID" in item) ^ ("ReferencedSOPInstanceUID" in item) for item in element.value
    )
    return None if broken else element
