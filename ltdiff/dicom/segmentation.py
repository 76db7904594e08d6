"""Reading DICOM Segmentations (PS3.3 A.51) as regions on the slices of a CT series, whatever program wrote them."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, SegmentationStorage

from ltdiff.dicom.dicom_file import MAX_PIXELS, BadFile
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
from ltdiff.dicom.elements import integer_of, numbers_of, text_of
from ltdiff.dicom.grid import spacing_tolerance_mm
from ltdiff.dicom.series import Series
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)

BINARY, FRACTIONAL, LABELMAP = "BINARY", "FRACTIONAL", "LABELMAP"
LabelMapSegmentationStorage = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Since DICOM 2024d; pydicom does not know it yet."""
STORAGES = (SegmentationStorage, LabelMapSegmentationStorage)
OTHER_GRID = "lies on another grid than the slices of the series"
MAX_NAMED_SEGMENTS = 4
MAX_BESIDE_PX = 4096
"""No frame begins so far beside a slice: what is between would be filled up in memory."""
GRID_TOLERANCE_PX = 0.02
POSITION_ROUNDING_MM = 0.1
"""A frame may lie this far beside a pixel's centre, because positions are rounded."""


@without_warnings_inside
def read_segmentation(path: Path, series: Series) -> Iterator[DrawnRegion]:
    """Yield the segments as regions on the slices of `series`, by SegmentLabel; a second one of a name gets " (2)".

    BINARY and LABELMAP (PS3.3 C.8.20.2), and FRACTIONAL where each voxel is either all in or all out. Segments may overlap.
    Frames are brought to their slices by position and orientation, for not every program says which slice they were drawn on.
    The log names the segments that hold no voxel of the series, and what the file is taken by where it does not name the series
    (see `check_drawn_on`).

    Raises:
        ValueError: the file is no segmentation, or one of another series or grid, or it cannot be read; there is no voxel in it.
    """
    dataset = read_regions_file(path, kinds=STORAGES, kind="segmentation")
    name = printable(path)
    try:
        check_drawn_on(_drawn_on(dataset), series, path=path, kind="segmentation")
        names = segment_names(dataset)
        empty = dict(names)
        for number, mask in _masks(dataset, series, path=path):
            if mask.any():
                empty.pop(number, None)
                yield DrawnRegion(number, names.get(number) or free_name(f"label_{number}", taken=names.values()), mask)
    except BadFile as error:
        raise ValueError(f"{name} {error}") from error
    if len(empty) == len(names):
        raise ValueError(f"{name}: no voxel of the series is in a segment")
    if empty:
        logger.warning("%s: %d of %d segments hold no voxel of the series: %s", name, len(empty), len(names), _listed(empty))


def find_segmentations(root: Path) -> dict[Path, DrawnOn]:
    """The DICOM SEG files below `root`, or `root` itself, and what each was drawn on; other files are passed over."""
    return find_origins(root, kinds=STORAGES, origin_of=_drawn_on)


def _drawn_on(dataset: pydicom.Dataset) -> DrawnOn:
    """Series and images from the references of the whole file (PS3.3 C.12.1.1.1) and of its frames (C.7.6.16.2.6)."""
    series = items_of(dataset, "ReferencedSeriesSequence")
    images = [image for one in series for image in items_of(one, "ReferencedInstanceSequence")]
    for group in (*items_of(dataset, "PerFrameFunctionalGroupsSequence"), *items_of(dataset, "SharedFunctionalGroupsSequence")):
        for derivation in items_of(group, "DerivationImageSequence"):
            images += items_of(derivation, "SourceImageSequence")
    return drawn_on(
        dataset,
        series=uids_of(series, "SeriesInstanceUID"),
        images=uids_of(images, "ReferencedSOPInstanceUID"),
        frames=uids_of([dataset], "FrameOfReferenceUID"),
    )


