"""Do the slices of one series belong together, and do they form a regular grid? If not: BadFile, naming the positions.

A tilted gantry and slices at varying distances are read, for most work goes slice by slice; `irregularity` names them where a
regular grid is needed.
"""

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.dicom_file import BadFile, read_pixel_bytes
from ltdiff.dicom.header import Header
from ltdiff.dicom.raw_data import ACQUISITION_NUMBER
from ltdiff.system.text import printable

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of the direction cosines of two slices of a series."""
SPACING_TOLERANCE_MM = 1e-4
"""Largest difference of two PixelSpacings that are one: 512 times this is a sixteenth of a pixel."""
POSITION_TOLERANCE_MM = 0.01
"""Slices nearer than this lie at the same place."""
SLICE_SPACING_TOLERANCE_MM = 0.15
"""Largest difference of a slice distance from the usual one: positions are often rounded to 0.1 mm."""
SLICE_SPACING_TOLERANCE = 0.45
"""The same as a share of that distance: of fine slices a missing one is less than 0.15 mm."""
IN_PLANE_TOLERANCE_MM = 0.2
"""A slice may lie this far beside the line of the others, and half a pixel."""
THICKNESS_TOLERANCE_MM = 0.01
GAP_RATIO = 1.5
"""A distance so many times those on both sides is a gap …"""
MAX_GAP_STEPS = 2
"""… if it is alone, or one of two between which a single slice is left. More of them were planned so."""
MAX_TILT_DEGREES = 45.0
"""Gantries tilt by up to 30°."""

MAX_NAMED_POSITIONS = 4

# What all slices of a series share, under the name that a message gives it.
_SHARED: tuple[tuple[str, Callable[[Header], Hashable]], ...] = (
    ("StudyInstanceUIDs", lambda header: header.study_instance_uid),
    ("FrameOfReferenceUIDs", lambda header: header.frame_of_reference_uid),
    ("patients", lambda header: header.patient_key),
    ("sizes (Rows × Columns)", lambda header: (header.geometry.rows, header.geometry.columns)),
    ("convolution kernels", lambda header: header.kernel),
)
# Likewise, numbers that may differ in their last digits.
_SHARED_NUMBERS: tuple[tuple[str, Callable[[Header], tuple[float, ...]], float], ...] = (
    ("PixelSpacings", lambda header: header.geometry.spacing_mm, SPACING_TOLERANCE_MM),
    ("orientations", lambda header: header.geometry.orientation, ORIENTATION_TOLERANCE),
)


def check_grid(headers: Sequence[Header]) -> list[Header]:
    """The slices of one series in ascending order along the normal, identical duplicates dropped.

    Raises BadFile: mixed study, frame of reference, patient, size, spacing, orientation or kernel; two reconstructions or
    acquisitions whose slices alternate; different slices at one position or under one SOPInstanceUID; a gap; slices beside the
    line of the others.
    """
    _check_shared(headers)
    ordered = sorted(headers, key=lambda header: (header.geometry.z_mm, str(header.path)))
    _check_alternating(ordered)
    ordered = _without_duplicates(ordered)
    _check_line(ordered)
    _check_gaps(ordered)
    return ordered


def irregularity(ordered: Sequence[Header]) -> str:
    """Why slices that passed `check_grid` form no regular grid in space, as the end of a sentence; "" where they do."""
    z_mm, steps_mm = _z_mm(ordered), np.diff(_z_mm(ordered))
    reasons = []
    if _beside_mm(ordered).max() > _in_plane_tolerance_mm(ordered):
        reasons.append(f"its gantry was tilted by {_tilt_degrees(ordered):.1f}°")
    if not _is_even(z_mm):
        reasons.append(f"its slices are between {steps_mm.min():.2f} and {steps_mm.max():.2f} mm apart")
    if any(_differ_in_thickness(one, ordered[0]) for one in ordered):
        thicknesses_mm = sorted({one.slice_thickness_mm for one in ordered if one.slice_thickness_mm is not None})
        reasons.append(f"its slices are between {thicknesses_mm[0]:g} and {thicknesses_mm[-1]:g} mm thick")
    return " and ".join(reasons)


def spacing_tolerance_mm(step_mm: float) -> float:
    """How far the distance of two slices may lie beside the usual one, `step_mm`."""
    return min(SLICE_SPACING_TOLERANCE_MM, SLICE_SPACING_TOLERANCE * step_mm)


def _check_shared(headers: Sequence[Header]) -> None:
    for name, value_of in _SHARED:
        odd = [header for header in headers if value_of(header) != value_of(headers[0])]
        if odd:
            raise BadFile(f"mixes {name}: {_at(odd)} others than {_at(headers[:1])}")
    for name, numbers_of, tolerance in _SHARED_NUMBERS:
        usual = numbers_of(headers[0])
        others = [header for header in headers if numbers_of(header) != usual]
        odd = [header for header in others if not np.allclose(numbers_of(header), usual, rtol=0, atol=tolerance)]
        if odd:
            values = " and ".join("\\".join(f"{value:g}" for value in numbers) for numbers in (numbers_of(odd[0]), usual))
            raise BadFile(f"mixes {name}: {_at(odd)} others than {_at(headers[:1])} ({values})")


def _check_alternating(ordered: Sequence[Header]) -> None:
    """A slice unlike its two neighbours, which are alike, is of another reconstruction: the two lie in each other's gaps."""
    for name, differ in (("slice thicknesses", _differ_in_thickness), ("acquisitions", _differ_in_acquisition)):
        triples = zip(ordered, ordered[1:], ordered[2:], strict=False)
        odd = [middle for low, middle, high in triples if differ(low, middle) and differ(middle, high) and not differ(low, high)]
        if odd:
            raise BadFile(f"mixes {name}, which alternate from slice to slice: {_at(odd)} others than those beside")


