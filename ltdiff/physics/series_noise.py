"""The noise of one series that is not like its protocol's: exposure control, a large patient, another scanner of the model.

A match is fitted to all series of a protocol. A series of another dose than most has the protocol's h, for h is the kernels', and
noise of its own, which its own quiet windows tell: level, spectrum and place. Where it differs by more than patients of one
protocol do, the noise match is made for it; all others keep the protocol's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_windows import FIRST_RING, NoiseModel, NoiseWindows, noise_windows

NUM_SLICES = 12
"""Spread evenly over a series: they tell the level of its noise to some 2 %."""
MIN_SLICES = 6
"""Fewer do not tell a series from its protocol."""
LEAST_DIFFERENCE = 0.3
"""Of the logarithm of noise power: patients of one protocol at one dose differ by .05 (one standard deviation)."""

Image = NDArray[np.float32]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class SeriesNoise:
    """Noise of the source protocol and of the target, as in `NoiseModel`; the gains h at the rings of the source's power; and
    whether the source is noise-reduced (see `NoiseMatch`)."""

    source_power: tuple[float, ...]
    source_mixture: tuple[float, ...]
    target_power: tuple[float, ...]
    target_mixture: tuple[float, ...]
    gains: tuple[float, ...]
    is_reduced: bool = False

    @classmethod
    def of(cls, source: NoiseModel, target: NoiseModel, gains: Float, *, is_reduced: bool = False) -> "SeriesNoise":
        """Of the noise of both protocols, and the gains h (R,) at the source's rings."""
        return cls(
            source_power=tuple(source.power.tolist()),
            source_mixture=tuple(source.mixture.tolist()),
            target_power=tuple(target.power.tolist()),
            target_mixture=tuple(target.mixture.tolist()),
            gains=tuple(gains.tolist()),
            is_reduced=is_reduced,
        )

    def match(self, slices: Iterable[Image], spacing_mm: tuple[float, float]) -> NoiseMatch | None:
        """The noise match of a series, by some of its slices (H, W) in HU with PixelSpacing (y, x); up to NUM_SLICES are enough.

        None where its noise is its protocol's, or where too few slices show soft tissue.
        """
        quiet = _quiet_windows(slices, spacing_mm)
        if quiet is None or not self._is_other(quiet):
            return None
        num_rings = min(len(self.gains), quiet.power.shape[1])
        own = quiet.model()
        target = NoiseModel(np.array(self.target_power), np.array(self.target_mixture))
        gains = np.array(self.gains)[:num_rings]
        return NoiseMatch.of(NoiseModel(own.power[:num_rings], own.mixture), target, gains, is_reduced=self.is_reduced)

    def distance(self, standardized: Iterable[Image], spacing_mm: tuple[float, float]) -> float:
        """How far the noise of standardized slices (H, W) in HU is from the target's: |log| of the ratio of power.

        NaN where they show no quiet soft tissue.
        """
        quiet = _quiet_windows(standardized, spacing_mm)
        if quiet is None or not len(quiet):
            return float("nan")
        return float(abs(np.median(_log_levels(quiet, self.target_power, self.target_mixture))))

    def _is_other(self, quiet: NoiseWindows) -> bool:
        """Whether noise differs from the protocol's by more than patients do, and by more than its own slices do."""
        levels = _log_levels(quiet, self.source_power, self.source_mixture)
        if len(levels) < MIN_SLICES:
            return False
        error = levels.std(ddof=1) / np.sqrt(len(levels))
        return bool(abs(np.median(levels)) > max(LEAST_DIFFERENCE, 3 * error))


def _quiet_windows(slices: Iterable[Image], spacing_mm: tuple[float, float]) -> NoiseWindows | None:
    measured = [
        noise_windows(hu, spacing_mm, place=noise_place(hu, spacing_mm), number=number) for number, hu in enumerate(slices)
    ]
    return NoiseWindows.join(measured).quiet if measured else None


def _log_levels(quiet: NoiseWindows, power: tuple[float, ...], mixture: tuple[float, ...]) -> Float:
    """Logarithm of noise power over that of a protocol, for the place of each window, of each slice that has quiet windows."""
    num_rings = min(len(power), quiet.power.shape[1])
    usual = np.array(power)[FIRST_RING:num_rings] * (quiet.place @ np.array(mixture))[:, None]
    ratio = np.maximum(quiet.power[:, FIRST_RING:num_rings], np.finfo(float).tiny) / usual
    medians = [np.median(ratio[quiet.slices == number], axis=0) for number in np.unique(quiet.slices)]
    return np.array([np.log(one).mean() for one in medians])
