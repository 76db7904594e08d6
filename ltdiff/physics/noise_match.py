"""The noise match: a matched source of another dose gets the target's noise, where it is noise and not structure.

In small overlapping windows the power of the matched source is what structure there is, S, and its noise N, which is known from
the protocol's noise model, the place and the direction. With the target's noise T the power should be S + T, so that each
frequency is multiplied by √((S + T)/(S + N)): noise that is too little is made stronger, streaks included, and noise that is too
much weaker, while edges stay. At one dose T = N, and nothing changes.

Where noise reduction took noise away, what is left over cannot be made stronger: the rest is drawn.
The way back makes a target's anatomy look as in a matched source.
Source: spectral subtraction; Boll, IEEE Trans. ASSP 27 (1979) 113.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.physics.noise_place import GRID, NUM_DIRECTIONS, directional_noise_place
from ltdiff.physics.noise_windows import FIRST_RING, RING_PER_MM, NoiseModel
from ltdiff.physics.spectrum import radial_frequency

WINDOW_MM, STEPS_PER_WINDOW = 25.0, 4
SMOOTHED_FREQUENCIES, SMOOTHED_WINDOWS = 5, 3
"""Over so many neighbours along each axis a window's power is averaged: that of a single one scatters by all of itself."""
OVERESTIMATE = 2.2
"""Of the noise that counts as noise: what scatters above its mean is no structure."""

