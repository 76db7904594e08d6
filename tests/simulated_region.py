"""Regions like those of lesions, with texture."""

import numpy as np
from scipy import ndimage

from ltdiff.radiomics.region import Region, cut_region


def simulated_region(seed: int, *, num_slices: int = 5) -> Region:
    """A smooth blob with texture: an ellipsoid with holes, HU like those of a lesion."""
    rng = np.random.default_rng(seed)
    shape = (num_slices, 30, 34)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    radius = rng.uniform(6, 12)
    inside = ((z - num_slices / 2) * 3) ** 2 + (y - 14) ** 2 + (x - 17) ** 2 <= radius**2
    mask = inside & (rng.random(shape) > 0.05)
    mask &= ndimage.convolve(mask.astype(int), np.ones((1, 3, 3), int), mode="constant") > 1  # see the test of lone voxels
    hu = rng.normal(rng.choice([-700.0, 40.0]), rng.uniform(40, 250), shape)
    hu = ((hu + np.roll(hu, 1, axis=2) + np.roll(hu, 1, axis=1)) / 3).round()
    return cut_region(hu, mask, spacing_mm=(0.8, 0.7))
