"""The 6 standardised features of the intensity-volume histogram (IBSI): ν(i), the share of voxels with at least intensity i."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.region import Floats, Levels


@dataclass(frozen=True, eq=False)
class IntensityVolume:
    """Intensities (K,) in ascending order, evenly spaced, and `volume` (K,), the share of voxels with at least that intensity."""

    intensity: Floats
    volume: Floats

    def volume_at(self, fraction: float) -> float:
        """Share of voxels with at least `fraction` of the way from the lowest to the highest intensity."""
        reach = self.intensity - self.intensity[0]
        reaches = reach >= fraction * reach[-1] - 1e-9 * abs(reach[-1])
        return float(self.volume[reaches].max())

    def intensity_at(self, fraction: float) -> float:
        """The lowest intensity that at most `fraction` of the voxels have or exceed; the highest one if more do."""
        at_most = self.intensity[self.volume <= fraction]
        return float(at_most[0]) if len(at_most) else float(self.intensity[-1])


FEATURES: Mapping[str, Feature[IntensityVolume]] = {
    "v10": Feature("BC2M", "ν at 10 % of the intensity range", lambda v: v.volume_at(0.1)),
    "v90": Feature("BC2M", "ν at 90 % of the intensity range", lambda v: v.volume_at(0.9)),
    "i10": Feature("GBPN", "the lowest i with ν(i) ≤ 10 %", lambda v: v.intensity_at(0.1)),
    "i90": Feature("GBPN", "the lowest i with ν(i) ≤ 90 %", lambda v: v.intensity_at(0.9)),
    "diff_v10_v90": Feature("DDTU", "v10 − v90", lambda v: v.volume_at(0.1) - v.volume_at(0.9)),
    "diff_i10_i90": Feature("CNV2", "i10 − i90", lambda v: v.intensity_at(0.1) - v.intensity_at(0.9)),
}


def integrate_histogram(levels: Levels, *, intensity: Floats) -> IntensityVolume:
    """The histogram of levels (N,), counted from 1; `intensity` (K,) is that of the levels 1 … K."""
    counts = np.bincount(levels - 1, minlength=len(intensity))
    volume = np.cumsum(counts[::-1])[::-1] / len(levels)
    return IntensityVolume(intensity, volume)
