"""The noise power spectrum (NPS) of soft tissue in every method's images, beside the target's.

Windows are chosen on the target alone, spread over all slices, and are the same in every image (see `physics.noise_spectrum`).
"""

from collections.abc import Mapping

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


def noise_power(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], spacings_mm: NDArray[np.float64]
) -> pd.DataFrame:
    """Radial NPS: one row per method (and the target) and frequency; empty where there is no homogeneous soft tissue with noise.

    `spacings_mm` (Z, 2) is (y, x) of each slice; the frequencies end with the largest spacing's Nyquist frequency.
    Columns: method, frequency_per_mm (the middle of a bin), power_hu2_mm2,
    difference (of the power to the target's at this frequency, divided by the target's peak), num_windows.
    """
    corners = _homogeneous_windows(target_hu)
    columns = ["method", "frequency_per_mm", "power_hu2_mm2", "difference", "num_windows"]
    if not corners:
        return pd.DataFrame(columns=columns)
    spectra = {name: _radial(volume, corners, spacings_mm) for name, volume in {TARGET: target_hu, **images}.items()}
    frequencies, expected = spectra[TARGET]
    if expected.max() < LEAST_PEAK_HU2_MM2:
        return pd.DataFrame(columns=columns)
    rows = [
        (name, frequency, power, (power - wanted) / expected.max(), len(corners))
        for name, (_, powers) in spectra.items()
        for frequency, power, wanted in zip(frequencies, powers, expected, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def largest_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Per method: the largest deviation of its NPS from the target's at any frequency, as a share of the target's peak."""
    methods = table[table["method"] != TARGET]
    largest = methods.assign(difference=methods["difference"].abs()).groupby("method", sort=False)["difference"].max()
    return largest.rename("nps_difference").reset_index()


def _homogeneous_windows(target_hu: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Corners (z, y, x) of windows of little structure, at most MAX_NUM_WINDOWS, spread evenly over all of them.

    Not those with the least: where the target's own noise happens to be low it is lower than any other image's.
    """
    found = [(z, y, x) for z, plane in enumerate(target_hu) for y, x in homogeneous_windows(plane)]
    return [found[i] for i in evenly_spaced(len(found), at_most=MAX_NUM_WINDOWS)]


def _radial(
    volume_hu: NDArray[np.float32], corners: list[tuple[int, int, int]], spacings_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(frequencies, power): the mean of all windows' spectra in rings of equal width."""
    rings = Rings(np.linspace(0, 0.5 / max(spacings_mm[z].max() for z, _, _ in corners), NUM_BINS + 1))
    windows = np.stack([volume_hu[z, y : y + WINDOW_PX, x : x + WINDOW_PX] for z, y, x in corners]).astype(float)
    for (z, _, _), spectrum in zip(corners, window_spectra(windows), strict=True):
        rings.add(spectrum, spacings_mm[z])
    return rings.mean()
