"""What a header says of the reconstruction beside kernel and thickness: the scanner's model, and noise reduction.

No element of a CT slice names an iterative or learned reconstruction; each manufacturer writes it elsewhere. Looked at are the
second value of a Siemens kernel, private elements of GE (GEHC_CT_ADVAPP_001) and Philips (ELSCINT1) as the dictionary of pydicom
names them, ReconstructionAlgorithm, and texts in which technicians and scanners name a method. Of a text nothing is kept but the
method and its strength: a technician may have written anything else beside it.
"""

import re
from functools import lru_cache

from pydicom import Dataset
from pydicom.tag import BaseTag

from ltdiff.dicom.dicom_file import shared_tag
from ltdiff.dicom.raw_data import said

TEXTS = ("SeriesDescription", "ImageComments", "FilterType", "ProtocolName")
KEYWORDS = ("ManufacturerModelName", "ReconstructionAlgorithm", *TEXTS)
PRIVATE_ELEMENTS = {
    0x00530040: "GEHC_CT_ADVAPP_001",  # IterativeReconAnnotation
    0x00530043: "GEHC_CT_ADVAPP_001",  # IterativeReconLevel
    0x01F7009B: "ELSCINT1",  # iDose Level
}
"""Group, and element within the block of the private creator (PS3.5 7.8.1)."""
BLOCKS = (0x10, 0x11, 0x12)
"""Where the creator may have its block."""
_PLACES = {
    element: tuple(
        (shared_tag((element & 0xFFFF0000) | block), shared_tag((element & 0xFFFF0000) | (block << 8) | (element & 0xFF)))
        for block in BLOCKS
    )
    for element in PRIVATE_ELEMENTS
}
"""Tags of the creator and of the element, in each block."""
PRIVATE_TAGS = frozenset(int(tag) for places in _PLACES.values() for place in places for tag in place)
"""To be read with KEYWORDS."""
MAX_PRIVATE_LENGTH = 64
"""Of a text (VR LO)."""

_METHODS = {
    "ADMIRE": "ADMIRE",
    "SAFIRE": "SAFIRE",
    "QIR": "QIR",
    "ASIR-V": "ASiR-V",
    "ASIRV": "ASiR-V",
    "AR": "ASiR-V",
    "ASIR": "ASiR",
    "SS": "ASiR",
    "DLIR": "DLIR",
    "VEO": "Veo",
    "IDOSE4": "iDose",
    "IDOSE": "iDose",
    "IMR": "IMR",
    "AIDR3D": "AIDR 3D",
    "AIDR": "AIDR 3D",
    "AICE": "AiCE",
}
"""As it is written in capitals without spaces → as it is called."""
_STRENGTH = r"[ _(:=-]*(?:LEVEL ?)?(?P<strength>\d{1,3}(?= ?%|\b)|STANDARD|STRONG|WEAK|MILD|STD|STR|LOW|MEDIUM|HIGH|L|M|H)?\b"
_NAMED = re.compile(rf"(?<![A-Z])(?P<method>ADMIRE|SAFIRE|QIR|ASIR-?V|ASIR|DLIR|VEO|IDOSE4?|IMR|AIDR ?3D|AIDR|AICE){_STRENGTH}")
_GE_SHORT = re.compile(rf"(?<![A-Z])(?P<method>SS|AR)(?=\d){_STRENGTH}")
"""As GE's scanners put it in SeriesDescription and in the annotation: SS40."""


def scanner_model(dataset: Dataset) -> str:
    """ManufacturerModelName; "" where the header does not say."""
    return said(dataset, "ManufacturerModelName")


def noise_reduction(dataset: Dataset) -> str:
    """The iterative or learned reconstruction with its strength, as "ADMIRE 3"; "" where nothing is said of one."""
    private = tuple(_private_text(dataset, element) for element in PRIVATE_ELEMENTS)
    texts = tuple(said(dataset, keyword) for keyword in TEXTS)
    return _noise_reduction(
        said(dataset, "Manufacturer"),
        scanner_model(dataset),
        said(dataset, "ConvolutionKernel"),
        said(dataset, "ReconstructionAlgorithm"),
        private,
        texts,
    )


@lru_cache(maxsize=4096)
def _noise_reduction(
    manufacturer: str, model: str, kernel: str, algorithm: str, private: tuple[str, ...], texts: tuple[str, ...]
) -> str:
    vendor = manufacturer.casefold()
    annotation, level, idose = private
    found = ""
    if vendor.startswith("siemens"):
        found = _of_siemens_kernel(kernel, model)
    elif vendor.startswith("ge"):
        found = _named(annotation, short=True) or _named(level, short=True) or _ge_level(level)
    elif vendor.startswith("philips") and idose.isdecimal() and int(idose):
        found = f"iDose {int(idose)}"
    for text in texts:
        found = found or _named(text, short=vendor.startswith("ge"))
    return found or ("iterative" if "ITERATIVE" in algorithm.upper() else "")


def _of_siemens_kernel(kernel: str, model: str) -> str:
    """Br40d\\3: ADMIRE 3. The letters of a kernel with SAFIRE begin with I; photon-counting scanners have QIR."""
    name, _, strength = kernel.partition("\\")
    if strength and not re.fullmatch(r"[0-5]", strength):
        return ""
    if re.match(r"I\d", name):
        return f"SAFIRE {strength}".strip()
    if strength in ("", "0"):
        return ""
    return f"{'QIR' if 'NAEOTOM' in model.upper() else 'ADMIRE'} {strength}"


def _ge_level(level: str) -> str:
    """A level without the name of its method."""
    number = re.fullmatch(r"0*([1-9]\d{0,2}) ?%?", level)
    return f"ASiR {number[1]}" if number else ""


def _named(text: str, *, short: bool) -> str:
    capitals = text.upper()
    match = _NAMED.search(capitals) or (_GE_SHORT.search(capitals) if short else None)
    if match is None:
        return ""
    method = _METHODS[match["method"].replace(" ", "")]
    strength = (match["strength"] or "").lstrip("0")
    if match["strength"] and not strength:  # 0 %
        return ""
    if not strength and match["method"] == "IDOSE4":  # the product's name, without a level
        return "iDose"
    return f"{method} {strength}".strip()


def _private_text(dataset: Dataset, element: int) -> str:
    """The text of a private element; "" where its creator has no block, or another one has it."""
    for creator, place in _PLACES[element]:
        if creator in dataset and _text(dataset, creator) == PRIVATE_ELEMENTS[element]:
            return _text(dataset, place)
    return ""


def _text(dataset: Dataset, tag: BaseTag) -> str:
    """As it stands in the file, for in an implicit one a private element has no type."""
    raw = dataset.get_item(tag)
    value = getattr(raw, "value", None)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value).strip(" \0") if value is not None and len(str(value)) <= MAX_PRIVATE_LENGTH else ""
