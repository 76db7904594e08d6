"""IBSI 2's mean filter, Laplacian of Gaussian, Laws kernels and Gabor filters: convolutions, the image mirrored at its edges."""

import math

import numpy as np
from scipy import fft, ndimage

from ltdiff.radiomics.region import Floats
from ltdiff.radiomics.resampling import Spacing
from ltdiff.radiomics.rotations import pool_rotations

LOG_CUTOFF, GABOR_CUTOFF = 4.0, 5.0
"""Standard deviations at which kernels end."""
LAWS_KERNELS = {
    "L3": (1, 2, 1),
    "E3": (-1, 0, 1),
    "S3": (-1, 2, -1),
    "L5": (1, 4, 6, 4, 1),
    "E5": (-1, -2, 0, 2, 1),
    "S5": (-1, 0, 2, 0, -1),
    "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
}
PLANES = ((1, 2), (0, 2), (0, 1))
"""Axes of the axial, coronal and sagittal plane."""


def filter_mean(image: Floats, *, size: int, in_space: bool) -> Floats:
    """Mean of the `size`³ voxels, or `size`² in the plane, round each voxel (S60F)."""
    means: Floats = ndimage.uniform_filter(image, (size if in_space else 1, size, size), mode="reflect")
    return means


def filter_log(image: Floats, *, sigma_mm: float, spacing_mm: Spacing, in_space: bool) -> Floats:
    """Laplacian of Gaussian per squared voxel in the plane (L6PA)."""
    axes = (0, 1, 2) if in_space else (1, 2)

    def blur(values: Floats, axis: int, order: int) -> Floats:
        sigma = sigma_mm / spacing_mm[axis]
        blurred: Floats = ndimage.gaussian_filter1d(values, sigma, axis, order, mode="reflect", truncate=LOG_CUTOFF)
        return blurred

    smooth, response = image, np.zeros(())
    for axis in axes:  # the sum of the second derivatives along all axes so far, each smooth along the others
        second = blur(smooth, axis, 2) * (spacing_mm[2] / spacing_mm[axis]) ** 2
        response = second if axis == axes[0] else blur(response, axis, 0) + second
        if axis != axes[-1]:
            smooth = blur(smooth, axis, 0)
    return response


def filter_laws(image: Floats, *, kernels: str, energy_distance: int, in_space: bool) -> Floats:
    """Laws' texture energy (JTXT, PQSD): mean absolute response within a distance, in voxels, of the maximum over rotations.

    `kernels` has the name of one for each axis x, y, z, or x, y in the plane: L5E5E5.
    """
    names = [kernels[k : k + 2] for k in range(0, len(kernels), 2)]
    taps = [np.array(LAWS_KERNELS[name]) / np.linalg.norm(LAWS_KERNELS[name]) for name in names]

    def respond(turned: Floats) -> Floats:
        for axis, tap in zip((2, 1, 0), taps, strict=False):
            turned = ndimage.convolve1d(turned, tap, axis, mode="reflect")
        return turned

    response = abs(pool_rotations(image, respond, in_space=in_space, pool_max=True))
    return filter_mean(response, size=2 * energy_distance + 1, in_space=in_space)


def filter_gabor(
    image: Floats, *, sigma_mm: float, wavelength_mm: float, aspect: float, num_angles: int, spacing_mm: Spacing, in_space: bool
) -> Floats:
    """Modulus of Gabor filters (Q88H), mean over `num_angles` directions in half a turn; in space, over three planes as well.

    The other half turn has the same moduli.
    """
    planes = PLANES if in_space else PLANES[:1]
    total = np.zeros(image.shape)
    for axes in planes:
        sides_mm = [spacing_mm[axis] for axis in axes]
        reach = [math.ceil(GABOR_CUTOFF * sigma_mm * max(1, 1 / aspect) / mm) for mm in sides_mm]
        padded = np.pad(image, [(reach[axes.index(axis)],) * 2 if axis in axes else (0, 0) for axis in range(3)], "symmetric")
        shape = [fft.next_fast_len(padded.shape[axis]) for axis in axes]
        spectrum = fft.fft2(padded, shape, axes)
        kept = tuple(
            slice(2 * reach[axes.index(axis)], 2 * reach[axes.index(axis)] + n) if axis in axes else slice(None)
            for axis, n in enumerate(image.shape)
        )
        u, v = np.meshgrid(*(np.arange(-n, n + 1) * mm for n, mm in zip(reach, sides_mm, strict=True)), indexing="ij")
        for angle in np.arange(num_angles) * math.pi / num_angles:
            along, across = v * math.cos(angle) + u * math.sin(angle), u * math.cos(angle) - v * math.sin(angle)
            kernel = np.exp(-(along**2 + (aspect * across) ** 2) / (2 * sigma_mm**2) + 2j * math.pi * along / wavelength_mm)
            (other,) = set(range(3)) - set(axes)
            response = fft.ifft2(spectrum * np.expand_dims(fft.fft2(kernel, shape), other), axes=axes)
            total += abs(response[kept])
    return total / (len(planes) * num_angles)
