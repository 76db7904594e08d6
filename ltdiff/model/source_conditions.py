"""What a kernel match and its noise say of a source protocol: how far the networks must change a matched source.

Networks that were trained on several protocols of one target serve another one whose conditions lie between theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_windows import FIRST_RING

FREQUENCIES_PER_MM = (0.2, 0.4, 0.6)
GAIN_TOLERANCE = 1.25
"""Factor on the extreme gains: what the bootstrap of a match says of its own at .6 cycles/mm."""
NOISE_TOLERANCE = 1.35
"""Factor on the extreme noise: patients of one protocol at one dose differ by as much (SAME_DOSE of the spectral match)."""


@dataclass(frozen=True)
class SourceConditions:
    """Gains h at FREQUENCIES_PER_MM; noise power of the target over that of the matched source; and whether the source is
    noise-reduced, where the noise tells nothing."""

    gains: tuple[float, ...]
    noise_factor: float = 1.0
    is_reduced: bool = False

    @classmethod
    def of(cls, kernel_match: KernelMatch, noise_match: NoiseMatch | DrawnNoise | None) -> "SourceConditions":
        """Of a match, with what gives matched sources the target's noise."""
        gains = np.interp(FREQUENCIES_PER_MM, kernel_match.knots.cpu().numpy(), kernel_match.gains.cpu().numpy())
        factor, is_reduced = 1.0, isinstance(noise_match, DrawnNoise)
        if isinstance(noise_match, NoiseMatch):
            is_reduced = noise_match.is_reduced
            levels = [
                np.log(power[FIRST_RING:]).mean() + np.log(sum(mixture))
                for power, mixture in (
                    (noise_match.source_power, noise_match.source_mixture),
                    (noise_match.target_power, noise_match.target_mixture),
                )
            ]
            factor = float(np.exp(levels[1] - levels[0]))
        return cls(tuple(gains.tolist()), factor, is_reduced)

    def outside(self, trained: Sequence["SourceConditions"]) -> str:
        """In what these are not covered by those of protocols that were trained; "" where they are."""
        if self.is_reduced and not any(one.is_reduced for one in trained):
            return "its noise is reduced"
        found = [
            _outside(f"a gain of {{}} at {frequency:g} cycles/mm", gain, of_trained, GAIN_TOLERANCE)
            for frequency, gain, of_trained in zip(
                FREQUENCIES_PER_MM, self.gains, zip(*(one.gains for one in trained), strict=True), strict=True
            )
        ]
        if not self.is_reduced:
            factors = [one.noise_factor for one in trained if not one.is_reduced] or [1.0]
            found.append(_outside("a noise factor of {}", self.noise_factor, factors, NOISE_TOLERANCE))
        return "; ".join(filter(None, found))


def _outside(what: str, value: float, trained: Sequence[float], tolerance: float) -> str:
    low, high = min(trained), max(trained)
    if low / tolerance <= value <= high * tolerance:
        return ""
    return f"{what.format(f'{value:.3g}')} instead of {low:.3g}" + ("" if low == high else f" to {high:.3g}")