Image = NDArray[np.float32]
Grid = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Of windows: their number along y and x, their size and their steps in pixels."""
Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseMatch:
    """Noise power (R,) at rings of RING_PER_MM of the matched source and of the target, in HU² mm², each with the mixture of
    variances of its place (see `NoiseModel`).

    Of a noise-reduced source (`is_reduced`) what noise is left over has another texture than noise has: it is not made stronger.
    """

    source_power: tuple[float, ...]
    source_mixture: tuple[float, ...]
    target_power: tuple[float, ...]
    target_mixture: tuple[float, ...]
    is_reduced: bool = False

    @classmethod
    def of(cls, source: NoiseModel, target: NoiseModel, gain: Float, *, is_reduced: bool = False) -> "NoiseMatch":
        """Of both protocols' noise, and the gains h (R,) at the source's rings.

        Below FIRST_RING quiet windows hold structure as well: there the target's noise goes to 0 with the frequency (the ramp of
        filtered back-projection), and the ratio of both is taken from above.
        """
        num_rings = min(len(source.power), len(target.power))
        matched, wanted = source.power[:num_rings] * gain[:num_rings] ** 2, target.power[:num_rings].copy()
        low, above = slice(FIRST_RING), slice(FIRST_RING, FIRST_RING + 3)
        ratio = np.exp(np.log(wanted[above] / matched[above]).mean())
        wanted[low] = wanted[above].mean() * np.arange(FIRST_RING) / (FIRST_RING + 1)
        matched[low] = wanted[low] / ratio
        return cls(
            source_power=tuple(matched.tolist()),
            source_mixture=tuple(source.mixture.tolist()),
            target_power=tuple(wanted.tolist()),
            target_mixture=tuple(target.mixture.tolist()),
            is_reduced=is_reduced,
        )

    @property
    def reversed(self) -> "NoiseMatch":
        """The way back, target → matched source: what noise there is more of is drawn, what there is less of is taken away."""
        return NoiseMatch(self.target_power, self.target_mixture, self.source_power, self.source_mixture, is_reduced=True)

    def __call__(self, matched: Image, source_hu: Image, spacing_mm: tuple[float, float]) -> Image:
        """The matched source (H, W) in HU with the target's noise; `source_hu`, the source itself, tells the places.

        What is drawn is a function of the source: one slice always gets the same.
        """
        generator = np.random.default_rng(crc32(np.ascontiguousarray(source_hu).tobytes()))
        return self.match_part(matched, (0, 0), NoisePlace.of(source_hu, spacing_mm), generator)

    def match_part(
        self,
        part: Image,
        corner: tuple[int, int],
        place: "NoisePlace",
        generator: np.random.Generator,
        *,
        steps_per_window: int = STEPS_PER_WINDOW,
    ) -> Image:
        """The same of a part (h, w) of a slice, at its `corner` (y, x), by the place of the whole slice."""
        grid, padded = _windows(part, place.spacing_mm, steps_per_window=steps_per_window)
        (_, size, steps), taper = grid, _taper(grid[1])
        frames = _frames(padded, grid)
        mean = frames.mean(axis=(2, 3), keepdims=True)
        spectra = scipy.fft.rfft2((frames - mean) * taper)
        noise, wanted = self._noise(place, corner, grid)
        pixel_mm2 = np.float32(np.prod(place.spacing_mm))
        power = (spectra.real**2 + spectra.imag**2) * (pixel_mm2 / (taper**2).sum())
        around = (SMOOTHED_WINDOWS, SMOOTHED_WINDOWS, SMOOTHED_FREQUENCIES, SMOOTHED_FREQUENCIES)
        power = ndimage.uniform_filter(power, around, mode=("nearest", "nearest", "wrap", "nearest"))
        structure = np.maximum(power - OVERESTIMATE * noise, 0)
        gain = np.sqrt((structure + wanted) / np.maximum(structure + noise, np.finfo(np.float32).tiny))
        if self.is_reduced:
            missing = (structure + noise) * np.maximum(gain**2 - 1, 0)
            white = generator.standard_normal(padded.shape, dtype=np.float32)
            spectra *= np.minimum(gain, 1)
            spectra += scipy.fft.rfft2(_frames(white, grid) * taper) * np.sqrt(missing / pixel_mm2)
        else:
            spectra *= gain
        changed = (scipy.fft.irfft2(spectra, s=size) + mean * taper) * taper
        return _add_up(changed, taper**2, padded.shape, steps)[size[0] :, size[1] :][: part.shape[0], : part.shape[1]]

    def _noise(self, place: "NoisePlace", corner: tuple[int, int], grid: Grid) -> tuple[Image, Image]:
        """Noise power of the matched source and of the target (Y, X, h, w // 2 + 1) in each window."""
        num_frames, size, steps = grid
        along_y, along_x = (np.fft.fftfreq(size[0], place.spacing_mm[0])[:, None], np.fft.rfftfreq(size[1], place.spacing_mm[1]))
        direction = np.rint((np.arctan2(along_y, along_x) % np.pi) / np.pi * NUM_DIRECTIONS).astype(int) % NUM_DIRECTIONS
        middles = [
            (first + np.arange(num) * step - n / 2) / length * GRID - 0.5
            for first, num, step, n, length in zip(corner, num_frames, steps, size, place.shape, strict=True)
        ]
        at = np.stack(np.meshgrid(*middles, indexing="ij"))
        rings = np.arange(len(self.source_power)) * RING_PER_MM
        frequency = radial_frequency(size, place.spacing_mm)[:, : size[1] // 2 + 1]
        powers = []
        for spectrum, mixture in ((self.source_power, self.source_mixture), (self.target_power, self.target_mixture)):
            level = np.tensordot(np.array(mixture), place.variances, axes=1)  # (directions, GRID, GRID)
            of_frames = np.stack([ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in level], axis=-1)
            radial = np.interp(frequency, rings, spectrum)
            powers.append((of_frames[:, :, direction] * radial).astype(np.float32))
        return powers[0], powers[1]


@dataclass(frozen=True)
class NoisePlace:
    """Relative variances (see `directional_noise_place`) of the noise of a slice of this shape and PixelSpacing (y, x)."""

    variances: NDArray[np.float64]
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]

    @classmethod
    def of(cls, hu: Image, spacing_mm: tuple[float, float]) -> "NoisePlace":
        """Of a slice (H, W) in HU."""
        return cls(directional_noise_place(hu, spacing_mm), (hu.shape[0], hu.shape[1]), spacing_mm)


def _windows(image: Image, spacing_mm: tuple[float, float], *, steps_per_window: int) -> tuple[Grid, Image]:
    """Windows of WINDOW_MM over an image (H, W), and the image with a border, so that every pixel is in as many windows."""
    size = tuple(2 * round(WINDOW_MM / mm / 2) for mm in spacing_mm)
    steps = tuple(max(1, n // steps_per_window) for n in size)
    padded = np.pad(image, [(n, n + step) for n, step in zip(size, steps, strict=True)], mode="symmetric")
    num = tuple((length - n) // step + 1 for length, n, step in zip(padded.shape, size, steps, strict=True))
    return ((num[0], num[1]), (size[0], size[1]), (steps[0], steps[1])), padded


def _frames(padded: Image, grid: Grid) -> Image:
    """The windows (Y, X, h, w) of an image with its border."""
    _, size, steps = grid
    return np.lib.stride_tricks.sliding_window_view(padded, size)[:: steps[0], :: steps[1]]


def _taper(size: tuple[int, int]) -> Image:
    """Sine window (h, w): half-overlapping, its squares add up to 1."""
    return np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in size)).astype(np.float32)


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
