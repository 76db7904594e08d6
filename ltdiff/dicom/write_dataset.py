"""Writing DICOM: stable UIDs, and datasets as Explicit VR Little Endian."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

MAX_IS = 2**31 - 1
"""Largest number of an integer string (PS3.5 6.2, IS); the smallest is its negative."""


def stable_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) made from the sha256 of `parts`: at most 44 characters, no registered root needed."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


_IMPLEMENTATION_UID = UID(stable_uid("ltdiff", "implementation class"))


def save_dataset(dataset: pydicom.Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file with fresh file meta information and an empty preamble."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)


def set_pixels(dataset: pydicom.Dataset, stored: NDArray[Any], *, bits_stored: int) -> None:
    """Set PixelData and the Image Pixel module (PS3.3 C.7.6.3) from stored values (Y, X) int16 or uint16."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(stored.dtype == np.int16)
    dataset.add_new("PixelData", "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())


def code_item(code: Code) -> pydicom.Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = pydicom.Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
