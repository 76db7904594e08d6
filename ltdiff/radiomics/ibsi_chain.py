"""IBSI's image processing: resampling, resegmentation, filters, grey levels (arXiv:1612.07003, chapter 2; arXiv:2006.05470)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.config import IbsiConfig
from ltdiff.radiomics.image_filter import filter_image, filter_reach_mm
from ltdiff.radiomics.intensity_volume import IntensityVolume, integrate_histogram
from ltdiff.radiomics.local_intensity import RADIUS_MM
from ltdiff.radiomics.region import MAX_LEVELS, Box, Floats, Levels, find_box
from ltdiff.radiomics.resampling import INTERPOLATION_REACH, Resampling, Spacing

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ProcessedRegion:
    """A region after resampling, resegmentation and a filter, in a box that reaches RADIUS_MM beyond it or ends with the image.

    `image` in HU or a filter's response, `shape_mask` of the whole region and `intensity_mask` of its voxels that are measured
    (Z, Y, X); `spacing_mm` is (z, y, x).
    """

    image: Floats
    shape_mask: Mask
    intensity_mask: Mask
    spacing_mm: Spacing
    config: IbsiConfig

    @cached_property
    def values(self) -> Floats:
        """Values of the voxels that are measured (N,)."""
        return self.image[self.intensity_mask]

    @property
    def inner_box(self) -> Box:
        """The smallest box round the voxels of the region."""
        return find_box(self.shape_mask)

    @cached_property
    def levels(self) -> Levels:
        """Grey levels in the inner box (Z, Y, X): whole numbers from 1 on, 0 where nothing is measured.

        Raises:
            ValueError: more than MAX_LEVELS levels.
        """
        levels = np.zeros(self.image.shape, np.int64)
        levels[self.intensity_mask] = self._discretise(self.config.bin_width, self.config.num_bins)[0]
        return levels[self.inner_box]

    @cached_property
    def intensity_volume(self) -> IntensityVolume:
        """The intensity-volume histogram: over the range of resegmentation where one is given, in HU, or in bin numbers."""
        width, num_bins = self.config.ivh_bin_width, self.config.ivh_num_bins
        levels, start = self._discretise(width, num_bins)
        if num_bins is not None:
            return integrate_histogram(levels, intensity=np.arange(1.0, num_bins + 1, dtype=np.float64))
        limit = self.config.highest_hu if self.config.filter.kind == "none" else None
        highest = self.values.max() if limit is None else limit
        _check_bins(start, highest, width)
        size = max(int(levels.max()), int((highest - start) // width) + 1)
        middle = 0.0 if width == 1 else width / 2  # HU are whole numbers
        return integrate_histogram(levels, intensity=start + middle + width * np.arange(size, dtype=np.float64))

    def _discretise(self, width: float, num_bins: int | None) -> tuple[Levels, float]:
        """Levels of the values (N,) and where the first begins."""
        low, high = float(self.values.min()), float(self.values.max())
        if num_bins is not None:
            scaled = (self.values - low) / ((high - low) or 1.0) * num_bins
            return np.minimum(np.floor(scaled), num_bins - 1).astype(np.int64) + 1, low
        start = low if self.config.first_bin is None else self.config.first_bin
        _check_bins(start, high, width)
        return np.floor((self.values - start) / width).astype(np.int64) + 1, start


def _check_bins(start: float, end: float, width: float) -> None:
    if (end - start) / width >= MAX_LEVELS:
        raise ValueError(f"A region of interest reaches from {start:g} to {end:g}, more than {MAX_LEVELS} bins of {width:g}.")


def process_region(
    hu: NDArray[np.floating] | NDArray[np.integer], mask: Mask, *, spacing_mm: Spacing, config: IbsiConfig
) -> ProcessedRegion:
    """Resample, resegment and filter the region of a mask (Z, Y, X) in an image of the same shape with voxels of (z, y, x) mm.

    Raises:
        ValueError: image and mask differ in shape; the mask is empty, or nothing is left of it; the region holds values that are
            not finite.
    """
    if hu.shape != mask.shape or hu.ndim != 3:
        raise ValueError(f"A region of interest needs an image and a mask of one shape (Z, Y, X): {hu.shape}, {mask.shape}.")
    around = find_box(mask)
    target = spacing_mm
    if config.spacing_mm is not None:
        side = config.spacing_mm
        target = (spacing_mm[0] if config.resample == "plane" else side, side, side)
    resampling = Resampling(hu.shape, spacing_mm, target)
    margin_mm = max(RADIUS_MM, filter_reach_mm(config.filter, spacing_mm=target))
    box = resampling.new_box(around, margin_mm=margin_mm)
    if target == spacing_mm:
        image, shape_mask = hu[box].astype(np.float64), mask[box].astype(bool)
    else:
        image = np.rint(resampling.resample(hu, box, interpolation=config.interpolation))
        shape_mask = resampling.resample_mask(mask, box)
    if not shape_mask.any():
        raise ValueError(f"Nothing is left of a region of interest in voxels of {config.spacing_mm:g} mm.")
    if not np.isfinite(image[shape_mask]).all():
        raise ValueError("A region of interest holds values that are not finite.")
    intensity_mask = shape_mask & _within_limits(image, shape_mask, config)
    if not intensity_mask.any():
        raise ValueError("No voxel of a region of interest lies within the limits of HU.")
    response = filter_image(image, config.filter, spacing_mm=target)
    if not np.isfinite(response[intensity_mask]).all():
        raise ValueError("A region of interest, or what its filter reaches, holds values that are not finite.")
    return ProcessedRegion(response, shape_mask, intensity_mask, target, config)


def reach_mm(config: IbsiConfig, *, spacing_mm: Spacing) -> float:
    """How far along z from a region the box reaches that `process_region` looks at."""
    target = spacing_mm if config.spacing_mm is None else (max(config.spacing_mm, spacing_mm[0]),) * 3
    resampled = 0.0 if config.spacing_mm is None else INTERPOLATION_REACH[config.interpolation] * spacing_mm[0] + target[0]
    return resampled + max(RADIUS_MM, filter_reach_mm(config.filter, spacing_mm=target)) + 2 * target[0]


def _within_limits(image: Floats, mask: Mask, config: IbsiConfig) -> Mask:
    """Mask (Z, Y, X) of the voxels within the limits of HU and, among these, not too far from the mean of the region's."""
    low = -np.inf if config.lowest_hu is None else config.lowest_hu
    high = np.inf if config.highest_hu is None else config.highest_hu
    within: Mask = (image >= low) & (image <= high)
    if config.outlier_sigma is not None and (values := image[mask & within]).size:
        within &= abs(image - values.mean()) <= config.outlier_sigma * values.std() + 1e-9  # a constant has no outliers
    return within
