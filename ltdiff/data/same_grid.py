"""Whether two scans lie on the same grid: same patient, frame of reference, pixels and slice positions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ltdiff.dicom.grid import SPACING_TOLERANCE_MM, THICKNESS_TOLERANCE_MM
from ltdiff.dicom.scan import Scan, SliceHeader
from ltdiff.system.text import printable

POSITION_TOLERANCE_MM = 0.05
"""A sixteenth of a pixel: below what resampling could see."""
POSITION_TOLERANCE = 0.25
"""The same as a share of a pixel and of a step: of fine ones, 0.05 mm may be the next."""
ORIENTATION_TOLERANCE = 1e-4
"""Largest difference of a direction cosine; 500 mm times this is the position tolerance."""
MAX_NAMED_SLICES = 3


def grid_difference(source: Scan, target: Scan) -> str:
    """Why the two cannot be two kernels of one acquisition, in words; "" when they can."""
    if source.series_instance_uid == target.series_instance_uid:
        return "they are the same series"
    if source.patient_key != target.patient_key:
        return "they belong to different patients"
    return _frame_difference(source, target) or _plane_difference(source, target) or _slice_difference(source, target)


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
    reasons = [
        f"{len(alone)} of {one.num_slices} slices of kernel {one.kernel!r} have no partner ({_names(alone)})"
        for one, other in ((source, target), (target, source))
        if (alone := _slices_without_partner(one, other))
    ]
    return ", and ".join(reasons)


def _slices_without_partner(series: Scan, other: Scan) -> list[SliceHeader]:
    positions = np.array([header.position_mm for header in other.slices])
    distances = (np.abs(positions - header.position_mm).max(axis=1).min() for header in series.slices)
    tolerance_mm = position_tolerance_mm(series)
    return [header for header, mm in zip(series.slices, distances, strict=True) if mm > tolerance_mm]


def position_tolerance_mm(scan: Scan) -> float:
    """How far slices that show the same may lie apart: less than to the next slice or pixel."""
    return min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * min(*scan.spacing_mm, scan.slice_spacing_mm))


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