def segment_names(dataset: pydicom.Dataset) -> dict[int, str]:
    """SegmentLabel by SegmentNumber, as they may stand in a table; the background of a label map is no segment."""
    names: dict[int, str] = {}
    for item in items_of(dataset, "SegmentSequence"):
        number = integer_of(item, "SegmentNumber")
        label = one_line(text_of(item, "SegmentLabel")) or f"label_{number}"
        names[number] = free_name(label, taken=names.values())
    if _kind(dataset) == LABELMAP:
        names.pop(_background(dataset), None)
    return names


def _kind(dataset: pydicom.Dataset) -> str:
    kind = text_of(dataset, "SegmentationType")
    if kind not in (BINARY, FRACTIONAL, LABELMAP):
        raise BadFile(f"has a SegmentationType that is none of {BINARY}, {FRACTIONAL} and {LABELMAP}")
    return kind


def _background(dataset: pydicom.Dataset) -> int:
    """The value of a label map's voxels that are in no segment."""
    return integer_of(dataset, "PixelPaddingValue") if text_of(dataset, "PixelPaddingValue") else 0


def _masks(dataset: pydicom.Dataset, series: Series, *, path: Path) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Number and mask (Z, Y, X) of each segment that has frames."""
    shared = items_of(dataset, "SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    groups = items_of(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != integer_of(dataset, "NumberOfFrames"):
        raise BadFile(f"has {integer_of(dataset, 'NumberOfFrames')} frames, and says of {len(groups)} where they lie")
    if integer_of(dataset, "Rows") * integer_of(dataset, "Columns") > MAX_PIXELS:
        raise BadFile(f"claims more than {MAX_PIXELS} pixels in a frame")
    frames = [_Frame.of(number, own, shared[0], series) for number, own in enumerate(groups)]
    inside = [frame for frame in frames if frame.slice_index is not None]
    if len(inside) < len(frames):
        logger.warning(
            "%s: %d of %d frames lie beyond the ends of the series", printable(path), len(frames) - len(inside), len(frames)
        )
    shape = (series.num_slices, series.rows, series.columns)
    if _kind(dataset) == LABELMAP:
        background = _background(dataset)
        labels = np.full(shape, background, np.uint16)
        for frame in inside:
            frame.lay_on(labels, _pixels(dataset, frame.number), series, background=background)
        for number in np.unique(labels).tolist():
            if number != background:
                yield number, labels == number
        return
    numbers = [
        integer_of(_group(groups[f.number], shared[0], "SegmentIdentificationSequence"), "ReferencedSegmentNumber")
        for f in inside
    ]
    for number in dict.fromkeys(numbers):
        mask = np.zeros(shape, np.uint16)
        for frame in (frame for frame, of_segment in zip(inside, numbers, strict=True) if of_segment == number):
            frame.lay_on(mask, _whole_pixels(dataset, frame.number), series)
        yield number, mask > 0


@dataclass(frozen=True)
class _Frame:
    """A frame, where it lies, and on which slice: None beyond the ends of a series of which only a part is here."""

    number: int
    slice_index: int | None
    position_mm: NDArray[np.float64]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    @classmethod
    def of(cls, number: int, own: pydicom.Dataset, shared: pydicom.Dataset, series: Series) -> "_Frame":
        """From its functional groups. Its position is brought into the plane of the slice, for positions are often rounded."""
        position_mm = np.array(numbers_of(_group(own, shared, "PlanePositionSequence"), "ImagePositionPatient", count=3))
        normal = np.cross(series.orientation[:3], series.orientation[3:])
        distances_mm = normal @ position_mm - np.array([slice_header.z_mm for slice_header in series.slices])
        index = int(np.argmin(abs(distances_mm)))
        is_on_slice = abs(distances_mm[index]) <= spacing_tolerance_mm(series.slice_depths_mm[index])
        if not is_on_slice and not ((distances_mm > 0).all() or (distances_mm < 0).all()):
            raise BadFile(OTHER_GRID)
        return cls(
            number,
            index if is_on_slice else None,
            position_mm - distances_mm[index] * normal,
            numbers_of(_group(own, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", count=6),
            numbers_of(_group(own, shared, "PixelMeasuresSequence"), "PixelSpacing", count=2),
        )

    def lay_on(self, labels: NDArray[np.uint16], pixels: NDArray[Any], series: Series, *, background: int = 0) -> None:
        """Put the frame's pixels on those of its slice of `labels` (Z, Y, X): turned, cut or extended, never resampled."""
        assert self.slice_index is not None
        first = series.slices[self.slice_index].position_mm
        try:
            plane = hd.Volume.from_attributes(
                array=pixels[None],
                image_position=_on_pixel(self.position_mm, np.array(first), series),
                image_orientation=self.orientation,
                pixel_spacing=self.spacing_mm,
                spacing_between_slices=1.0,
                coordinate_system="PATIENT",
            )
            grid = hd.VolumeGeometry.from_attributes(
                image_position=first,
                image_orientation=series.orientation,
                rows=series.rows,
                columns=series.columns,
                pixel_spacing=series.spacing_mm,
                spacing_between_slices=1.0,
                number_of_frames=1,
                coordinate_system="PATIENT",
            )
            found = plane.match_geometry(grid, tol=GRID_TOLERANCE_PX, constant_value=background).array[0]
        except (RuntimeError, ValueError) as error:
            raise BadFile(OTHER_GRID) from error
        on_slice = labels[self.slice_index]
        if found.shape != on_slice.shape:  # of frames in colour, or of axes that are nearly those of the slice
            raise BadFile(OTHER_GRID)
        on_slice[found != background] = found[found != background]


