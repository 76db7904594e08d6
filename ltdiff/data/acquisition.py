"""How a series was acquired: tags, grid and noise level, to be compared with the training domain of a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.volume_files import VolumeFile
from ltdiff.dicom.scan import Scan


@dataclass(frozen=True)
class AcquisitionInfo:
    """Of one scan. None: its format has no room for it, or there is nothing to measure; "": its files do not say."""

    spacing_mm: tuple[float, float]
    """PixelSpacing (y, x)."""
    kernel: str | None = None
    manufacturer: str = ""
    slice_thickness_mm: float | None = None
    noise_hu: float | None = None

    @classmethod
    def of(cls, scan: Scan) -> "AcquisitionInfo":
        """From the header, and the noise from the middle slice. A volume file's thickness is its slices' distance."""
        if isinstance(scan, VolumeFile):
            return cls(scan.spacing_mm, slice_thickness_mm=scan.distance_mm, noise_hu=_middle_noise_hu(scan))
        return cls(scan.spacing_mm, scan.kernel, scan.manufacturer, scan.slice_thickness_mm, noise_hu=_middle_noise_hu(scan))


def _middle_noise_hu(scan: Scan) -> float | None:
    try:
        return noise_level_hu(scan.read_slice(scan.num_slices // 2))
    except ValueError:  # whoever standardizes it reads it again, and reports the file
        return None


SOFT_TISSUE_HU = (0.0, 100.0)
"""Of the local mean, so that noise itself neither adds pixels nor takes any away."""
MEAN_PX = 5
HIGH_PASS_PX = 3
MIN_PIXELS = 200
"""Fewer than this are no organ: bowel in the fat, the couch, vessels in the lung."""


def noise_level_hu(hu: NDArray[Any]) -> float | None:
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
