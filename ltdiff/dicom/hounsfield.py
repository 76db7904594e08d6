"""Are the values of a scan Hounsfield units? Every CT shows air near −1000 and something soft near 0, and neighbours are alike.

An intercept that was lost puts air at 24 and water at 1024, one applied twice puts them at −2024 and −1024: no other number of
the file need be wrong. What cannot be is refused; what can be but seldom is, as a scan without any air, is named in the log.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.filler import AIR_HU as TAGGED_AIR_HU
from ltdiff.dicom.filler import OUTSIDE_FOV_HU

PLAUSIBLE_SHARES = (
    ("below", -2000.0, 0.01),
    ("below", -1500.0, 0.05),
    ("below", -1200.0, 0.5),
    ("above", 1500.0, 0.5),
    ("above", 2500.0, 0.1),
)
"""The largest share of a slice's pixels that is below or above so many HU. Wrong signedness, wrong BitsStored or a wrong rescale
puts far more of them there."""

Range = tuple[float, float]
AIR_HU: Range = (-1150.0, -850.0)
SOFT_HU: Range = (-300.0, 300.0)
LUNG_HU = -500.0
"""Lung and air are below it, one of which nearly every slice of a body shows."""
LOST_AIR_HU: Range = (-150.0, 150.0)
LOST_TISSUE_HU: Range = (874.0, 1174.0)
LOST_LUNG_HU: Range = (450.0, 800.0)
"""Where the loss of the usual intercept, −1024 or −1000, puts air, soft tissue and what little lies between them."""
MIN_LOST_SHARES = 0.05, 0.01
"""Of the pixels, that lost air and lost tissue have at least."""
MAX_LOW_SHARE = 0.02
"""Of the pixels, that metal may have put below `LUNG_HU`."""

STEP_HU = 500.0
"""From one slice to the next, most pixels of no patient change by as much."""
STEP_TOLERANCE_HU = 150.0
STEP_SHARE = 0.6
TISSUE_STEP_SHARE = 0.5
"""Of all pixels, and of those of each tissue, that another intercept moves by the same step."""
MIN_TISSUE_SHARE = 0.01
NUM_SAMPLES = 128
"""Rows, and columns, that are compared with the next slice."""


@dataclass(frozen=True)
class Levels:
    """Numbers of pixels of slices, without filler, by their values."""

    num_pixels: int = 0
    num_filler: int = 0
    num_air: int = 0
    num_soft: int = 0
    num_above_lung: int = 0
    lowest_hu: float = np.inf

    def __add__(self, other: "Levels") -> "Levels":
        return Levels(
            self.num_pixels + other.num_pixels,
            self.num_filler + other.num_filler,
            self.num_air + other.num_air,
            self.num_soft + other.num_soft,
            self.num_above_lung + other.num_above_lung,
            min(self.lowest_hu, other.lowest_hu),
        )


def check_slice(hu: NDArray[np.float32], filler: NDArray[np.bool_]) -> Levels:
    """Check a slice (Y, X) by itself, its filler with the values it has, and count.

    Raises:
        BadFile: the values cannot be HU.
    """
    is_measured = ~filler | ((hu > OUTSIDE_FOV_HU) & (hu < TAGGED_AIR_HU))  # a tag may name the value of air
    measured = hu.ravel() if is_measured.all() else hu[is_measured]
    if not measured.size:
        return Levels(num_filler=hu.size)
    lowest_hu, highest_hu = float(measured.min()), float(measured.max())
    for side, limit_hu, largest_share in PLAUSIBLE_SHARES:
        if lowest_hu >= limit_hu if side == "below" else highest_hu <= limit_hu:
            continue
        share = np.count_nonzero(measured < limit_hu if side == "below" else measured > limit_hu) / measured.size
        if share > largest_share:
            raise BadFile(
                f"has implausible HU: {share:.1%} of its pixels are {side} {limit_hu:.0f} HU, {largest_share:.1%} can be; "
                "its RescaleSlope, RescaleIntercept, BitsStored or PixelRepresentation is wrong"
            )
    _check_intercept(hu, is_measured & _inside_circle(hu.shape))
    return Levels(
        num_pixels=measured.size,
        num_filler=hu.size - measured.size,
        num_air=_count(measured, AIR_HU),
        num_soft=_count(measured, SOFT_HU),
        num_above_lung=int(np.count_nonzero(measured > LUNG_HU)),
        lowest_hu=lowest_hu,
    )


@cache
def _inside_circle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The round field of view (Y, X): a lost intercept lifts the filler outside it, −2048, to where air should be."""
    y, x = (np.linspace(-1, 1, length) for length in shape)
    return np.add.outer(y**2, x**2) < 0.95


