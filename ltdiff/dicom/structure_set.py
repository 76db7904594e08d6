"""Regions of interest drawn as contours, DICOM RT Structure Set (PS3.3 A.19), as masks on the slices of a CT series.

The polygons are filled here: an even-odd fill is a dozen lines of numpy, for which rt-utils would bring OpenCV along, which also
takes in every pixel that the line touches and so adds half a pixel all round.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage
from scipy import ndimage

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.drawn_region import (
    DrawnOn,
    DrawnRegion,
    check_drawn_on,
    drawn_on,
    find_origins,
    free_name,
    items_of,
    one_line,
    read_regions_file,
    uids_of,
    without_warnings_inside,
)
from ltdiff.dicom.elements import integer_of, text_of, texts_of
from ltdiff.dicom.grid import spacing_tolerance_mm
from ltdiff.dicom.series import Series
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Values of ContourGeometricType that are filled; both are combined alike, as is the custom."""
PLANE_TOLERANCE_MM = 0.01
"""Contours that are nearer along the normal lie in one plane, because positions are rounded."""
MAX_POSITION_MM = 1e6
"""No corner lies farther from the origin."""
SAME_LINE_PX = 0.5
"""Two lines that are nearer to each other on average are one, stored twice: no ring between them has pixels all round."""
CROSSING_SHARE = 0.05
"""Of a contour's pixels at least so many lie in another one, and as many beside it: the two cross. Fewer touch."""

# What becomes of a contour that does not count.
OPEN, NO_SLICE, FARTHER = "are points or open lines", "lie on no slice of the series", "lie farther from a slice than others"
TWICE, TINY, CROSSING = "are stored twice", "hold no pixel's centre", "cross others (what two share is left out)"

MAX_CONTOUR_BYTES = 2**20
"""Of ContourData: forty thousand corners."""

Contour = NDArray[np.float64]
"""The corners of a polygon (N, 3) in mm: x, y, z in the patient's coordinates."""


@without_warnings_inside
def read_structures(path: Path, series: Series) -> Iterator[DrawnRegion]:
    """Yield the ROIs as regions on the slices of `series`, in the order of the file; a second ROI of a name gets " (2)".

    A voxel belongs to an ROI when its centre lies inside an odd number of the ROI's closed contours in its plane, so that a
    contour inside another one is a hole; one that is stored twice counts once. A contour belongs to the nearest slice within half
    a slice distance; nothing is interpolated between contours. The log names each ROI that is left out, because one of its
    contours cannot be read or it holds no voxel, what became of contours that do not count, and what the file is taken by where
    it does not name the series (see `check_drawn_on`).

    Raises:
        ValueError: the file is no structure set, or one of another series or frame of reference; no ROI is left.
    """
    dataset = read_regions_file(path, kinds=(RTStructureSetStorage,), kind="structure set")
    name = printable(path)
    try:
        is_named = check_drawn_on(_drawn_on(dataset), series, path=path, kind="structure set")
        rois = items_of(dataset, "StructureSetROISequence")
        drawn = {text_of(item, "ReferencedROINumber"): item for item in items_of(dataset, "ROIContourSequence")}
    except BadFile as error:
        raise ValueError(f"{name} {error}") from error
    taken: set[str] = set()
    for place, roi in enumerate(rois, 1):
        roi_name = f"ROI {place}"
        try:
            number = integer_of(roi, "ROINumber")
            roi_name = one_line(text_of(roi, "ROIName")) or f"ROI {number}"
            mask, notes = _read_roi(roi, drawn.get(str(number), pydicom.Dataset()), series, is_named=is_named)
        except BadFile as error:
            logger.warning("%s: the region %s is left out: it %s", name, quoted(roi_name), error)
            continue
        if notes:
            reasons = ", ".join(f"{notes[reason]} {reason}" for reason in notes)
            logger.warning("%s: of the contours of %s, %s", name, quoted(roi_name), reasons)
        if mask.any():
            taken.add(free := free_name(roi_name, taken=taken))
            yield DrawnRegion(number, free, mask)
        else:
            logger.warning("%s: the region %s is left out: no voxel of the series lies in it", name, quoted(roi_name))
    if not taken:
        raise ValueError(f"{name}: no voxel of the series lies in a closed contour")


