"""A small RT Structure Set of a CT series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from ltdiff.dicom.series import Series

Contours = Sequence[Sequence[Sequence[float]]]


def rectangle(series: Series, slice_index: float, rows: tuple[float, float], columns: tuple[float, float]) -> list:
    """Corners (x, y, z) in mm of a rectangle given in pixels of a slice; 2.5 lies half way between slices 2 and 3."""
    corners = [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])]
    return [to_mm(series, slice_index, row, column) for row, column in corners]


def to_mm(series: Series, slice_index: float, row: float, column: float) -> list[float]:
    along_row, along_column = np.array(series.orientation[:3]), np.array(series.orientation[3:])
    spacing_y, spacing_x = series.spacing_mm
    position = np.array(series.slices[0].position_mm) + column * spacing_x * along_row + row * spacing_y * along_column
    distance_mm = series.slice_spacing_mm
    return [round(float(value), 6) for value in position + slice_index * distance_mm * np.cross(along_row, along_column)]


def write_structure_set(
    path: Path,
    series: Series,
    rois: Sequence[tuple[str, Contours]],
    *,
    geometric_type: str = "CLOSED_PLANAR",
    frame_uid: str | None = None,
    series_uid: str | None = None,
    image_uid: str = "",
) -> Path:
    """Write `rois`, (name, contours of corners in mm) each; "" for a UID that the file shall not have."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    frame_uid = series.frame_of_reference_uid if frame_uid is None else frame_uid
    series_uid = series.series_instance_uid if series_uid is None else series_uid
    if series_uid:
        one, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        one.SeriesInstanceUID, study.RTReferencedSeriesSequence = series_uid, [one]
        frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = frame_uid, [study]
        dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence = [_roi(n, name, frame_uid) for n, (name, _) in enumerate(rois, 1)]
    dataset.ROIContourSequence = [
        _roi_contour(n, contours, geometric_type, image_uid) for n, (_, contours) in enumerate(rois, 1) if contours is not None
    ]
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def _roi(number: int, name: str, frame_uid: str) -> pydicom.Dataset:
    roi = pydicom.Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame_uid
    return roi


def _roi_contour(number: int, contours: Contours, geometric_type: str, image_uid: str) -> pydicom.Dataset:
    roi = pydicom.Dataset()
    roi.ReferencedROINumber, roi.ContourSequence = number, []
    for corners in contours:
        contour = pydicom.Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = geometric_type, len(corners)
        if image_uid:
            image = pydicom.Dataset()
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, image_uid
            contour.ContourImageSequence = [image]
        contour.ContourData = [f"{value:.9g}" for corner in corners for value in corner]
        roi.ContourSequence.append(contour)
    return roi
