"""How noisy a CT slice is: one number that tells kernels and doses apart, whatever the slice shows."""

import numpy as np
from scipy import ndimage

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
