"""Lesion masks as DICOM Segmentation (PS3.3 A.51), one segment per lesion, bound to the slices of a CT series."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

import ltdiff
from ltdiff.dicom.dicom_file import files_below, without_warnings
from ltdiff.dicom.grid import SLICE_SPACING_TOLERANCE_MM
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.system.text import printable

SERIES_NUMBER = 900
GRID_TOLERANCE_PX = 0.02
POSITION_ROUNDING_MM = 0.1
"""A frame may lie this far beside a pixel's centre, because positions are rounded."""


def write_segmentation(series: Series, labels: NDArray[Any], *, path: Path, algorithm: str) -> Path:
    """Write `labels` (Z, Y, X) uint8 as a segmentation of `series` (slices in its order) and return `path`.

    0 is background, n is lesion n and becomes segment n, tracked as "lesion n". `algorithm` names what made the mask.
    Raises ValueError when the shape is not the series' or there is no lesion.
    """
    if labels.shape != (series.num_slices, series.rows, series.columns):
        raise ValueError(f"labels of shape {labels.shape} do not fit {series.num_slices} × {series.rows} × {series.columns}")
    if not labels.any():
        raise ValueError(f"there is no lesion to write to {printable(path)}")
    with without_warnings():
        sources = [pydicom.dcmread(slice_header.path, stop_before_pixels=True) for slice_header in series.slices]
        series_uid = stable_uid("segmentation", series.series_instance_uid, algorithm)
        segmentation = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=labels.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(n, series_uid, algorithm) for n in range(1, int(labels.max()) + 1)],
            series_instance_uid=series_uid,
            series_number=SERIES_NUMBER,
            sop_instance_uid=stable_uid(series_uid, "instance"),
            instance_number=1,
            manufacturer="ltdiff",
            manufacturer_model_name="ltdiff",
            software_versions=ltdiff.__version__,
            device_serial_number="1",
            content_label="LESIONS",
            series_description="Lesions",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        segmentation.save_as(path)
    return path


def read_segmentation(path: Path, series: Series) -> NDArray[Any]:
    """Segment numbers as labels (Z, Y, X) uint8 for the slices of `series`, 0 where there is no segment.

    It may have been drawn on the series that `series` was derived from, whose pixels lie in the same places. Frames are
    brought to their slices by position and orientation, for not every program says which slice they were drawn on.

    Raises ValueError when the file is no segmentation, or one of another series or grid, or its segments overlap.
    """
    name = printable(path)
    try:
        with without_warnings():
            segmentation = hd.seg.segread(path)
            segmented = {sop_uid for _, _, sop_uid in segmentation.get_source_image_uids()}
            own = {slice_header.sop_instance_uid for slice_header in series.slices}
            if not segmented or segmented & (own | set(series.source_sop_instance_uids)):
                return _labels(segmentation, series)
    except _UnusableFrameError as error:
        raise ValueError(f"{name} {error}") from error
    except Exception as error:  # highdicom raises anything from AttributeError on for what it does not expect
        raise ValueError(f"{name} cannot be read as a segmentation ({type(error).__name__})") from error
    raise ValueError(f"{name} is the segmentation of another series")


class _UnusableFrameError(Exception):
    """The rest of a sentence that begins with the file."""


