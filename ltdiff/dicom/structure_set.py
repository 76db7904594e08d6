"""Regions of interest drawn as contours, DICOM RT Structure Set (PS3.3 A.19), as masks on the slices of a CT series.

The polygons are filled here: an even-odd fill is a dozen lines of numpy, for which rt-utils would bring OpenCV along, which also
takes in every pixel that the line touches and so adds half a pixel all round.
"""

import logging
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage

from ltdiff.dicom.dicom_file import files_below, without_warnings
from ltdiff.dicom.series import Series
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Values of ContourGeometricType that are filled; both are combined alike, as is the custom."""
PLANE_TOLERANCE_MM = 0.01
"""Contours that are nearer along the normal lie in one plane, because positions are rounded."""
MAX_POSITION_MM = 1e6
"""No corner lies farther from the origin."""

Contour = NDArray[np.float64]
"""The corners of a polygon (N, 3) in mm: x, y, z in the patient's coordinates."""


def find_structure_sets(root: Path) -> dict[str, list[Path]]:
    """The RT Structure Sets below `root`, or `root` itself, by the SeriesInstanceUIDs that each was drawn on."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(root):
        for uid in _series_drawn_on(path):
            found[uid].append(path)
    return dict(found)


def read_structures(path: Path, series: Series) -> dict[str, NDArray[np.bool_]]:
    """ROI name → mask (Z, Y, X) on the slices of `series`, in the order of the file; a second ROI of a name gets " (2)".

    A voxel belongs to an ROI when its centre lies inside an odd number of the ROI's closed contours in its plane, so that a
    contour inside another one is a hole. A contour belongs to the nearest slice within half a slice distance; nothing is
    interpolated between contours. Points and open lines are passed over, and so is an ROI that holds no voxel of the series.

    Raises:
        ValueError: the file is no structure set, or one of another series or frame of reference; no ROI is left.
    """
    rois, drawn_on = _parse(path)
    masks: dict[str, NDArray[np.bool_]] = {}
    for roi in _of_series(rois, drawn_on, series, path=path):
        mask, num_beside = _fill(roi.contours, series)
        if num_beside:
            logger.warning(
                "%s: %d of %d contours of %s lie on no slice of the series",
                printable(path),
                num_beside,
                len(roi.contours),
                quoted(roi.name),
            )
        if mask.any():
            masks[_free_name(roi.name, taken=masks)] = mask
    if not masks:
        raise ValueError(f"{printable(path)}: no voxel of the series lies in a closed contour")
    return masks


@dataclass(frozen=True)
class _Roi:
    """One region of interest; `frame_of_reference_uid` may be ""."""

    name: str
    frame_of_reference_uid: str
    contours: list[Contour]  # the closed ones


def _parse(path: Path) -> tuple[list[_Roi], set[str]]:
    """The regions of interest, and the SeriesInstanceUIDs and SOPInstanceUIDs that they were drawn on."""
    try:
        with without_warnings():
            dataset = pydicom.dcmread(path)
            if dataset.SOPClassUID != RTStructureSetStorage:
                raise TypeError("not a structure set")
            contours = {int(item.ReferencedROINumber): _closed_contours(item) for item in dataset.get("ROIContourSequence", [])}
            rois = [
                _Roi(_name(item), str(item.get("ReferencedFrameOfReferenceUID", "")), contours[int(item.ROINumber)])
                for item in dataset.StructureSetROISequence
                if int(item.ROINumber) in contours
            ]
            return rois, _referenced_series(dataset) | _referenced_images(dataset)
    except Exception as error:  # whatever pydicom raises for a broken file, and what a missing element leads to
        raise ValueError(f"{printable(path)} cannot be read as a structure set ({type(error).__name__})") from error


def _closed_contours(roi: pydicom.Dataset) -> list[Contour]:
    closed = [item for item in roi.get("ContourSequence", []) if item.ContourGeometricType in CLOSED]
    return [corners for corners in map(_corners, closed) if len(corners) > 2]


def _corners(contour: pydicom.Dataset) -> Contour:
    corners = np.array(contour.ContourData or [], dtype=np.float64).reshape(-1, 3)
    if not (np.abs(corners) < MAX_POSITION_MM).all():  # also for NaN
        raise ValueError("a corner that lies nowhere")
    return corners


def _name(roi: pydicom.Dataset) -> str:
    """ROIName on one line; the element may be empty."""
    name = "".join(character if character.isprintable() else " " for character in str(roi.get("ROIName") or ""))
    return name.strip() or f"ROI {roi.ROINumber}"


def _free_name(name: str, *, taken: Container[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _referenced_series(dataset: pydicom.Dataset) -> set[str]:
    """SeriesInstanceUIDs of the images that contours were drawn on."""
    return {str(series.SeriesInstanceUID) for series in _referenced_series_items(dataset)}


def _referenced_series_items(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The items of RTReferencedSeriesSequence (PS3.3 C.8.8.5)."""
    return [
        series
        for frame in dataset.get("ReferencedFrameOfReferenceSequence", [])
        for study in frame.get("RTReferencedStudySequence", [])
        for series in study.get("RTReferencedSeriesSequence", [])
    ]


def _referenced_images(dataset: pydicom.Dataset) -> set[str]:
    """SOPInstanceUIDs of the images that contours were drawn on: of the series (PS3.3 C.8.8.5), and of contours (C.8.8.6)."""
    contours = [contour for roi in dataset.get("ROIContourSequence", []) for contour in roi.get("ContourSequence", [])]
    return {
        str(image.ReferencedSOPInstanceUID)
        for drawn_on in (*_referenced_series_items(dataset), *contours)
        for image in drawn_on.get("ContourImageSequence", [])
        if "ReferencedSOPInstanceUID" in image
    }