def _check_intercept(hu: NDArray[np.float32], inside: NDArray[np.bool_]) -> None:
    """Refuse two clusters of values 1000 HU too high, with nothing where lung and air should be."""
    num_low = np.count_nonzero((hu < LUNG_HU) & inside)
    if not inside.any() or num_low > MAX_LOW_SHARE * np.count_nonzero(inside):
        return
    measured = hu[inside]
    air, tissue, between = (_count(measured, hu) / measured.size for hu in (LOST_AIR_HU, LOST_TISSUE_HU, LOST_LUNG_HU))
    if air >= MIN_LOST_SHARES[0] and tissue >= MIN_LOST_SHARES[1] and between < tissue / 2:
        raise BadFile(
            f"has implausible HU: {air:.0%} of its pixels are near 0, {tissue:.0%} near 1024 and none below {LUNG_HU:g} HU; are "
            "these stored values whose intercept was lost?"
        )


def _count(hu: NDArray[np.float32], limits: Range) -> int:
    return int(np.count_nonzero((hu >= limits[0]) & (hu <= limits[1])))


class ScanCheck:
    """The slices of a scan, checked one after the other, and then the scan."""

    def __init__(self) -> None:
        self._levels = Levels()
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def add(self, index: int, hu: NDArray[np.float32], filler: NDArray[np.bool_], levels: Levels) -> None:
        """Compare slice `index` (Y, X) with the one before it, if that was the last to be added.

        Raises:
            BadFile: an intercept holds for one of the two alone.
        """
        step = tuple(max(1, length // NUM_SAMPLES) for length in hu.shape)
        chosen = slice(None, None, step[0]), slice(None, None, step[1])
        sample = np.where(filler[chosen], np.nan, hu[chosen])
        if self._last is not None and self._last[0] == index - 1 and self._last[1].shape == sample.shape:
            _check_step(self._last[1], sample)
        self._last = index, sample
        self._levels += levels

    def finish(self) -> str:
        """What of the whole scan seldom is, as a sentence for the log; "" where nothing is.

        Raises:
            BadFile: the values cannot be HU.
        """
        levels = self._levels
        if not levels.num_pixels:
            return "there is no value but filler"
        air, soft, above = (count / levels.num_pixels for count in (levels.num_air, levels.num_soft, levels.num_above_lung))
        if levels.num_filler >= 0.1 * levels.num_pixels and air >= 0.6 and soft <= 0.03 and above <= 0.05:
            raise BadFile(
                f"belongs to a scan with implausible HU: {air:.0%} of the values lie from {AIR_HU[0]:g} to {AIR_HU[1]:g} HU and "
                f"{soft:.1%} from {SOFT_HU[0]:g} to {SOFT_HU[1]:g} HU; was an intercept applied twice?"
            )
        if levels.lowest_hu > LUNG_HU:
            return (
                f"no value is below {LUNG_HU:g} (the lowest is {levels.lowest_hu:g}); are these HU, or stored values whose slope "
                "and intercept were lost?"
            )
        if soft < 0.1 * above or above < 0.001:
            return (
                f"{soft:.1%} of the values lie from {SOFT_HU[0]:g} to {SOFT_HU[1]:g} HU, where soft tissue is; are these HU, or "
                "stored values of another slope or intercept?"
            )
        return ""


def _check_step(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    change_hu = after - before
    measured = change_hu[~np.isnan(change_hu)]
    if 2 * np.count_nonzero(np.abs(measured) >= STEP_HU) < measured.size:  # which the median then is not
        return
    if not measured.size or abs(step_hu := float(np.median(measured))) < STEP_HU:
        return
    moved = np.abs(change_hu - step_hu) < STEP_TOLERANCE_HU
    if moved.sum() < STEP_SHARE * measured.size:
        return
    if _is_displaced(before, after, moved, step_hu) or _is_displaced(after, before, moved, -step_hu):
        raise BadFile(
            f"differs from the slice before it by {step_hu:.0f} HU, in air and in tissue alike: of one of them the intercept was "
            "lost or applied twice"
        )


def _is_displaced(right: NDArray[np.float32], other: NDArray[np.float32], moved: NDArray[np.bool_], step_hu: float) -> bool:
    """Whether the `other` slice has another intercept, if the values of this one are `right`.

    All tissues move then; air 1024 HU down may pass for filler. Where a phantom in a small field of view ends there is no air
    beside it, and it gives way to air.
    """
    moved = moved | np.isnan(other)
    soft, air = ((right >= low) & (right <= high) for low, high in (SOFT_HU, AIR_HU))
    has_soft, has_air = (tissue.mean() >= MIN_TISSUE_SHARE for tissue in (soft, air))
    if not has_soft or (not has_air and step_hu < 0):
        return False
    return all(moved[tissue].mean() >= TISSUE_STEP_SHARE for tissue in (soft, air) if tissue.any())
