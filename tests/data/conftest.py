"""Series without files, for everything that looks at headers only."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from ltdiff.data.series_pair import SeriesPair
from ltdiff.dicom.raw_data import KEYWORDS
from ltdiff.dicom.scan import SliceHeader
from ltdiff.dicom.series import Series

SeriesFactory = Callable[..., Series]


def _series(
    uid: str,
    *,
    kernel: str = "B",
    patient: str = "p1",
    z_mm: tuple[float, ...] = (0.0, 5.0, 10.0, 15.0),
    frame: str = "1.2.9",
    acquisition: str = "101010",
    rows: int = 8,
    spacing_mm: float = 0.8,
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    thickness_mm: float | None = 5.0,
    derived: bool = False,
    study: str = "",
) -> Series:
    normal = np.cross(orientation[:3], orientation[3:])
    slices = tuple(
        SliceHeader(
            path=Path(f"/archive/{uid}/{index:03d}.dcm"),
            sop_instance_uid=f"{uid}.{index}",
            position_mm=tuple(np.array([-100.0, -90.0, 0.0]) + z * normal),
            z_mm=z,
            raw_data=tuple({"AcquisitionDate": "20200101", "AcquisitionTime": acquisition}.get(name, "") for name in KEYWORDS),
        )
        for index, z in enumerate(z_mm)
    )
    return Series(
        series_instance_uid=uid,
        study_instance_uid=study or f"study of {patient}",
        frame_of_reference_uid=frame,
        patient_key=hashlib.sha256(patient.encode()).hexdigest()[:12],
        kernel=kernel,
        manufacturer="Maker",
        slice_thickness_mm=thickness_mm,
        rows=rows,
        columns=8,
        spacing_mm=(spacing_mm, spacing_mm),
        orientation=orientation,
        slices=slices,
        derived=derived,
        standardized_by_ltdiff=derived,
    )


@pytest.fixture(scope="session")
def make_series() -> SeriesFactory:
    """make_series(uid, kernel=…, patient=…, z_mm=…, …): an axial series of four slices unless told otherwise."""
    return _series


@pytest.fixture
def pair_of(make_series):
    """pair_of(name, patient, num_slices): two series of one acquisition."""

    def pair(name="1", patient="p1", num_slices=4, step_mm=5.0):
        z_mm = tuple(step_mm * np.arange(num_slices))
        soft, sharp = (make_series(f"{name}.{k}", kernel=k, patient=patient, z_mm=z_mm, thickness_mm=5.0) for k in ("B", "L"))
        return SeriesPair(source=soft, target=sharp)

    return pair


def _write_dicom(
    folder: Path,
    hu: np.ndarray,
    *,
    kernel: str = "B",
    patient: str = "p1",
    z_mm: tuple[float, ...] | None = None,
    frame: str = "1.2.9",
    study: str = "1.2.8",
    acquisition_number: int = 1,
    spacing_mm: float = 0.8,
    image_type: str = "ORIGINAL",
) -> Path:
    folder.mkdir(parents=True)
    series_uid = generate_uid()
    for index, (slice_hu, z) in enumerate(zip(hu, z_mm or 5.0 * np.arange(len(hu)), strict=True)):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.ImageType = [image_type, "PRIMARY", "AXIAL"]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series_uid, study, frame
        dataset.PatientID, dataset.ConvolutionKernel, dataset.AcquisitionNumber = patient, kernel, acquisition_number
        dataset.PixelSpacing, dataset.SliceThickness = [spacing_mm, spacing_mm], 5.0
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-50.0, -40.0, float(z)], [1, 0, 0, 0, 1, 0]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns = slice_hu.shape
        dataset.PixelData = (slice_hu + 1024).astype("<i2").tobytes()
        for keyword in ("PixelPaddingValue", "DataSetTrailingPadding"):
            dataset.pop(keyword, None)
        dataset.save_as(folder / f"{len(hu) - index:03d}.dcm")  # file names do not follow z
    return folder


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """write_dicom(folder, hu (Z, Y, X), kernel=…, patient=…, z_mm=…, …) -> folder: a small CT series."""
    return _write_dicom