def _group(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """A functional group's only item, of the frame or of all frames (PS3.3 C.7.6.16)."""
    items = items_of(own, name) or items_of(shared, name)
    if not items:
        raise BadFile(f"has a frame without {name}")
    return items[0]


def _on_pixel(position_mm: NDArray[Any], first_mm: NDArray[Any], series: Series) -> NDArray[Any]:
    """A position in the plane of a slice, brought to the nearest pixel's centre where it is a rounding away from it."""
    for axis, pixel_mm in zip((series.orientation[:3], series.orientation[3:]), series.spacing_mm[::-1], strict=True):
        place = np.dot(axis, position_mm - first_mm) / pixel_mm
        if abs(place) > MAX_BESIDE_PX:
            raise BadFile(OTHER_GRID)
        beside_mm = (place - round(place)) * pixel_mm
        if abs(beside_mm) <= min(POSITION_ROUNDING_MM, pixel_mm / 4):
            position_mm = position_mm - beside_mm * np.array(axis)
    return position_mm


def _pixels(dataset: pydicom.Dataset, number: int) -> NDArray[Any]:
    """A frame (Y, X) as it is stored. Frames are decoded one by one: all together they may be larger than the memory."""
    try:
        pixels = np.array(pixel_array(dataset, index=number, raw=True))
    except Exception as error:  # each decoder has its own
        raise BadFile(f"cannot be read as a segmentation: its frame {number + 1} cannot be decoded") from error
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadFile(f"holds frames of {pixels.dtype} where whole numbers from 0 to 65535 belong")
    return pixels


def _whole_pixels(dataset: pydicom.Dataset, number: int) -> NDArray[Any]:
    """A frame (Y, X) of 0 and more than 0; of a FRACTIONAL segmentation, where only the highest value counts as in."""
    pixels = _pixels(dataset, number)
    if _kind(dataset) == FRACTIONAL:
        highest = integer_of(dataset, "MaximumFractionalValue")
        if num_between := np.count_nonzero((pixels > 0) & (pixels < highest)):
            raise BadFile(
                f"is a {FRACTIONAL} segmentation with {num_between} pixels between 0 and {highest} in frame {number + 1}: choose "
                f"a threshold and write it as a {BINARY} one"
            )
    return pixels


def _listed(names: Mapping[int, str]) -> str:
    more = ["…"] if len(names) > MAX_NAMED_SEGMENTS else []
    return ", ".join([*map(quoted, list(names.values())[:MAX_NAMED_SEGMENTS]), *more])
