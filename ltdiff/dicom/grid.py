"""Do the slices of one series form a regular grid? If not: BadFile, naming the positions."""

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import numpy as np

from ltdiff.dicom.dicom_file import BadFile, read_pixel_bytes
from ltdiff.dicom.header import Header
from ltdiff.system.text import printable

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of the direction cosines of two slices of a series."""
POSITION_TOLERANCE_MM = 0.01
"""Slices nearer than this lie at the same place."""
SLICE_SPACING_TOLERANCE_MM = 0.15
"""Largest difference of a slice distance from the median: positions are often rounded to 0.1 mm."""
IN_PLANE_TOLERANCE_MM = 0.2
"""A slice may lie this far beside the line along the normal (shear, gantry tilt)."""

MAX_NAMED_POSITIONS = 4

# What all slices of a series share, under the name that a message gives it.
_SHARED: tuple[tuple[str, Callable[[Header], Hashable]], ...] = (
    ("StudyInstanceUIDs", lambda header: header.study_instance_uid),
    ("FrameOfReferenceUIDs", lambda header: header.frame_of_reference_uid),
    ("patients", lambda header: header.patient_key),
    ("sizes (Rows × Columns)", lambda header: (header.geometry.rows, header.geometry.columns)),
    ("PixelSpacings", lambda header: header.geometry.spacing_mm),
    ("convolution kernels", lambda header: header.kernel),
)


def check_grid(headers: Sequence[Header]) -> list[Header]:
    """The slices of one series in ascending order along the normal, identical duplicates dropped.

    Raises BadFile: mixed study, frame of reference, patient, size, spacing, orientation or kernel; different slices
    at one position or under one SOPInstanceUID; a gap; sheared or tilted positions.
    """
    _check_shared(headers)
    ordered = _without_duplicates(sorted(headers, key=lambda header: (header.geometry.z_mm, str(header.path))))
    _check_line(ordered)
    _check_spacing(ordered)
    return ordered


def _check_shared(headers: Sequence[Header]) -> None:
    for name, value_of in _SHARED:
        odd = [header for header in headers if value_of(header) != value_of(headers[0])]
        if odd:
            raise BadFile(f"mixes {name}: {_at(odd)} others than {_at(headers[:1])}")
    first = headers[0].geometry.orientation
    odd = [header for header in headers if _differs(header.geometry.orientation, first)]
    if odd:
        raise BadFile(f"mixes orientations: {_at(odd)} others than {_at(headers[:1])}")


def _differs(orientation: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(orientation, other, strict=True)) > ORIENTATION_TOLERANCE


def _without_duplicates(ordered: list[Header]) -> list[Header]:
    kept: list[Header] = []
    by_uid: dict[str, Header] = {}
    for header in ordered:
        twin = by_uid.setdefault(header.sop_instance_uid, header)
        if twin is header and kept and header.geometry.z_mm - kept[-1].geometry.z_mm < POSITION_TOLERANCE_MM:
            twin = kept[-1]
        if twin is header:
            kept.append(header)
        elif not _identical(header, twin):
            raise BadFile(
                f"has two different slices with the same position or SOPInstanceUID, {printable(twin.path)} and "
                f"{printable(header.path)}: {_at([twin, header])}"
            )
    return kept


def _identical(header: Header, twin: Header) -> bool:
    same_meaning = (header.geometry, header.pixel_format) == (twin.geometry, twin.pixel_format)
    return same_meaning and read_pixel_bytes(header.path) == read_pixel_bytes(twin.path)


def _check_line(ordered: Sequence[Header]) -> None:
    first = ordered[0].geometry
    offsets = np.array([header.geometry.position_mm for header in ordered]) - first.position_mm
    normal = np.array(first.normal)
    beside_mm = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    if beside_mm.max() > IN_PLANE_TOLERANCE_MM:
        odd = [header for header, distance in zip(ordered, beside_mm, strict=True) if distance > IN_PLANE_TOLERANCE_MM]
        raise BadFile(f"is sheared or tilted, up to {beside_mm.max():.2f} mm beside the first slice: {_at(odd)}")


def _check_spacing(ordered: Sequence[Header]) -> None:
    z_mm = [header.geometry.z_mm for header in ordered]
    steps_mm = np.diff(z_mm)
    if not steps_mm.size:
        return
    usual_mm = float(np.median(steps_mm))
    gaps = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(z_mm) if abs(high - low - usual_mm) > SLICE_SPACING_TOLERANCE_MM]
    if gaps:
        raise BadFile(f"has gaps: its slices are {usual_mm:.2f} mm apart, but not from z = {_listed(gaps)} mm")


def _at(headers: Sequence[Header]) -> str:
    return "z = " + _listed([f"{header.geometry.z_mm:.2f}" for header in headers]) + " mm"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_POSITIONS} more" if len(names) > MAX_NAMED_POSITIONS else ""
    return ", ".join(names[:MAX_NAMED_POSITIONS]) + more