def _series_drawn_on(path: Path) -> set[str]:
    """SeriesInstanceUIDs of the series that a structure set belongs to; none for any other file."""
    tags = ["SOPClassUID", "ReferencedFrameOfReferenceSequence"]
    try:
        with without_warnings():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            return _referenced_series(dataset) if dataset.SOPClassUID == RTStructureSetStorage else set()
    except Exception:  # whatever pydicom raises: not a file that could be read as a structure set
        return set()


def _of_series(rois: list[_Roi], drawn_on: set[str], series: Series, *, path: Path) -> list[_Roi]:
    """The regions in the series' frame of reference; ValueError where they are another series', and not that of its source.

    The frame alone does not tell: all phases of a breathing cycle share it.
    """
    if drawn_on and drawn_on.isdisjoint([series.series_instance_uid, *series.source_sop_instance_uids]):
        raise ValueError(f"{printable(path)} is the structure set of another series")
    of_frame = [roi for roi in rois if _is_in_frame(roi, series, is_named=bool(drawn_on))]
    if rois and not of_frame:
        raise ValueError(f"{printable(path)} is drawn in another FrameOfReferenceUID than the series has")
    return of_frame


def _is_in_frame(roi: _Roi, series: Series, *, is_named: bool) -> bool:
    uids = roi.frame_of_reference_uid, series.frame_of_reference_uid
    return uids[0] == uids[1] if all(uids) else is_named  # what names neither series nor frame could be anyone's


def _fill(contours: Sequence[Contour], series: Series) -> tuple[NDArray[np.bool_], int]:
    """The mask (Z, Y, X) of one ROI, and how many of its contours lie on no slice."""
    by_slice: dict[int, list[tuple[float, Contour]]] = defaultdict(list)
    for contour in contours:
        index, distance_mm = _nearest_slice(contour, series)
        if index is not None:
            by_slice[index].append((distance_mm, contour))
    mask = np.zeros((series.num_slices, series.rows, series.columns), dtype=bool)
    for index, of_slice in by_slice.items():
        nearest_mm = min((distance_mm for distance_mm, _ in of_slice), key=abs)
        for distance_mm, contour in of_slice:
            if abs(distance_mm - nearest_mm) <= PLANE_TOLERANCE_MM:  # contours of two planes would cut each other out
                mask[index] ^= fill_polygon(_to_pixels(contour, series, index), shape=mask.shape[1:])
    return mask, len(contours) - sum(map(len, by_slice.values()))


def _axes(series: Series) -> NDArray[np.float64]:
    """Unit vectors as columns (3, 3): along a row, along a column, along the normal."""
    along_row, along_column = np.array(series.orientation[:3]), np.array(series.orientation[3:])
    normal = np.cross(along_row, along_column)
    return np.stack([along_row, along_column, normal / np.linalg.norm(normal)], axis=1)


def _nearest_slice(contour: Contour, series: Series) -> tuple[int | None, float]:
    """The slice that a contour is drawn on, None where there is none, and how far above it the contour lies, in mm."""
    z_mm = contour @ _axes(series)[:, 2]
    distances_mm = z_mm.mean() - np.array([header.z_mm for header in series.slices])
    index = int(np.abs(distances_mm).argmin())
    half_mm = series.slice_spacing_mm / 2
    is_on_slice = np.abs(z_mm - series.slices[index].z_mm).max() <= half_mm + PLANE_TOLERANCE_MM
    return index if is_on_slice else None, float(distances_mm[index])


def _to_pixels(contour: Contour, series: Series, index: int) -> NDArray[np.float64]:
    """Corners (N, 2) as (row, column) of a slice, counted from the centre of its first pixel."""
    in_plane_mm = (contour - series.slices[index].position_mm) @ _axes(series)[:, [1, 0]]
    return in_plane_mm / series.spacing_mm


def fill_polygon(corners: NDArray[np.float64], *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (Y, X) of `shape` whose centre lies inside the polygon with these `corners` (N, 2), (row, column): even-odd rule.

    Of the centres on the line itself, those on upper and left edges are inside, those on lower and right ones outside: so
    neighbouring polygons share no pixel, and no area is lost or gained. Wherever an edge crosses a row, the pixels from there
    on change sides.

    >>> fill_polygon(np.array([[0.5, 0.5], [0.5, 2.5], [1.5, 2.5], [1.5, 0.5]]), shape=(3, 4)).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    num_rows, num_columns = shape
    ends = np.stack([corners, np.roll(corners, -1, axis=0)])
    first, stop = np.clip(np.ceil(np.sort(ends[..., 0], axis=0)), 0, num_rows).astype(int)
    num_crossed = stop - first  # rows from the upper end on and above the lower one: a corner on a row counts once
    edges = np.repeat(np.arange(len(corners)), num_crossed)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(num_crossed) - num_crossed, num_crossed) + first[edges]
    (start_row, start_column), (end_row, end_column) = ends[:, edges].transpose(0, 2, 1)
    columns = start_column + (rows - start_row) * (end_column - start_column) / (end_row - start_row)
    crossed = np.zeros((num_rows, num_columns + 1), dtype=bool)
    np.logical_xor.at(crossed, (rows, np.clip(np.ceil(columns), 0, num_columns).astype(int)), True)
    return np.logical_xor.accumulate(crossed[:, :num_columns], axis=1)
