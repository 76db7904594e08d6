"""NIfTI, NRRD and MetaImage files through SimpleITK, which is imported here and for PyRadiomics alone.

Whatever order a file keeps its voxels in, arrays here hold axial slices in ascending z with rows from anterior to
posterior and columns from right to left, as a standard axial DICOM series does. `write_volume` restores the file's order.
"""

import hashlib
import logging
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from typing_extensions import override

from ltdiff.data.volume_header import (
    DAMAGED,
    META_IMAGE_SUFFIXES,
    NIFTI_FACTS,
    NIFTI_SUFFIXES,
    check_complete,
    check_finite,
    check_grid_of,
    check_meta_image,
    check_nifti,
)
from ltdiff.dicom.filler import find_filler
from ltdiff.dicom.header import named_errors
from ltdiff.dicom.hounsfield import ScanCheck, check_slice
from ltdiff.dicom.scan import AIR_FILL_HU, Scan, SliceHeader, StoredSlice, Volume
from ltdiff.system.atomic_files import PARTIAL_PREFIX, sync
from ltdiff.system.remote_input import fetch_missing
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", *META_IMAGE_SUFFIXES)
ORIENTATION = "LPS"
"""Axes point to the patient's left, posterior, superior: DICOM's axial standard."""
MIN_HU, MAX_HU = -10_000.0, 40_000.0
"""Beyond what any CT stores: the values are no HU."""


@dataclass(frozen=True, kw_only=True)
class VolumeFile(Scan):
    """A scan in a volume file. Its format has no room for kernel, manufacturer, slice thickness and patient.

    `series_instance_uid` and `patient_key` are hashes of the voxels, so they are the same wherever the file lies and
    however it is packed.
    """

    distance_mm: float
    """Of neighbouring slices."""
    direction: tuple[float, ...]
    stored_orientation: str
    value_warning: str = ""
    """What makes it likely that the values are no HU."""

    @override
    def check_values(self) -> str:
        """All of them were checked when the file was read."""
        return self.value_warning

    @property
    @override
    def slice_spacing_mm(self) -> float:
        return self.distance_mm

    @override
    def read_slice(self, index: int) -> NDArray[np.float32]:
        return read_volume_slice(self.path, self.slices[index].index)

    @override
    def read_slices(self) -> Iterator[StoredSlice]:
        volume = read_volume(self.path)
        if _voxel_uid(volume) != self.series_instance_uid:
            raise ValueError(f"{printable(self.path)} is no longer the file that was found: it has other voxels")
        yield from _checked_slices(volume, self.path, check=ScanCheck())

    @override
    def make_volume(self, slices_hu: NDArray[np.float32]) -> Volume:
        """It can be written back in the order of the file's own voxels."""
        return Volume(
            hu=slices_hu,
            spacing_mm=(self.distance_mm, *self.spacing_mm),
            origin_mm=self.slices[0].position_mm,
            direction=self.direction,
            stored_orientation=self.stored_orientation,
        )


def is_volume_file(path: Path) -> bool:
    """Whether the name ends like a NIfTI, NRRD or MetaImage file; the file itself is not looked at."""
    return path.name.lower().endswith(SUFFIXES)


def read_volume(path: Path, *, orientation: str = ORIENTATION) -> Volume:
    """Read a CT volume in HU, its axes in this order and direction; a two-dimensional image is a volume of one slice.

    Raises ValueError naming the file when it is missing, broken, cut short, no scalar volume, or its values are no HU.
    """
    image = _read(path)
    oriented = sitk.DICOMOrient(image, orientation)
    hu = _checked_hu(sitk.GetArrayFromImage(oriented), path)
    x_mm, y_mm, z_mm = oriented.GetSpacing()
    return Volume(
        hu=hu,
        spacing_mm=(z_mm, y_mm, x_mm),
        origin_mm=oriented.GetOrigin(),
        direction=oriented.GetDirection(),
        stored_orientation=orientation_code(image.GetDirection()),
    )


def write_volume(volume: Volume, path: Path) -> None:
    """Write in the format of the file name, voxels in the order of the file that the volume came from.

    The type is int16 when all values are whole and fit, float32 otherwise. The file appears when it is complete. Raises
    ValueError when the name is of no known format.
    """
    if not is_volume_file(path):
        raise ValueError(f"{printable(path)}: the name ends with none of {', '.join(SUFFIXES)}")
    image = sitk.DICOMOrient(_image(volume), volume.stored_orientation)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL_PREFIX) as folder:
        sitk.WriteImage(image, Path(folder, path.name))
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):  # the header comes last
            sync(file)
            file.replace(path.parent / file.name)
            sync(path.parent)


