"""The noise power spectrum (NPS) of soft tissue in every method's images, beside the target's.

Windows are chosen on the target alone: those in soft tissue with little coarse structure, spread over all slices. The
spectrum is that of the windows less their fitted plane, tapered; it holds noise and whatever fine structure the tissue has, in
every image alike.
Source: ICRU Report 87 (2012), chapter 4, with a Hann taper instead of overlapping rectangles.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.manifest import evenly_spaced
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.model.spectrum import radial_frequency, tapered_power

WINDOW_PX = 32
STEP_PX = 16
SOFT_TISSUE_HU = (-20.0, 120.0)
STRUCTURE_SIGMA_PX = 3.0
MAX_STRUCTURE_HU = 15.0
"""Standard deviation within a window after smoothing by STRUCTURE_SIGMA_PX; above it, edges rule the spectrum."""
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
    found = []
    for z, plane in enumerate(target_hu):
        smooth = ndimage.gaussian_filter(plane.astype(np.float32), STRUCTURE_SIGMA_PX)
        starts = (range(0, n - WINDOW_PX + 1, STEP_PX) for n in plane.shape)
        for y, x in product(*starts):
            window = smooth[y : y + WINDOW_PX, x : x + WINDOW_PX]
            if SOFT_TISSUE_HU[0] <= window.mean() <= SOFT_TISSUE_HU[1] and window.std() <= MAX_STRUCTURE_HU:
                found.append((z, y, x))
    return [found[i] for i in evenly_spaced(len(found), at_most=MAX_NUM_WINDOWS)]


def _radial(
    volume_hu: NDArray[np.float32], corners: list[tuple[int, int, int]], spacings_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(frequencies, power): the mean of all windows' spectra in rings of equal width."""
    edges = np.linspace(0, 0.5 / max(spacings_mm[z].max() for z, _, _ in corners), NUM_BINS + 1)
    windows = np.stack([volume_hu[z, y : y + WINDOW_PX, x : x + WINDOW_PX] for z, y, x in corners]).astype(float)
    total, counts = np.zeros(NUM_BINS), np.zeros(NUM_BINS)
    for (z, _, _), spectrum in zip(corners, tapered_power(_without_plane(windows)), strict=True):
        frequency = radial_frequency(spectrum.shape, spacings_mm[z])
        total += np.histogram(frequency, edges, weights=spectrum * spacings_mm[z].prod())[0]
        counts += np.histogram(frequency, edges)[0]
    kept = np.flatnonzero(counts[1:]) + 1  # the first ring holds the plane's removal
    return (edges[:-1] + edges[1:])[kept] / 2, total[kept] / counts[kept]


def _without_plane(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows (N, n, n) less the plane that fits each best."""
    n = windows.shape[-1]
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    basis = np.stack([np.ones(n * n), y.ravel(), x.ravel()], axis=1)
    flat = windows.reshape(len(windows), -1)
    plane = flat @ basis @ np.linalg.inv(basis.T @ basis) @ basis.T
    return (flat - plane).reshape(windows.shape)
