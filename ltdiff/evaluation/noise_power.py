"""The noise power spectrum (NPS) of soft tissue in every method's images, beside the target's.

Windows are chosen on the target alone, spread over all slices, and are the same in every image (see `physics.noise_spectrum`).
They are counted first; the windows themselves are cut when their slices come by.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.physics.noise_spectrum import WINDOW_PX, Rings, homogeneous_windows, window_spectra

MAX_NUM_WINDOWS = 200
NUM_BINS = 16
LEAST_PEAK_HU2_MM2 = 1e-9
"""Less is rounding: a target without noise has no peak to compare with."""


def count_windows(target_hu: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many windows of little structure each of the slices (Z, Y, X) has."""
    return np.array([len(homogeneous_windows(plane)) for plane in target_hu], np.int64)


class NoisePower:
    """Takes the slices of all methods, and gives the radial NPS of each.

    `num_windows` (N,) has a count for each slice, from `count_windows`. Looked at are at most MAX_NUM_WINDOWS, spread evenly over
    all of them; not those with the least structure: where the target's own noise happens to be low it is lower than any other
    image's.
    """

    COLUMNS = ("method", "frequency_per_mm", "power_hu2_mm2", "difference", "num_windows")

    def __init__(self, num_windows: NDArray[np.int64]) -> None:
        ends = np.cumsum(num_windows)
        chosen = np.asarray(evenly_spaced(int(num_windows.sum()), at_most=MAX_NUM_WINDOWS), np.int64)
        self._slices = np.searchsorted(ends, chosen, side="right")
        self._numbers = chosen - (ends - num_windows)[self._slices]  # among the windows of the slice
        self._windows: dict[str, list[NDArray[np.float32]]] = {}
        self._spacings_mm: list[NDArray[np.float64]] = []

    def add(
        self,
        images: Mapping[str, NDArray[np.float32]],
        *,
        target_hu: NDArray[np.float32],
        spacings_mm: NDArray[np.float64],
        first: int = 0,
    ) -> None:
        """Take slices (Z, Y, X) from number `first` on, with spacing (y, x) for each (Z, 2)."""
        for z in np.unique(self._slices[(self._slices >= first) & (self._slices < first + len(target_hu))]) - first:
            found = homogeneous_windows(target_hu[z])
            for y, x in (found[number] for number in self._numbers[self._slices == first + z]):
                for name, volume in {TARGET: target_hu, **images}.items():
                    window = volume[z, y : y + WINDOW_PX, x : x + WINDOW_PX].copy()  # not the whole slice is kept
                    self._windows.setdefault(name, []).append(window)
                self._spacings_mm.append(spacings_mm[z])

    def table(self) -> pd.DataFrame:
        """One row per method (and the target) and frequency; empty where there is no homogeneous soft tissue with noise.

        The frequencies end with the largest spacing's Nyquist frequency. COLUMNS: method, frequency_per_mm (the middle of a bin),
        power_hu2_mm2, difference (of the power to the target's at this frequency, divided by the target's peak), num_windows.
        """
        num_windows = len(self._spacings_mm)
        assert num_windows == len(self._slices), "slices are missing"
        spectra = {name: self._radial(windows) for name, windows in self._windows.items()}
        if not spectra or spectra[TARGET][1].max() < LEAST_PEAK_HU2_MM2:
            return pd.DataFrame(columns=list(self.COLUMNS))
        _, expected = spectra[TARGET]
        rows = [
            (name, frequency, power, (power - wanted) / expected.max(), num_windows)
            for name, (frequencies, powers) in spectra.items()
            for frequency, power, wanted in zip(frequencies, powers, expected, strict=True)
        ]
        return pd.DataFrame(rows, columns=list(self.COLUMNS))

    def _radial(self, windows: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(frequencies, power): the mean of all windows' spectra in rings of equal width."""
        rings = Rings(np.linspace(0, 0.5 / np.max(self._spacings_mm), NUM_BINS + 1))
        for spacing_mm, spectrum in zip(self._spacings_mm, window_spectra(np.stack(windows).astype(float)), strict=True):
            rings.add(spectrum, spacing_mm)
        return rings.mean()


def largest_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Per method: the largest deviation of its NPS from the target's at any frequency, as a share of the target's peak."""
    methods = table[table["method"] != TARGET]
    largest = methods.assign(difference=methods["difference"].abs()).groupby("method", sort=False)["difference"].max()
    return largest.rename("nps_difference").reset_index()