def write_hu(hu: NDArray[np.float32], path: Path, *, spacing_mm: tuple[float, float, float]) -> None:
    """Write axial slices (Z, Y, X) with spacing (z, y, x) whose first voxel lies at the origin, as `write_volume` does."""
    write_volume(Volume(hu, spacing_mm, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())), path)


def _image(volume: Volume) -> sitk.Image:
    limits = np.iinfo(np.int16)
    whole = np.array_equal(volume.hu, np.round(volume.hu))
    fits = whole and volume.hu.min() >= limits.min and volume.hu.max() <= limits.max
    image = sitk.GetImageFromArray(volume.hu.astype(np.int16 if fits else np.float32))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(volume.direction)
    return image


def read_volume_slice(path: Path, index: int) -> NDArray[Any]:
    """Axial slice `index` (from 0, ascending z) of a volume file: float32 (Y, X) in HU. Errors as `read_volume`.

    What lies outside the field of view becomes air, as in a DICOM slice. Where the format allows it, only this slice is
    read; a compressed file is decompressed as a whole.
    """
    reader = _header(path)
    check_finite(path, _facts(reader), num_voxels=math.prod(reader.GetSize()))
    axis, flipped = _z_axis(reader)
    size, start = list(reader.GetSize()), [0] * reader.GetDimension()
    num_slices = size[axis] if axis < len(size) else 1
    if not 0 <= index < num_slices:
        raise ValueError(f"{printable(path)}: slice {index} is not among the {num_slices} slices of the file")
    if axis < len(size):
        size[axis], start[axis] = 1, num_slices - 1 - index if flipped else index
    reader.SetExtractSize(size)
    reader.SetExtractIndex(start)
    image = sitk.DICOMOrient(_volume_image(_execute(reader, path)), ORIENTATION)
    hu = _checked_hu(sitk.GetArrayFromImage(image)[0], path)
    return _stored_slice(hu, path).hu


def _stored_slice(hu: NDArray[np.float32], path: Path) -> StoredSlice:
    """A slice (Y, X), when its values can be HU."""
    filler = find_filler(hu)
    with named_errors(path):
        levels = check_slice(hu, filler)
    return StoredSlice(hu, filler, np.where(filler, np.float32(AIR_FILL_HU), hu), levels)


def _checked_slices(volume: Volume, path: Path, *, check: ScanCheck) -> Iterator[StoredSlice]:
    """The slices of a volume, when their values can be HU."""
    for index, hu in enumerate(volume.hu):
        one = _stored_slice(hu, path)
        with named_errors(path):
            check.add(index, one.hu, one.padding, one.levels)
        yield one


def _z_axis(reader: sitk.ImageFileReader) -> tuple[int, bool]:
    """Which axis of the file goes from slice to slice, and whether from superior to inferior."""
    if reader.GetDimension() == 2:
        return 2, False
    code = orientation_code(reader.GetDirection())
    return (code.index("S"), False) if "S" in code else (code.index("I"), True)


def read_mask(path: Path, *, orientation: str = ORIENTATION) -> NDArray[Any]:
    """Labels (Z, Y, X), uint16, axes as in `read_volume`.

    Raises ValueError naming the file when it is missing, broken, or holds other values than whole ones from 0 to 65535.
    """
    image = _read(path)
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(image, orientation))
    with np.errstate(invalid="ignore"):  # NaN is no whole number
        labels = values.astype(np.uint16)
    if not np.array_equal(labels, values):
        raise ValueError(f"{printable(path)}: a mask holds whole numbers from 0 to 65535, and this file holds others")
    return labels


def read_volume_scan(path: Path) -> VolumeFile:
    """A volume file as a scan. Errors as `read_volume`, and where values are no HU; where that is likely, the log names them."""
    volume = read_volume(path)
    check = ScanCheck()
    for _ in _checked_slices(volume, path, check=check):
        pass
    with named_errors(path):
        warning = check.finish()
    if warning:
        logger.warning("%s: %s", printable(path), warning)
    axes = np.array(volume.direction).reshape(3, 3).T  # rows: the directions of x, y and z
    uid = _voxel_uid(volume)
    return VolumeFile(
        series_instance_uid=uid,
        patient_key=uid.removeprefix("voxels-")[:12],
        rows=volume.hu.shape[1],
        columns=volume.hu.shape[2],
        spacing_mm=volume.spacing_mm[1:],
        orientation=tuple(axes[:2].ravel().tolist()),
        slices=tuple(_slice_header(path, volume, axes, index) for index in range(volume.num_slices)),
        distance_mm=volume.spacing_mm[0],
        direction=volume.direction,
        stored_orientation=volume.stored_orientation,
        value_warning=warning,
    )


