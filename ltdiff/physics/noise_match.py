"""The noise match: a matched source of another dose gets the target's noise, where it is noise and not structure.

In small overlapping windows the power of the matched source is what structure there is, S, and its noise N, which is known from
the protocol's noise model, the place and the direction. With the target's noise T the power should be S + T, so that each
frequency is multiplied by √((S + T)/(S + N)): noise that is too little is made stronger, streaks included, and noise that is too
much weaker, while edges stay. At one dose T = N, and nothing changes.
Source: spectral subtraction; Boll, IEEE Trans. ASSP 27 (1979) 113.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.model.spectrum import radial_frequency
from ltdiff.physics.noise_place import GRID, NUM_DIRECTIONS, directional_noise_place
from ltdiff.physics.noise_windows import FIRST_RING, RING_PER_MM, NoiseModel

WINDOW_MM, STEPS_PER_WINDOW = 25.0, 4
SMOOTHED_FREQUENCIES, SMOOTHED_WINDOWS = 5, 3
"""Over so many neighbours along each axis a window's power is averaged: that of a single one scatters by all of itself."""
OVERESTIMATE = 1.3
"""Of the noise that counts as noise: what scatters above its mean is no structure."""

Image = NDArray[np.float32]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseMatch:
    """Noise power (R,) at rings of RING_PER_MM of the matched source and of the target, in HU² mm², each with the mixture of
    variances of its place (see `NoiseModel`).
    """

    source_power: tuple[float, ...]
    source_mixture: tuple[float, ...]
    target_power: tuple[float, ...]
    target_mixture: tuple[float, ...]

    @classmethod
    def of(cls, source: NoiseModel, target: NoiseModel, gain: Float) -> "NoiseMatch":
        """Of both protocols' noise, and the gains h (R,) at the source's rings.

        Below FIRST_RING quiet windows hold structure as well: there the ratio of both noises is taken from above.
        """
        num_rings = min(len(source.power), len(target.power))
        matched = source.power[:num_rings] * gain[:num_rings] ** 2
        ratio = target.power[:num_rings] / matched
        ratio[:FIRST_RING] = np.exp(np.log(ratio[FIRST_RING : FIRST_RING + 3]).mean())
        return cls(
            source_power=tuple(matched.tolist()),
            source_mixture=tuple(source.mixture.tolist()),
            target_power=tuple((matched * ratio).tolist()),
            target_mixture=tuple(target.mixture.tolist()),
        )

    def __call__(self, matched: Image, source_hu: Image, spacing_mm: tuple[float, float]) -> Image:
        """The matched source (H, W) in HU with the target's noise; `source_hu`, the source itself, tells the places."""
        size = tuple(2 * round(WINDOW_MM / mm / 2) for mm in spacing_mm)
        steps = tuple(max(1, n // STEPS_PER_WINDOW) for n in size)
        taper = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in size)).astype(np.float32)
        padded = np.pad(matched, [(n, n + step) for n, step in zip(size, steps, strict=True)], mode="symmetric")
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: steps[0], :: steps[1]]
        mean = frames.mean(axis=(2, 3), keepdims=True)
        spectra = scipy.fft.rfft2((frames - mean) * taper)
        noise, wanted = self._noise(matched.shape, frames.shape[:2], size, steps, source_hu, spacing_mm)
        power = (spectra.real**2 + spectra.imag**2) * np.float32(np.prod(spacing_mm) / (taper**2).sum())
        around = (SMOOTHED_WINDOWS, SMOOTHED_WINDOWS, SMOOTHED_FREQUENCIES, SMOOTHED_FREQUENCIES)
        power = ndimage.uniform_filter(power, around, mode=("nearest", "nearest", "wrap", "nearest"))
        structure = np.maximum(power - OVERESTIMATE * noise, 0)
        spectra *= np.sqrt((structure + wanted) / (structure + noise))
        changed = (scipy.fft.irfft2(spectra, s=size) + mean * taper) * taper
        return _add_up(changed, taper**2, padded.shape, steps)[size[0] :, size[1] :][: matched.shape[0], : matched.shape[1]]

    def _noise(
        self,
        shape: tuple[int, ...],
        num_frames: tuple[int, ...],
        size: tuple[int, ...],
        steps: tuple[int, ...],
        source_hu: Image,
        spacing_mm: tuple[float, float],
    ) -> tuple[Image, Image]:
        """Noise power of the matched source and of the target (Y, X, h, w // 2 + 1) in each window."""
        along_y, along_x = np.fft.fftfreq(size[0], spacing_mm[0])[:, None], np.fft.rfftfreq(size[1], spacing_mm[1])
        direction = np.rint((np.arctan2(along_y, along_x) % np.pi) / np.pi * NUM_DIRECTIONS).astype(int) % NUM_DIRECTIONS
        middles = [
            (np.arange(num) * step - n / 2) / length * GRID - 0.5
            for num, step, n, length in zip(num_frames, steps, size, shape, strict=True)
        ]
        at = np.stack(np.meshgrid(*middles, indexing="ij"))
        place = directional_noise_place(source_hu, spacing_mm)
        rings = np.arange(len(self.source_power)) * RING_PER_MM
        frequency = radial_frequency(size, spacing_mm)[:, : size[1] // 2 + 1]
        powers = []
        for spectrum, mixture in ((self.source_power, self.source_mixture), (self.target_power, self.target_mixture)):
            level = np.tensordot(np.array(mixture), place, axes=1)  # (directions, GRID, GRID)
            of_frames = np.stack([ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in level], axis=-1)
            radial = np.interp(frequency, rings, spectrum)
            powers.append((of_frames[:, :, direction] * radial).astype(np.float32))
        return powers[0], powers[1]


def _add_up(frames: Image, weight: Image, shape: tuple[int, ...], steps: tuple[int, ...]) -> Image:
    """Overlapping windows (Y, X, h, w) over their summed weights (h, w), as one image."""
    total: Image = np.zeros(shape, np.float32)
    weights: Image = np.zeros(shape, np.float32)
    height, width = weight.shape
    for row, of_row in enumerate(frames):
        for column, frame in enumerate(of_row):
            place = (slice(row * steps[0], row * steps[0] + height), slice(column * steps[1], column * steps[1] + width))
            total[place] += frame
            weights[place] += weight
    return (total / np.maximum(weights, np.finfo(np.float32).tiny)).astype(np.float32)
