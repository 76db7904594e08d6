"""What a volume file says, checked where ITK does not: one grid, axes at right angles, all of the voxels."""

import gzip
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ltdiff.system.text import printable

NIFTI_SUFFIXES = (".nii", ".nii.gz")
META_IMAGE_SUFFIXES = (".mha", ".mhd")
DAMAGED = "the voxels cannot be read, the file is damaged or cut short"
ORTHONORMAL_TOLERANCE = 1e-3
"""Largest error of a product of two directions: many writers keep four decimals."""
GRID_TOLERANCE_VOXELS = 0.25
"""How far two descriptions of one grid may lie apart at any voxel: more than rounded headers make of 512 pixels, less than the
half pixel between two conventions."""
SPACING_TOLERANCE = 1e-3
"""Largest relative difference of two spacings of one axis: a volume is as much in error."""
_CHUNK_BYTES = 2**20
NIFTI_FACTS = ("datatype", "scl_slope", "scl_inter", "vox_offset")
"""Elements of a NIfTI header by ITK's names, which decide where its values are and what they mean."""
MAX_INFLATION = 1100
"""No gzip stream becomes more times its size."""
_MAX_DIMENSIONS = 10
"""Of a MetaImage file."""
_NIFTI_BYTES, _NIFTI_2_BYTES = 348, 540
_NIFTI_FLOATS = {"16": np.dtype("f4"), "64": np.dtype("f8")}
"""By the code of the data type."""
_NIFTI: Any = {
    "names": ("dim", "pixdim", "qform_code", "sform_code", "quaternion", "offset", "srow"),
    "formats": ("8i2", "8f4", "i2", "i2", "3f4", "3f4", "(3,4)f4"),
    "offsets": (40, 76, 252, 254, 256, 268, 280),
    "itemsize": _NIFTI_BYTES,
}


def check_grid_of(path: Path, *, spacing_mm: Sequence[float], origin_mm: Sequence[float], direction: Sequence[float]) -> None:
    """ValueError naming the file when these are no regular grid: `direction` row-major, one column for each axis."""
    axes = np.array(direction).reshape(len(spacing_mm), -1)
    if not (np.isfinite(origin_mm).all() and np.isfinite(spacing_mm).all() and min(spacing_mm) > 0):
        raise ValueError(f"{printable(path)}: its spacing {_listed(spacing_mm)} mm or origin {_listed(origin_mm)} mm is none")
    if not np.abs(axes.T @ axes - np.eye(len(axes))).max() <= ORTHONORMAL_TOLERANCE:  # also for NaN
        raise ValueError(f"{printable(path)}: {describe_angles(axes)}")


def describe_angles(axes: NDArray[np.float64]) -> str:
    """Why axes (columns) form no regular grid, as the end of a sentence."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = axes / np.linalg.norm(axes, axis=0)
        cosines = (unit.T @ unit)[np.triu_indices(len(axes), 1)]
    angles = ", ".join(f"{angle:.4g}°" for angle in np.degrees(np.arccos(cosines.clip(-1, 1))))
    return f"its axes are not at right angles, as a regular grid needs, or not of one length ({angles})"


def check_nifti(path: Path) -> None:
    """ValueError naming the file when its header contradicts itself: sform, qform and pixdim (NIfTI-1 standard, methods 2 and 3).

    Programs differ in which of them they believe. What is no NIfTI header of a volume passes: its reader says so.
    """
    header = _read_header(path)
    if header is None or not header["sform_code"] > 0 or header["dim"][0] < 3:
        return
    size = np.maximum(header["dim"][1:4], 1)
    sform = header["srow"].astype(float)
    if not np.isfinite(sform).all() or not np.linalg.det(sform[:, :3]):
        raise ValueError(f"{printable(path)}: its sform is no grid")
    lengths_mm, pixdim_mm = np.linalg.norm(sform[:, :3], axis=0), header["pixdim"][1:4].astype(float)
    error = np.abs(pixdim_mm / lengths_mm - 1)
    if not (error <= np.minimum(SPACING_TOLERANCE, GRID_TOLERANCE_VOXELS / size)).all():
        raise ValueError(
            f"{printable(path)}: its header contradicts itself: voxels of {_listed(lengths_mm)} mm (sform) and of "
            f"{_listed(pixdim_mm)} mm (pixdim)"
        )
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (size - 1)[:, None]
    if header["qform_code"] > 0:
        beside = np.linalg.solve(sform[:, :3], (_qform(header) - sform) @ np.vstack([corners, np.ones(8)]))
        if not (distance := np.abs(beside).max()) <= GRID_TOLERANCE_VOXELS:
            raise ValueError(
                f"{printable(path)}: its header contradicts itself: its sform and qform lie up to {distance:.3g} voxels apart"
            )
    shear = sform[:, :3] / lengths_mm
    if np.abs(shear.T @ shear - np.eye(3)).max() > ORTHONORMAL_TOLERANCE:
        raise ValueError(f"{printable(path)}: {describe_angles(shear)}")


def _qform(header: np.void) -> NDArray[np.float64]:
    """The affine (3, 4) of a quaternion (method 2)."""
    b, c, d = header["quaternion"].astype(float)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    pixdim = header["pixdim"].astype(float)
    scale_mm = pixdim[1:4] * [1, 1, -1 if pixdim[0] < 0 else 1]
    return np.column_stack([rotation * scale_mm, header["offset"].astype(float)])


def _read_header(path: Path) -> np.void | None:
    """The elements of a NIfTI header; None of any other file."""
    try:
        with _open_nifti(path) as file:
            content = file.read(_NIFTI_BYTES)
    except (OSError, EOFError, zlib.error):
        return None
    if len(content) < _NIFTI_BYTES or content[344:345] != b"n":  # Analyze has no such mark
        return None
    order = "<" if content[:4] == _NIFTI_BYTES.to_bytes(4, "little") else ">"
    header: np.void = np.frombuffer(content, np.dtype(_NIFTI).newbyteorder(order))[0]
    return header


def check_meta_image(path: Path) -> None:
    """ValueError naming the file when it names a number of dimensions at which ITK's own code ends the process."""
    with path.open("rb") as file:
        numbers = re.findall(rb"^NDims *= *(.*?)[ \r]*$", file.read(_CHUNK_BYTES), re.MULTILINE)
    if not all(number.isdigit() and 0 < int(number) <= _MAX_DIMENSIONS for number in numbers):
        raise ValueError(f"{printable(path)}: its NDims is no number of dimensions")


