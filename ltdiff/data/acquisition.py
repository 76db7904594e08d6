"""How a series was acquired: tags, grid and noise level, to be compared with the training domain of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ltdiff.data.volume import Volume
from ltdiff.dicom.series import Series, read_slice_hu


@dataclass(frozen=True)
class AcquisitionInfo:
    """Of one series. "" and None: its files do not say, or there is nothing to measure."""

    spacing_mm: tuple[float, float]  # PixelSpacing (y, x)
    kernel: str = ""
    manufacturer: str = ""
    slice_thickness_mm: float | None = None
    noise_hu: float | None = None


def series_acquisition(series: Series) -> AcquisitionInfo:
    """Of a DICOM series; its noise is that of the middle slice."""
    return AcquisitionInfo(
        spacing_mm=series.spacing_mm,
        kernel=series.kernel,
        manufacturer=series.manufacturer,
        slice_thickness_mm=series.slice_thickness_mm,
        noise_hu=_middle_noise_hu(series),
    )


def volume_acquisition(volume: Volume) -> AcquisitionInfo:
    """Of a volume file, which knows no thickness: the distance of its slices stands for it."""
    return AcquisitionInfo(
        spacing_mm=volume.spacing_mm[1:],
        slice_thickness_mm=volume.spacing_mm[0],
        noise_hu=noise_level_hu(volume.hu[volume.num_slices // 2]),
    )


def _middle_noise_hu(series: Series) -> float | None:
    try:
        return noise_level_hu(read_slice_hu(series.slices[series.num_slices // 2].path))
    except ValueError:  # whoever standardizes it reads it again, and reports the file
        return None


SOFT_TISSUE_HU = (0.0, 100.0)
"""Of the local mean, so that noise itself neither adds pixels nor takes any away."""
MEAN_PX = 5
HIGH_PASS_PX = 3
MIN_PIXELS = 200
"""Fewer than this are no organ: bowel in the fat, the couch, vessels in the lung."""


def noise_level_hu(hu: np.ndarray) -> float | None:
    """Robust standard deviation of a slice (Y, X) less its 3 × 3 mean, in soft tissue; None where there is too little.

    1.4826 · median |d − median d|: organs' borders, few among the pixels, do not count. White noise of standard deviation
    σ has √(8/9)·σ; correlated noise, as soft kernels leave it, has less.
    """
    image = hu.astype(np.float32)
    mean = ndimage.uniform_filter(image, MEAN_PX)
    soft = ndimage.binary_erosion((mean > SOFT_TISSUE_HU[0]) & (mean < SOFT_TISSUE_HU[1]))  # no rim of bone or skin
    if np.count_nonzero(soft) < MIN_PIXELS:
        return None
    details = (image - ndimage.uniform_filter(image, HIGH_PASS_PX))[soft]
    return 1.4826 * float(np.median(np.abs(details - np.median(details))))
