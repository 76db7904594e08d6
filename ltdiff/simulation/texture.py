"""A random three-dimensional texture with a power-law spectrum, evaluated one slice at a time.

Each octave of wavelengths is a sequence of independent planes along z, one per shortest wavelength, with interpolation in
between; a slice averages them over its thickness. So neighbouring slices share coarse structure and thick slices lose
fine structure, as they do in a real object, and a slice costs one Fourier transform.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from ltdiff.simulation.shapes import Grid

_PERIOD_MM = 512.0  # wavelengths are counted in cycles per grid, which is about this long
_MAX_WAVELENGTH_MM = 64.0
_PLANE_OFFSET = 1 << 20  # seeds are never negative, planes may be


@dataclass(frozen=True)
class Texture:
    """A field of zero mean whose three-dimensional power falls as frequency ** -`exponent`."""

    seed: int
    exponent: float
    min_wavelength_mm: float
    max_wavelength_mm: float = _MAX_WAVELENGTH_MM

    def slice(self, grid: Grid, *, z_mm: float, thickness_mm: float) -> np.ndarray:
        """The field (size, size) averaged over a slice; standard deviation 1 for a thin slice."""
        spectrum = np.zeros((grid.size, grid.size // 2 + 1), np.complex64)
        power = 0.0
        wavelength_mm = self.max_wavelength_mm
        while wavelength_mm > self.min_wavelength_mm:
            power += self._add_octave(spectrum, wavelength_mm, z_mm, thickness_mm)
            wavelength_mm /= 2
        return scipy.fft.irfft2(spectrum, s=(grid.size, grid.size), norm="forward") / np.float32(np.sqrt(power))

    def _add_octave(self, spectrum: np.ndarray, longest_mm: float, z_mm: float, thickness_mm: float) -> float:
        """Add wavelengths longest/2 … longest; returns their share of the thin-slice variance."""
        high = round(2 * _PERIOD_MM / longest_mm)
        rows = np.r_[0:high, -high:0]
        radius = np.hypot(rows[:, None], np.arange(high))
        # Of a slice through an isotropic field: one power of frequency is integrated away, hence 1 - exponent.
        amplitude = np.where((radius >= high / 2) & (radius < high), np.maximum(radius, 1) ** ((1 - self.exponent) / 2), 0)
        num_kept = min(high, spectrum.shape[0] // 2)  # what the grid cannot hold is left out
        kept = np.r_[0:num_kept, high * 2 - num_kept : high * 2] if num_kept < high else slice(None)
        noise = self._noise(high, z_mm, thickness_mm, longest_mm / 2) * amplitude.astype(np.float32)
        spectrum[rows[kept], :num_kept] += noise[kept, :num_kept]
        return float(4 * (amplitude**2).sum())  # two sides of the spectrum, real and imaginary part

    def _noise(self, high: int, z_mm: float, thickness_mm: float, plane_mm: float) -> np.ndarray:
        """White complex noise (2 high, high), averaged over the slice's thickness along z."""
        planes, weights = _plane_weights(z_mm / plane_mm, thickness_mm / plane_mm)
        noise = np.zeros((2 * high, high, 2), np.float32)
        for plane, weight in zip(planes, weights, strict=True):
            rng = np.random.default_rng((self.seed, high, int(plane) + _PLANE_OFFSET))
            noise += np.float32(weight) * rng.standard_normal(noise.shape, dtype=np.float32)
        return noise.view(np.complex64)[..., 0]


def _plane_weights(position: float, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Planes (by number) that a slice at `position` averages, and their weights; lengths in planes' distances.

    In between two planes the weights are sine and cosine, which keep the variance.
    """
    num_samples = max(1, round(4 * thickness))
    samples = position + thickness * ((np.arange(num_samples) + 0.5) / num_samples - 0.5)
    planes = np.arange(np.floor(samples[0]), np.floor(samples[-1]) + 2)
    offset = np.abs(samples[:, None] - planes)
    weights = np.where(offset < 1, np.cos(np.pi / 2 * np.minimum(offset, 1)), 0)
    return planes, weights.mean(axis=0)