def find_structure_sets(root: Path) -> dict[Path, DrawnOn]:
    """The RT Structure Sets below `root`, or `root` itself, and what each was drawn on; other files are passed over."""
    return find_origins(root, kinds=(RTStructureSetStorage,), origin_of=_drawn_on)


def _drawn_on(dataset: pydicom.Dataset) -> DrawnOn:
    """Series and images that the whole file (PS3.3 C.8.8.5) and its contours (C.8.8.6) refer to; frames of both, and of ROIs."""
    frames = items_of(dataset, "ReferencedFrameOfReferenceSequence")
    studies = [study for frame in frames for study in items_of(frame, "RTReferencedStudySequence")]
    series = [one for study in studies for one in items_of(study, "RTReferencedSeriesSequence")]
    contours = [contour for roi in items_of(dataset, "ROIContourSequence") for contour in _contour_items(roi)]
    images = [image for drawn in (*series, *contours) for image in items_of(drawn, "ContourImageSequence")]
    return drawn_on(
        dataset,
        series=uids_of(series, "SeriesInstanceUID"),
        images=uids_of(images, "ReferencedSOPInstanceUID"),
        frames=[
            *uids_of(frames, "FrameOfReferenceUID"),
            *uids_of(items_of(dataset, "StructureSetROISequence"), "ReferencedFrameOfReferenceUID"),
            *uids_of([dataset], "FrameOfReferenceUID"),
        ],
    )


