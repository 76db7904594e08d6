"""Whether two scans lie on the same grid: same patient, frame of reference, pixels and slice positions."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.grid import SPACING_TOLERANCE_MM, THICKNESS_TOLERANCE_MM
from ltdiff.dicom.scan import Scan, SliceHeader
from ltdiff.system.text import printable

POSITION_TOLERANCE_MM = 0.05
"""A sixteenth of a pixel: below what resampling could see."""
POSITION_TOLERANCE = 0.25
"""The same as a share of a pixel and of a step: of fine ones, 0.05 mm may be the next."""
ORIENTATION_TOLERANCE = 1e-4
"""Largest difference of a direction cosine; 500 mm times this is the position tolerance."""
MIN_SHARED = 0.5
"""Share of the slices of the longer scan: two that have more of them were meant as a pair."""
MAX_NAMED_SLICES = 3


def grid_difference(source: Scan, target: Scan) -> str:
    """Why the two cannot be two kernels of one acquisition, in words; "" when they can."""
    if source.series_instance_uid == target.series_instance_uid:
        return "they are the same series"
    if source.patient_key != target.patient_key:
        return "they belong to different patients"
    return _frame_difference(source, target) or _plane_difference(source, target) or _slice_difference(source, target)


def voxel_difference(one: Scan, other: Scan) -> str:
    """Why voxels of the same index in two scans do not lie at the same place, in words; "" when they do."""
    if one.num_slices != other.num_slices:
        return f"one has {one.num_slices} slices, the other {other.num_slices}"
    if reason := _frame_difference(one, other) or _plane_difference(one, other):
        return reason
    num_shared = len(_partners(one, other))
    return "" if num_shared == one.num_slices else f"{one.num_slices - num_shared} of {one.num_slices} slices lie elsewhere"


def _frame_difference(source: Scan, target: Scan) -> str:
    uids = source.frame_of_reference_uid, target.frame_of_reference_uid
    return "their FrameOfReferenceUID differs" if all(uids) and uids[0] != uids[1] else ""  # volume files have none


def _plane_difference(source: Scan, target: Scan) -> str:
    sizes = (source.rows, source.columns), (target.rows, target.columns)
    if sizes[0] != sizes[1]:
        return f"one has {sizes[0][0]} x {sizes[0][1]} pixels, the other {sizes[1][0]} x {sizes[1][1]}"
    if not np.allclose(source.spacing_mm, target.spacing_mm, rtol=0, atol=SPACING_TOLERANCE_MM):
        return f"their pixel spacing is {_numbers(source.spacing_mm)} mm and {_numbers(target.spacing_mm)} mm"
    return _orientation_difference(source, target) or _thickness_difference(source, target)


def _orientation_difference(source: Scan, target: Scan) -> str:
    if np.allclose(source.orientation, target.orientation, rtol=0, atol=ORIENTATION_TOLERANCE):
        return ""
    return f"their orientation is {_numbers(source.orientation)} and {_numbers(target.orientation)}"


def _thickness_difference(source: Scan, target: Scan) -> str:
    thick_mm, other_mm = source.slice_thickness_mm, target.slice_thickness_mm
    if thick_mm is None or other_mm is None or abs(thick_mm - other_mm) <= THICKNESS_TOLERANCE_MM:
        return ""
    return f"their slices are {thick_mm:g} mm and {other_mm:g} mm thick"


def _slice_difference(source: Scan, target: Scan) -> str:
    """Slices without a partner are no matter at the ends, where one of the two reconstructions may begin or end earlier."""
    partners, sizes = _partners(source, target), np.array([source.num_slices, target.num_slices])
    if len(partners) > MIN_SHARED * sizes.max() and (np.diff(partners, axis=0) == 1).all():
        before, behind = partners[0], sizes - 1 - partners[-1]
        if not before.all() and not behind.all():
            return ""
    alone = [set(range(one.num_slices)) - set(partners[:, side]) for side, one in enumerate((source, target))]
    reasons = [
        f"{len(numbers)} of {one.num_slices} slices of kernel {one.kernel!r} have no partner "
        f"({_names([one.slices[number] for number in sorted(numbers)])})"
        for one, numbers in zip((source, target), alone, strict=True)
        if numbers
    ]
    return ", and ".join(reasons)


def _partners(source: Scan, target: Scan) -> NDArray[np.int64]:
    """Indices (N, 2) of slices of source and target at the same position, in ascending order."""
    positions, others = (np.array([header.position_mm for header in scan.slices]) for scan in (source, target))
    distances = np.stack([np.abs(others - position).max(axis=1) for position in positions])
    is_partner = distances <= position_tolerance_mm(source)
    return np.argwhere(is_partner & (distances == distances.min(axis=1, keepdims=True)))


def position_tolerance_mm(scan: Scan) -> float:
    """How far slices that show the same may lie apart: less than to the next slice or pixel."""
    return min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * min(*scan.spacing_mm, scan.slice_spacing_mm))


def shared_slices(source: Scan, target: Scan) -> tuple[Scan, Scan]:
    """Both scans on the same grid, without the slices at an end that only one of them has."""
    partners = _partners(source, target).T
    first, second = (
        replace(one, slices=tuple(one.slices[i] for i in of_one)) for one, of_one in zip((source, target), partners, strict=True)
    )
    return first, second


def _names(headers: Sequence[SliceHeader]) -> str:
    named = [f"{printable(Path(header.path.name))} at z {header.z_mm:g} mm" for header in headers[:MAX_NAMED_SLICES]]
    return ", ".join(named + ["…"] * (len(headers) > MAX_NAMED_SLICES))


def _numbers(values: Iterable[float]) -> str:
    return "\\".join(f"{value:g}" for value in values)


def slice_overlap(one: Scan, other: Scan) -> float:
    """Share of the longer series' slices that the other has too, from 0 to 1: same z, orientation and thickness."""
    if _orientation_difference(one, other) or _thickness_difference(one, other):
        return 0.0
    z_mm, other_z_mm = (np.array([header.z_mm for header in series.slices]) for series in (one, other))
    common = np.abs(z_mm[:, None] - other_z_mm[None, :]).min(axis=1) <= position_tolerance_mm(one)
    return float(common.sum() / max(len(z_mm), len(other_z_mm)))
