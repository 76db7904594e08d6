"""Writing DICOM: stable UIDs, and datasets as Explicit VR Little Endian."""

import hashlib
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

MAX_IS = 2**31 - 1
"""Largest number of an integer string (PS3.5 6.2, IS); the smallest is its negative."""
_PREAMBLE = b"\0" * 128
_PIXEL_DATA = 0x7FE00010
_PIXEL_DATA_START = Struct("<HH2sxxL")
"""Group, element, type, length."""


def stable_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) made from the sha256 of `parts`: at most 44 characters, no registered root needed."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


_IMPLEMENTATION_UID = UID(stable_uid("ltdiff", "implementation class"))


def save_dataset(dataset: pydicom.Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file with fresh file meta information and an empty preamble."""
    dataset.file_meta = _file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID)
    dataset.preamble = _PREAMBLE
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)


class SeriesEncoder:
    """Encodes the slices of a series as `save_dataset` does; an element that the slice before has too, the same object, is
    encoded once."""

    def __init__(self) -> None:
        self._character_set: str | list[str] | None = None
        self._before: dict[int, tuple[DataElement, bytes]] = {}

    def encode(self, dataset: pydicom.Dataset) -> list[bytes]:
        """The parts of a file, without raw elements, and without types that hang on other elements."""
        character_set = dataset.get("SpecificCharacterSet", default_encoding)
        before = self._before if character_set == self._character_set else {}
        self._character_set, self._before = character_set, {}
        uid = dataset.SOPInstanceUID
        before_uid, behind_uid = _encoded_meta(dataset.SOPClassUID, len(uid))
        parts = [_PREAMBLE, b"DICM", before_uid, uid.encode(), behind_uid]
        for tag in sorted(dataset.keys(), key=int):
            element = dataset[tag]
            if tag == _PIXEL_DATA:
                parts += [_PIXEL_DATA_START.pack(tag.group, tag.element, b"OW", len(element.value)), element.value]
                continue
            _, encoded = before.get(id(element), (None, b""))
            self._before[id(element)] = element, encoded or _encoded(element, character_set)
            parts.append(self._before[id(element)][1])
        return parts


def _encoded(element: DataElement, character_set: str | list[str]) -> bytes:
    buffer = _buffer()
    write_data_element(buffer, element, character_set)
    return buffer.getvalue()


@lru_cache(maxsize=64)
def _encoded_meta(sop_class_uid: UID, num_characters: int) -> tuple[bytes, bytes]:
    """File meta information before and behind a SOPInstanceUID of so many characters."""
    buffer, placeholder = _buffer(), "9" * num_characters
    write_file_meta_info(buffer, _file_meta(sop_class_uid, UID(placeholder)))
    before, found, behind = buffer.getvalue().rpartition(placeholder.encode())
    assert found
    return before, behind


def _buffer() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    return buffer


def _file_meta(sop_class_uid: UID, sop_instance_uid: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    return meta


def set_pixels(dataset: pydicom.Dataset, stored: NDArray[Any], *, bits_stored: int) -> None:
    """Set PixelData and the Image Pixel module (PS3.3 C.7.6.3) from stored values (Y, X) int16 or uint16."""
    describe_pixels(dataset, stored.shape, bits_stored=bits_stored, signed=stored.dtype == np.int16)
    set_pixel_data(dataset, stored)


def describe_pixels(dataset: pydicom.Dataset, shape: tuple[int, ...], *, bits_stored: int, signed: bool) -> None:
    """Set the Image Pixel module but PixelData, for slices (Y, X) of 16 bits."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)


def set_pixel_data(dataset: pydicom.Dataset, stored: NDArray[Any]) -> None:
    """Set PixelData to stored values (Y, X) int16 or uint16."""
    dataset.add_new("PixelData", "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())


def code_item(code: Code) -> pydicom.Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = pydicom.Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