def _contour_items(roi: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The contours of an ROI; none of one that is broken, which is named when it is read."""
    try:
        return items_of(roi, "ContourSequence")
    except BadFile:
        return []


def _read_roi(
    roi: pydicom.Dataset, drawn: pydicom.Dataset, series: Series, *, is_named: bool
) -> tuple[NDArray[np.bool_], Counter[str]]:
    """The mask (Z, Y, X), and how many contours do not count by reason. Raises BadFile."""
    frame_uid = text_of(roi, "ReferencedFrameOfReferenceUID")
    if frame_uid and series.frame_of_reference_uid and frame_uid != series.frame_of_reference_uid:
        raise BadFile("is drawn in another FrameOfReferenceUID than the series has")
    items = items_of(drawn, "ContourSequence")
    if not items:
        raise BadFile("has no contours")
    contours = [_corners(item) for item in items if _geometric_type(item) in CLOSED]
    closed = [corners for corners in contours if len(corners) > 2]
    if not is_named:
        _check_positions(closed, series)
    mask, notes = _fill(closed, series)
    return mask, Counter({OPEN: len(items) - len(closed)} if len(closed) < len(items) else {}) + notes


def _geometric_type(contour: pydicom.Dataset) -> str:
    if not (geometric_type := text_of(contour, "ContourGeometricType")):
        raise BadFile("has a contour without ContourGeometricType")
    return geometric_type


def _corners(contour: pydicom.Dataset) -> Contour:
    texts = texts_of(contour, "ContourData", max_bytes=MAX_CONTOUR_BYTES)
    try:
        corners = np.array(texts, dtype=np.float64)
    except ValueError as error:
        raise BadFile("has a ContourData that holds no numbers") from error
    if corners.size % 3:
        raise BadFile(f"has a ContourData of {corners.size} numbers, where three belong to each corner")
    if not (np.abs(corners) < MAX_POSITION_MM).all():  # also for NaN
        raise BadFile(f"has a corner farther than {MAX_POSITION_MM:g} mm from the origin")
    return corners.reshape(-1, 3)


def _check_positions(contours: Sequence[Contour], series: Series) -> None:
    """BadFile for contours that cannot have been drawn on slices like these, though nothing says on which they were."""
    first_mm, last_mm = series.slices[0].z_mm, series.slices[-1].z_mm
    for contour in contours:
        index, distance_mm = _nearest_slice(contour, series)
        z_mm = float((contour @ _axes(series)[:, 2]).mean())
        is_between = first_mm < z_mm < last_mm
        if is_between and (index is None or abs(distance_mm) > spacing_tolerance_mm(series.slice_depths_mm[index])):
            raise BadFile(f"has a contour at z = {z_mm:.2f} mm, which is between the slices of the series")
        corners = _to_pixels(contour, series, index or 0)
        if corners.min() < -1 or (corners > np.array([series.rows, series.columns])).any():
            raise BadFile("has a contour outside the slices of the series")


def _fill(contours: Sequence[Contour], series: Series) -> tuple[NDArray[np.bool_], Counter[str]]:
    """The mask (Z, Y, X) of closed contours, and how many do not count by reason."""
    notes: Counter[str] = Counter()
    by_slice: dict[int, list[tuple[float, Contour]]] = defaultdict(list)
    for contour in contours:
        index, distance_mm = _nearest_slice(contour, series)
        if index is None:
            notes[NO_SLICE] += 1
        else:
            by_slice[index].append((distance_mm, contour))
    mask = np.zeros((series.num_slices, series.rows, series.columns), dtype=bool)
    for index, of_slice in by_slice.items():
        nearest_mm = min((distance_mm for distance_mm, _ in of_slice), key=abs)
        # contours of two planes would cut each other out
        in_plane = [contour for distance_mm, contour in of_slice if abs(distance_mm - nearest_mm) <= PLANE_TOLERANCE_MM]
        notes[FARTHER] += len(of_slice) - len(in_plane)
        mask[index], in_slice = _fill_slice([_to_pixels(contour, series, index) for contour in in_plane], shape=mask.shape[1:])
        notes += in_slice
    return mask, notes


def _fill_slice(polygons: Sequence[NDArray[np.float64]], *, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], Counter[str]]:
    """The mask (Y, X) of polygons with corners (N, 2) in pixels, and how many do not count by reason."""
    notes: Counter[str] = Counter()
    mask = np.zeros(shape, dtype=bool)
    kept: list[NDArray[np.bool_]] = []
    for polygon in polygons:
        filled = fill_polygon(polygon, shape=shape)
        if not filled.any():
            notes[TINY] += 1
        elif any(_is_same(filled, other) for other in kept):
            notes[TWICE] += 1
        else:
            notes[CROSSING] += any(_cross(filled, other) for other in kept)
            kept.append(filled)
            mask ^= filled
    return mask, +notes


def _is_same(filled: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks (Y, X) are of one line: what only one of them holds is a small part of the pixels along it."""
    along_line = filled & ~ndimage.binary_erosion(filled)
    return bool(np.count_nonzero(filled ^ other) <= SAME_LINE_PX * np.count_nonzero(along_line))


def _cross(filled: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks (Y, X) share pixels, but none of them holds the other."""
    smaller = min(np.count_nonzero(filled), np.count_nonzero(other))
    return bool(CROSSING_SHARE * smaller < np.count_nonzero(filled & other) < (1 - CROSSING_SHARE) * smaller)


def _axes(series: Series) -> NDArray[np.float64]:
    """Unit vectors as columns (3, 3): along a row, along a column, along the normal."""
    along_row, along_column = np.array(series.orientation[:3]), np.array(series.orientation[3:])
    normal = np.cross(along_row, along_column)
    return np.stack([along_row, along_column, normal / np.linalg.norm(normal)], axis=1)


def _nearest_slice(contour: Contour, series: Series) -> tuple[int | None, float]:
    """The slice that a contour is drawn on, None where there is none, and how far above it the contour lies, in mm."""
    z_mm = contour @ _axes(series)[:, 2]
    slices_mm = np.array([header.z_mm for header in series.slices])
    distances_mm = z_mm.mean() - slices_mm
    index = int(np.abs(distances_mm).argmin())
    steps_mm = np.diff(slices_mm)[max(0, index - 1) : index + 1]
    half_mm = (steps_mm.max() if steps_mm.size else series.slice_spacing_mm) / 2
    is_on_slice = np.abs(z_mm - slices_mm[index]).max() <= half_mm + PLANE_TOLERANCE_MM
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
