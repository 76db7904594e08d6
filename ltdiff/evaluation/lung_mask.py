"""The lungs of a scan by thresholds: what of the body is as dark as lung, without airways and other gas.

The mask is for measuring one quantity on several images of one scan: make it of one of them, and lay it on all. If it were made
of each, its border would move with the kernel, and the difference of two values would be in part one of two masks. Being a
threshold mask, it leaves out vessels and consolidated lung, and keeps small airways. Tips of a lung that hold hardly anything but
air may be taken for airways.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.evaluation.structures import body_mask

Bool = NDArray[np.bool_]

LUNG_HU = -500.0
"""Half way between lung and soft tissue: the usual border of threshold masks."""
SMOOTHING_MM = 1.0
"""Of the Gaussian in each slice behind which lung is told from tissue: in a sharp kernel noise would make holes."""
MIN_SECTION_MM2 = 1000.0
"""A lung has a cross-section of this size in some slice. Trachea and main bronchi have less, also where they branch."""
AIR_HU = -1000.0
GAS_HU = -960.0
"""Large parts whose median is darker are gas, as in the stomach, or air between arm and body."""


def find_lungs(hu: NDArray[np.floating], spacing_mm: tuple[float, float]) -> Bool:
    """The lungs (Z, Y, X) in consecutive axial slices in HU with PixelSpacing (y, x); all False where there are none."""
    smooth = np.stack([_smooth(plane, spacing_mm) for plane in hu])
    dark = np.stack([(plane < LUNG_HU) & body_mask(plane) for plane in smooth])
    min_pixels = MIN_SECTION_MM2 / (spacing_mm[0] * spacing_mm[1])
    parts, num_parts = ndimage.label(_without_airways(dark, smooth, min_pixels=min_pixels))
    sections = [np.bincount(plane.ravel(), minlength=num_parts + 1) for plane in parts]
    is_lung = np.max(sections, axis=0) >= min_pixels
    is_lung[0] = False
    large = np.flatnonzero(is_lung)
    is_lung[large] = _medians(smooth, parts, large) >= GAS_HU
    lungs: Bool = is_lung[parts]
    return lungs


def _medians(values: NDArray[np.float32], parts: NDArray[np.int32], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median of the values (Z, Y, X) in each of these parts; the rest, most of an image, is not sorted along."""
    if not len(numbers):
        return np.empty(0)
    inside = parts > 0
    return np.asarray(ndimage.median(values[inside], parts[inside], numbers))


def _smooth(plane_hu: NDArray[np.floating], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(plane_hu.astype(np.float32), SMOOTHING_MM / np.asarray(spacing_mm))
    return smooth


def _without_airways(dark: Bool, smooth_hu: NDArray[np.float32], *, min_pixels: float) -> Bool:
    """The dark parts (Z, Y, X) of slices without those that are small and nearer to air than to this patient's lungs."""
    in_slices = np.zeros((3, 3, 3), bool)
    in_slices[1] = ndimage.generate_binary_structure(2, 1)
    parts, num_parts = ndimage.label(dark, structure=in_slices)
    sizes = np.bincount(parts.ravel(), minlength=num_parts + 1)[1:]
    medians_hu = _medians(smooth_hu, parts, np.arange(1, num_parts + 1))
    is_lung = (sizes >= min_pixels) & (medians_hu >= GAS_HU)
    if not is_lung.any():
        return np.zeros_like(dark)
    airway_hu = (AIR_HU + np.median(medians_hu[is_lung])) / 2
    is_airway = (sizes < min_pixels) & (medians_hu < airway_hu)
    return dark & ~np.append(False, is_airway)[parts]