def _differ_in_thickness(header: Header, other: Header) -> bool:
    if header.slice_thickness_mm is None or other.slice_thickness_mm is None:
        return False
    return abs(header.slice_thickness_mm - other.slice_thickness_mm) > THICKNESS_TOLERANCE_MM


def _differ_in_acquisition(header: Header, other: Header) -> bool:
    """By their numbers: the times of a scan with a table that stops differ from slice to slice."""
    return header.raw_data[ACQUISITION_NUMBER] != other.raw_data[ACQUISITION_NUMBER]


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
    """Of a tilted gantry, slices lie on a line that is not their normal."""
    z_mm, offsets_mm = _z_mm(ordered), _offsets_mm(ordered)
    tolerance_mm = _in_plane_tolerance_mm(ordered)
    if _beside_mm(ordered).max() <= tolerance_mm:
        return
    slope, start = np.polyfit(z_mm - z_mm[0], offsets_mm, 1)
    from_line_mm = np.linalg.norm(offsets_mm - np.outer(z_mm - z_mm[0], slope) - start, axis=1)
    if from_line_mm.max() > tolerance_mm or _tilt_degrees(ordered) > MAX_TILT_DEGREES:
        beside_mm = _beside_mm(ordered)
        odd = [header for header, distance in zip(ordered, beside_mm, strict=True) if distance > tolerance_mm]
        raise BadFile(f"has slices on no straight line, up to {beside_mm.max():.2f} mm beside the first slice: {_at(odd)}")


def _offsets_mm(ordered: Sequence[Header]) -> NDArray[np.float64]:
    """Vectors (N, 3) in the plane of the slices, from the first one's normal to each slice."""
    first = ordered[0].geometry
    offsets = np.array([header.geometry.position_mm for header in ordered]) - first.position_mm
    return offsets - np.outer(offsets @ np.array(first.normal), first.normal)


def _beside_mm(ordered: Sequence[Header]) -> NDArray[np.float64]:
    beside_mm: NDArray[np.float64] = np.linalg.norm(_offsets_mm(ordered), axis=1)
    return beside_mm


def _tilt_degrees(ordered: Sequence[Header]) -> float:
    z_mm = _z_mm(ordered)
    return float(np.degrees(np.arctan2(_beside_mm(ordered)[-1], z_mm[-1] - z_mm[0])))


def _in_plane_tolerance_mm(ordered: Sequence[Header]) -> float:
    return min(IN_PLANE_TOLERANCE_MM, min(ordered[0].geometry.spacing_mm) / 2)


def _z_mm(ordered: Sequence[Header]) -> NDArray[np.float64]:
    return np.array([header.geometry.z_mm for header in ordered])


def _is_even(z_mm: NDArray[np.float64]) -> bool:
    """Whether each step is the usual one, or each slice lies where even steps lead: rounding is much of a fine step."""
    steps_mm = np.diff(z_mm)
    if not steps_mm.size:
        return True
    usual_mm = float(np.quantile(steps_mm, 0.5, method="lower"))  # of two steps, the one without a missing slice
    beside_mm = abs(z_mm - np.linspace(z_mm[0], z_mm[-1], len(z_mm)))
    # if one slice is missing, this is the step, and some slice lies at least so many steps beside: a half, of few slices a third
    least_mm, num_beside = (z_mm[-1] - z_mm[0]) / len(z_mm), (len(z_mm) - 1) // 2 / (len(z_mm) - 1)
    return bool(
        abs(steps_mm - usual_mm).max() <= spacing_tolerance_mm(usual_mm)
        or beside_mm.max() <= spacing_tolerance_mm(2 * num_beside * least_mm)
    )


def _check_gaps(ordered: Sequence[Header]) -> None:
    z_mm = _z_mm(ordered)
    if _is_even(z_mm):
        return
    steps_mm = np.diff(z_mm)
    gaps = [f"{low:.2f} to {high:.2f}" for index, (low, high) in enumerate(pairwise(z_mm)) if _is_gap(steps_mm, index)]
    if gaps:
        usual_mm = float(np.median(steps_mm))
        raise BadFile(f"has gaps: its slices are {usual_mm:.2f} mm apart, but not from z = {_listed(gaps)} mm")


def _is_gap(steps_mm: NDArray[np.float64], index: int) -> bool:
    """Whether a step belongs to at most MAX_GAP_STEPS that are much larger than those before and behind; at an end, to one."""
    first = last = index
    while first > 0 and GAP_RATIO * steps_mm[first - 1] > steps_mm[index]:
        first -= 1
    while last < len(steps_mm) - 1 and GAP_RATIO * steps_mm[last + 1] > steps_mm[index]:
        last += 1
    is_at_end = first == 0 or last == len(steps_mm) - 1
    return last - first + 1 <= min(1 if is_at_end else MAX_GAP_STEPS, len(steps_mm) - 1)


def _at(headers: Sequence[Header]) -> str:
    return "z = " + _listed([f"{header.geometry.z_mm:.2f}" for header in headers]) + " mm"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_POSITIONS} more" if len(names) > MAX_NAMED_POSITIONS else ""
    return ", ".join(names[:MAX_NAMED_POSITIONS]) + more