def _labels(segmentation: hd.seg.Segmentation, series: Series) -> NDArray[Any]:
    if segmentation.segmentation_type != hd.seg.SegmentationTypeValues.BINARY:
        raise _UnusableFrameError(f"is a {segmentation.segmentation_type.value} segmentation, and only BINARY ones are read")
    labels = np.zeros((series.num_slices, series.rows, series.columns), np.uint8)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, own in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(_group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        position_mm = np.array(_group(own, shared, "PlanePositionSequence").ImagePositionPatient, float)
        index, beside_mm = _slice_at(series, position_mm)
        if index is None:
            continue
        plane = hd.Volume.from_attributes(
            array=frame[None],
            image_position=_on_pixel(series, index, position_mm - beside_mm),
            image_orientation=_group(own, shared, "PlaneOrientationSequence").ImageOrientationPatient,
            pixel_spacing=_group(own, shared, "PixelMeasuresSequence").PixelSpacing,
            spacing_between_slices=1.0,
            coordinate_system="PATIENT",
        )
        segment = _on_slice(plane, series, index)
        if labels[index][segment].any():
            raise _UnusableFrameError("cannot be read as a segmentation (its segments overlap)")
        labels[index][segment] = number
    return labels


def _group(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """A functional group's only item, of the frame or of all frames (PS3.3 C.7.6.16)."""
    return getattr(own if name in own else shared, name)[0]


def _slice_at(series: Series, position_mm: NDArray[Any]) -> tuple[int | None, NDArray[Any]]:
    """The slice in whose plane a frame lies, and by which vector it lies beside it, for positions are often rounded.

    None beyond the ends of a series of which only a part is here.
    """
    normal = np.cross(series.orientation[:3], series.orientation[3:])
    distances_mm = np.array([normal @ (position_mm - slice_header.position_mm) for slice_header in series.slices])
    index = int(np.argmin(abs(distances_mm)))
    if abs(distances_mm[index]) <= SLICE_SPACING_TOLERANCE_MM:
        return index, distances_mm[index] * normal
    if (distances_mm > 0).all() or (distances_mm < 0).all():
        return None, np.zeros(3)
    raise _UnusableFrameError("lies on another grid than the slices of the series")


def _on_pixel(series: Series, index: int, position_mm: NDArray[Any]) -> NDArray[Any]:
    """A position in the plane of a slice, brought to the nearest pixel's centre where it is a rounding away from it."""
    for axis, spacing_mm in zip((series.orientation[:3], series.orientation[3:]), series.spacing_mm[::-1], strict=True):
        place = np.dot(axis, position_mm - np.array(series.slices[index].position_mm)) / spacing_mm
        beside_mm = (place - round(place)) * spacing_mm
        if abs(beside_mm) <= POSITION_ROUNDING_MM:
            position_mm = position_mm - beside_mm * np.array(axis)
    return position_mm


def _on_slice(plane: hd.Volume, series: Series, index: int) -> NDArray[Any]:
    """Where a frame (1, rows, columns) is set, on the pixels of a slice (Y, X): turned, cut or extended, never resampled."""
    grid = hd.VolumeGeometry.from_attributes(
        image_position=series.slices[index].position_mm,
        image_orientation=series.orientation,
        rows=series.rows,
        columns=series.columns,
        pixel_spacing=series.spacing_mm,
        spacing_between_slices=1.0,
        number_of_frames=1,
        coordinate_system="PATIENT",
    )
    try:
        return plane.match_geometry(grid, tol=GRID_TOLERANCE_PX).array[0] > 0
    except RuntimeError as error:
        raise _UnusableFrameError("lies on another grid than the slices of the series") from error


def find_segmentations(root: Path) -> dict[str, list[Path]]:
    """The DICOM SEG files below `root`, or `root` itself, by the SeriesInstanceUID each belongs to; others are passed over."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(root):
        if series_uid := _segmented_series(path):
            found[series_uid].append(path)
    return dict(found)


def _segmented_series(path: Path) -> str:
    """SeriesInstanceUID of the series that a segmentation belongs to; "" for any other file."""
    try:
        with without_warnings():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "ReferencedSeriesSequence"])
            is_segmentation = dataset.SOPClassUID == SegmentationStorage
            return str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID) if is_segmentation else ""
    except Exception:  # whatever pydicom raises: not a file that could be read as a segmentation
        return ""


def _segment(number: int, series_uid: str, algorithm: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"lesion {number}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, version=ltdiff.__version__, family=codes.DCM.AnalyticalAlgorithm
        ),
        tracking_uid=stable_uid(series_uid, "lesion", str(number)),
        tracking_id=f"lesion {number}",
    )