def check_complete(path: Path, *, num_bytes: int) -> None:
    """ValueError naming the file when it holds less than the `num_bytes` of its voxels.

    Only where ITK does not say so in a way that a program can hear; for NRRD it raises by itself.
    """
    name = path.name.lower()
    try:
        if num_bytes > MAX_INFLATION * _num_stored_bytes(path):  # ITK takes the memory first
            complete = False
        elif name.endswith(NIFTI_SUFFIXES):
            complete = _num_nifti_bytes(path) >= num_bytes
        else:
            complete = not name.endswith(META_IMAGE_SUFFIXES) or _is_complete_meta_image(path, num_bytes)
    except (EOFError, zlib.error, OSError) as error:  # also a name for the voxels that no file can have
        raise ValueError(f"{printable(path)}: {DAMAGED}") from error
    if not complete:
        raise ValueError(f"{printable(path)}: {DAMAGED}")


def check_finite(path: Path, facts: Mapping[str, str], *, num_voxels: int) -> None:
    """ValueError naming the file when a NIfTI file holds NaN or infinity, of which ITK makes 0, water, before anybody sees them.

    `facts` are the NIFTI_FACTS of its header.
    """
    if "datatype" not in facts:
        return
    if not all(np.isfinite(float(facts[name])) for name in ("scl_slope", "scl_inter")):
        raise ValueError(f"{printable(path)}: its slope or intercept is not finite")
    dtype = _NIFTI_FLOATS.get(facts["datatype"])
    if dtype is None:
        return
    state, start = path.stat(), int(float(facts["vox_offset"]))
    if num_odd := _num_not_finite(path, state.st_mtime_ns, state.st_size, dtype=dtype, start=start, num_voxels=num_voxels):
        raise ValueError(f"{printable(path)}: {num_odd} of its values are NaN or infinite, which are no Hounsfield units")


@lru_cache
def _num_not_finite(path: Path, mtime_ns: int, num_bytes: int, *, dtype: np.dtype[Any], start: int, num_voxels: int) -> int:
    """Of the values behind the first `start` bytes; of a file, as long as it is the same, counted once."""
    with _open_nifti(path) as file:
        is_little_endian = int.from_bytes(file.read(4), "little") in (_NIFTI_BYTES, _NIFTI_2_BYTES)
        file.read(start - 4)
        dtype = dtype.newbyteorder("<" if is_little_endian else ">")
        chunks = (file.read(min(_CHUNK_BYTES, left)) for left in range(num_voxels * dtype.itemsize, 0, -_CHUNK_BYTES))
        values = (np.frombuffer(chunk, dtype, count=len(chunk) // dtype.itemsize) for chunk in chunks)
        return sum(int(np.count_nonzero(~np.isfinite(part))) for part in values)


def _open_nifti(path: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _num_stored_bytes(path: Path) -> int:
    """Of the file, and of that which a header (.mhd, .nhdr) names for the voxels."""
    with path.open("rb") as file:
        head = file.read(_CHUNK_BYTES)
    named = re.search(rb"^(?:ElementDataFile *=|data ?file:) *(.+?) *\r?\n", head, re.MULTILINE | re.IGNORECASE)
    num_bytes = path.stat().st_size
    if named is None or named[1].upper() == b"LOCAL":
        return num_bytes
    data_path = path.parent / os.fsdecode(named[1])
    return num_bytes + data_path.stat().st_size if data_path.is_file() else sys.maxsize  # a list of files: ITK finds out


def _num_nifti_bytes(path: Path) -> int:
    """ITK reads a NIfTI file that was cut short without a word and invents the rest."""
    with _open_nifti(path) as file:
        return sum(map(len, iter(lambda: file.read(_CHUNK_BYTES), b"")))  # to the end, where gzip keeps its checksum


def _is_complete_meta_image(path: Path, num_bytes: int) -> bool:
    """ITK reports a MetaImage file that was cut short on the terminal, past Python, before it raises."""
    with path.open("rb") as file:
        head = file.read(_CHUNK_BYTES)
    data_file = re.search(rb"^ElementDataFile *= *(.+?) *\r?\n", head, re.MULTILINE)
    packed = re.search(rb"^CompressedDataSize *= *(\d+)", head, re.MULTILINE)
    if data_file is None:
        return False
    if data_file[1].upper() == b"LOCAL":
        available = path.stat().st_size - data_file.end()
    else:
        data_path = path.parent / os.fsdecode(data_file[1])
        available = data_path.stat().st_size if data_path.is_file() else num_bytes  # a list of files: ITK finds out
    return available >= (int(packed[1]) if packed else num_bytes)


def _listed(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "\\".join(f"{value:.6g}" for value in values)