def _voxel_uid(volume: Volume) -> str:
    """What stands for a SeriesInstanceUID, which these formats do not have."""
    digest = hashlib.sha256(repr(volume.hu.shape).encode() + volume.hu.tobytes()).hexdigest()
    return f"voxels-{digest[:32]}"


def _slice_header(path: Path, volume: Volume, axes: NDArray[np.float64], index: int) -> SliceHeader:
    position_mm = np.array(volume.origin_mm) + index * volume.spacing_mm[0] * axes[2]
    x_mm, y_mm, z_mm = position_mm.tolist()
    return SliceHeader(path, (x_mm, y_mm, z_mm), z_mm=float(position_mm @ np.cross(axes[0], axes[1])), index=index)


def _header(path: Path) -> sitk.ImageFileReader:
    if not path.is_file() and not fetch_missing(path):
        raise ValueError(f"{printable(path)}: there is no such file")
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        check_nifti(path)
    if path.name.lower().endswith(META_IMAGE_SUFFIXES):
        check_meta_image(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        with _itk_warnings(path):
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{printable(path)}: cannot be read as a NIfTI, NRRD or MetaImage file") from error
    if reader.GetDimension() not in (2, 3) or reader.GetNumberOfComponents() != 1:
        raise ValueError(
            f"{printable(path)}: a CT volume has 3 dimensions and one value per voxel, not {reader.GetDimension()} dimensions "
            f"with {reader.GetNumberOfComponents()} values"
        )
    check_grid_of(path, spacing_mm=reader.GetSpacing(), origin_mm=reader.GetOrigin(), direction=reader.GetDirection())
    return reader


class _ItkMessages(sitk.LoggerBase):
    """What ITK would write to the terminal, past Python. Of a warning its place in ITK is kept: the text may quote a header."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, None] = {}

    def DisplayWarningText(self, t: str) -> None:
        self.places |= dict.fromkeys(re.findall(r"\w+\.\w+, line \d+", t)[:1])

    def DisplayText(self, t: str) -> None:
        pass

    DisplayErrorText = DisplayGenericOutputText = DisplayDebugText = DisplayText


@contextmanager
def _itk_warnings(path: Path) -> Iterator[None]:
    """Log, once a file, that ITK warns of it."""
    messages = _ItkMessages()
    before = messages.SetAsGlobalITKLogger()
    try:
        yield
    finally:
        before.SetAsGlobalITKLogger()
    for place in messages.places:
        _warn_once(path, place)


@lru_cache(maxsize=1024)
def _warn_once(path: Path, place: str) -> None:
    logger.warning("%s: ITK, which reads it, finds it odd (%s)", printable(path), place)


def _read(path: Path) -> sitk.Image:
    reader = _header(path)
    check_complete(path, num_bytes=_num_bytes(reader))
    check_finite(path, _facts(reader), num_voxels=math.prod(reader.GetSize()))
    return _volume_image(_execute(reader, path))


def _num_bytes(reader: sitk.ImageFileReader) -> int:
    """Of the voxels in the file, and what stands before them in a NIfTI file; there a slope makes them float only when read."""
    num_voxels = math.prod(reader.GetSize())
    if reader.HasMetaDataKey("bitpix"):
        return int(float(reader.GetMetaData("vox_offset"))) + num_voxels * int(reader.GetMetaData("bitpix")) // 8
    return num_voxels * int(sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent())


def _facts(reader: sitk.ImageFileReader) -> dict[str, str]:
    """What a NIfTI header says that ITK has no other name for; other names need not even be text."""
    return {name: reader.GetMetaData(name) for name in NIFTI_FACTS if reader.HasMetaDataKey(name)}


def _execute(reader: sitk.ImageFileReader, path: Path) -> sitk.Image:
    try:
        with _itk_warnings(path):
            return reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{printable(path)}: {DAMAGED}") from error


def _volume_image(image: sitk.Image) -> sitk.Image:
    return sitk.JoinSeries(image) if image.GetDimension() == 2 else image


def orientation_code(direction: tuple[float, ...]) -> str:
    """Where the axes of a volume (3 × 3, row-major, x, y and z in columns) nearly point to: "LPS", of a prone patient "RAS"."""
    code: str = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction)
    return code


def _checked_hu(values: NDArray[Any], path: Path) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what a float32 cannot hold is infinite then, and refused
        hu = values.astype(np.float32)
    if num_odd := int(np.count_nonzero(~np.isfinite(hu))):
        raise ValueError(f"{printable(path)}: {num_odd} of its values are NaN or infinite, which are no Hounsfield units")
    low, high = float(hu.min()), float(hu.max())
    if low < MIN_HU or high > MAX_HU:
        raise ValueError(f"{printable(path)}: values from {low:g} to {high:g} are no Hounsfield units")
    return hu
