"""Slices of simple bodies in air, with lungs, vessels and noise of a chosen sharpness: a protocol without a simulator."""

import numpy as np
from scipy import ndimage

SPACING_MM = (0.8, 0.8)
VESSEL_PX = 2.5


def make_bodies(num_slices=4, *, size=256, blur_px=0.8, noise_hu=30.0, noise_px=0.7, seed=0):
    """(Z, Y, X) in whole HU, float32: an ellipse of soft tissue with two lungs and some vessels, another one for every seed.

    All edges are blurred by `blur_px`; noise has the standard deviation `noise_hu` once it is blurred by `noise_px`.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    tilt = rng.uniform(-0.02, 0.02)
    body = (x / rng.uniform(0.40, 0.44)) ** 2 + ((y - tilt) / rng.uniform(0.30, 0.36)) ** 2 < 1
    slices = []
    for _ in range(num_slices):
        plane = np.full((size, size), -1000.0)
        plane[body] = 40.0
        for side in (-1, 1):
            lung = ((x - side * 0.22) / 0.11) ** 2 + ((y - 0.02) / rng.uniform(0.18, 0.22)) ** 2 < 1
            plane[lung] = -850.0
            for _ in range(3):
                centre = side * rng.uniform(0.17, 0.26), rng.uniform(-0.08, 0.10)
                plane[np.hypot(x - centre[0], y - centre[1]) * size < VESSEL_PX] = 0.0
        noise = ndimage.gaussian_filter(rng.standard_normal(plane.shape), noise_px)
        slices.append(ndimage.gaussian_filter(plane, blur_px) + noise_hu * noise / noise.std())
    return np.round(slices).astype(np.float32)
