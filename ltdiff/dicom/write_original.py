"""Writing a volume as an original CT series, as a scanner does."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage

from ltdiff.dicom.write_dataset import save_dataset, set_pixels, stable_uid
from ltdiff.system.atomic_files import complete_folder

INTERCEPT_HU = -1024
"""Lowest of the 4096 values that most scanners store: −1024 … 3071 HU."""
BITS_STORED = 12


@dataclass(frozen=True)
class SeriesIdentity:
    """Who and what a series shows. Two series of one acquisition differ in series_uid, series_number and kernel only."""

    patient_id: str
    study_uid: str
    frame_of_reference_uid: str
    series_uid: str
    series_number: int
    kernel: str
    slice_thickness_mm: float
    acquired: datetime
    kvp: float = 120.0
    exposure_mas: float | None = None
    manufacturer: str = "ltdiff"
    manufacturer_model: str = "pretrained"
    body_part: str = "CHEST"
    study_description: str = ""
    series_description: str = ""


def write_ct_series(
    hu: NDArray[Any],
    *,
    out_dir: Path,
    identity: SeriesIdentity,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """Write `hu` (Z, Y, X) as axial CT slices out_dir/slice_0001.dcm … and return `out_dir`.

    `spacing_mm` is (z, y, x); `origin_mm` is the centre of the first voxel (x, y, z); z ascends. HU are rounded and
    clipped to −1024 … 3071. The folder appears complete or not at all.
    Raises ValueError when `out_dir` exists or `hu` holds a value that is not finite.
    """
    if out_dir.exists():
        raise ValueError(f"{out_dir} exists already: remove it or choose another folder")
    if hu.ndim != 3 or not np.isfinite(hu).all():
        raise ValueError(f"a CT series needs finite HU of shape (Z, Y, X), not {hu.shape} with NaN or infinity")
    with complete_folder(out_dir) as folder:
        for index, slice_hu in enumerate(hu):
            position_mm = (origin_mm[0], origin_mm[1], origin_mm[2] + index * spacing_mm[0])
            dataset = _dataset(identity, index=index, position_mm=position_mm, spacing_mm=spacing_mm[1:])
            stored = np.clip(np.rint(slice_hu - INTERCEPT_HU), 0, 2**BITS_STORED - 1).astype(np.uint16)
            set_pixels(dataset, stored, bits_stored=BITS_STORED)
            save_dataset(dataset, folder / f"slice_{index + 1:04d}.dcm")
    return out_dir


def _dataset(
    identity: SeriesIdentity, *, index: int, position_mm: tuple[float, float, float], spacing_mm: tuple[float, ...]
) -> pydicom.Dataset:
    """Everything of a CT Image (PS3.3 A.3) but the pixels."""
    dataset = pydicom.Dataset()
    _add_patient_and_study(dataset, identity)
    _add_series(dataset, identity)
    _add_acquisition(dataset, identity)
    dataset.SOPInstanceUID = stable_uid(identity.series_uid, str(index))
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [_decimal(value) for value in position_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_decimal(value) for value in spacing_mm]
    return dataset


def _add_patient_and_study(dataset: pydicom.Dataset, identity: SeriesIdentity) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"Phantom^{identity.patient_id}"
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID = identity.study_uid
    dataset.StudyDate, dataset.StudyTime = _date_and_time(identity.acquired)
    dataset.ReferringPhysicianName = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.StudyDescription = identity.study_description


def _add_series(dataset: pydicom.Dataset, identity: SeriesIdentity) -> None:
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = identity.series_description
    dataset.BodyPartExamined = identity.body_part
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = identity.manufacturer
    dataset.ManufacturerModelName = identity.manufacturer_model


def _add_acquisition(dataset: pydicom.Dataset, identity: SeriesIdentity) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionDate, dataset.AcquisitionTime = _date_and_time(identity.acquired)
    dataset.ContentDate, dataset.ContentTime = _date_and_time(identity.acquired)
    dataset.AcquisitionNumber = 1
    dataset.KVP = _decimal(identity.kvp)
    if identity.exposure_mas is not None:
        dataset.Exposure = round(identity.exposure_mas)
    dataset.SliceThickness = _decimal(identity.slice_thickness_mm)
    dataset.ConvolutionKernel = identity.kernel
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = INTERCEPT_HU, 1, "HU"
    dataset.BurnedInAnnotation = "NO"


def _date_and_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
