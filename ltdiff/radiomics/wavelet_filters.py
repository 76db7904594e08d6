"""IBSI 2's wavelet filters: separable ones without decimation, and the radial ones of Simoncelli."""

import numpy as np
import pywt
from scipy import fft, ndimage

from ltdiff.radiomics.region import Floats
from ltdiff.radiomics.rotations import pool_rotations


def filter_wavelet(image: Floats, *, wavelet: str, response: str, level: int, in_space: bool) -> Floats:
    """Response of a stationary wavelet transform, mean over rotations; the image is mirrored at its edges.

    `response` has L or H for each axis x, y, z, or x, y in the plane, of the last of `level` steps; those before are all L, and
    each step's filters have twice as many zeros between their taps as the one before.
    """
    taps = {"L": np.array(pywt.Wavelet(wavelet).dec_lo), "H": np.array(pywt.Wavelet(wavelet).dec_hi)}

    def respond(turned: Floats) -> Floats:
        for step in range(level):
            letters = response if step == level - 1 else "L" * len(response)
            for axis, letter in zip((2, 1, 0), letters, strict=False):
                spread = np.zeros(len(taps[letter]) * 2**step)
                spread[:: 2**step] = taps[letter]
                turned = ndimage.convolve1d(turned, spread, axis, mode="reflect")
        return turned

    return pool_rotations(image, respond, in_space=in_space, pool_max=False)


def filter_simoncelli(image: Floats, *, level: int, in_space: bool) -> Floats:
    """Band of Simoncelli's wavelet (PRT7) of a level, from 1 on; the image repeats itself beyond its edges.

    cos(π/2 log₂(2 ν / ν_max)) for ν from ν_max / 4 to ν_max, which is the Nyquist frequency at level 1 and halves with each.
    As in IBSI's reference values, the frequencies of n voxels run evenly from −1 to 1 Nyquist, not from −1 to 1 − 2 / n.
    """
    axes = (0, 1, 2) if in_space else (1, 2)
    frequencies = [fft.ifftshift(np.linspace(-1, 1, image.shape[axis])) if axis in axes else np.zeros(1) for axis in range(3)]
    z, y, x = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    share = np.sqrt(z**2 + y**2 + x**2) * 2 ** (level - 1)
    band = (share > 0.25) & (share <= 1)
    gain = np.where(band, np.cos(np.pi / 2 * np.log2(2 * np.where(band, share, 1))), 0)
    response: Floats = fft.ifftn(fft.fftn(image, axes=axes) * gain, axes=axes).real
    return response
