"""The modulation transfer function (MTF) at the edges of discs whose places are known, of methods beside the target.

Of all discs of one kind, pixels are averaged by their distance from the edge, in steps much finer than a pixel: the edge spread
function. Its derivative is the line spread function, and the MTF is that one's Fourier transform over its value at 0. For methods
that are not linear this is the task transfer function, which depends on contrast, background and noise.
Source: Richard et al., Med. Phys. 39 (2012) 4115; AAPM TG-233 (2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.physics.edge_response import edge_spread, line_transfer, step_loss

WINDOW_MM = 8.0
"""Inside and outside of the edge: as far as the line spread function is looked at."""
STEPS_PER_PIXEL = 8
FRACTIONS = tuple(np.round(np.arange(0, 0.901, 0.05), 2).tolist())
"""Frequencies, as fractions of the pixel grid's Nyquist frequency."""
COLUMNS = ("kind", "method", "frequency_per_mm", "fraction_of_nyquist", "mtf", "target_mtf", "difference", "standard_error")


@dataclass(frozen=True)
class Disc:
    """A disc in an image: its kind (contrast and background), and in pixels its centre (y, x) and radius."""

    kind: str
    centre_px: tuple[float, float]
    radius_px: float


def mtf_table(
    images: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], discs: Sequence[Disc], pixel_mm: float
) -> pd.DataFrame:
    """COLUMNS for every kind, method and frequency: MTF of a method's images (N, Y, X) and of the target's (Y, X), in HU.

    All images show the same discs and differ in their noise, of which `standard_error` is that of `difference` (jackknife; NaN
    for one image).
    """
    rows = []
    frequencies = np.array(FRACTIONS) / (2 * pixel_mm)
    for kind in dict.fromkeys(disc.kind for disc in discs):
        bins = _EdgeBins([disc for disc in discs if disc.kind == kind], target_hu.shape, pixel_mm)
        expected = bins.mtf(bins.spread(target_hu), frequencies)
        for method, volume in images.items():
            spreads = np.stack([bins.spread(plane) for plane in volume])
            found = bins.mtf(spreads.mean(axis=0), frequencies)
            error = _jackknife(spreads, bins, frequencies)
            columns = zip(frequencies, FRACTIONS, found, expected, found - expected, error, strict=True)
            rows += [(kind, method, *values) for values in columns]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def largest_mtf_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Per kind and method the row of the largest |difference|, at 0 to the last of FRACTIONS of the Nyquist frequency."""
    largest = table["difference"].abs().groupby([table["kind"], table["method"]], sort=False).idxmax()
    return table.loc[largest].reset_index(drop=True)


class _EdgeBins:
    """Which pixels of an image lie how far from the edge of one of the discs."""

    def __init__(self, discs: Sequence[Disc], shape: tuple[int, ...], pixel_mm: float) -> None:
        self.step_mm = pixel_mm / STEPS_PER_PIXEL
        self.num = 2 * int(WINDOW_MM / self.step_mm)
        y, x = np.indices(shape)
        pixels, places = [], []
        for disc in discs:
            distance_px = np.hypot(y - disc.centre_px[0], x - disc.centre_px[1]) - disc.radius_px
            place = np.floor(distance_px.ravel() * STEPS_PER_PIXEL).astype(int) + self.num // 2
            inside = np.flatnonzero((place >= 0) & (place < self.num))
            pixels.append(inside)
            places.append(place[inside])
        self.pixels, self.places = np.concatenate(pixels), np.concatenate(places)
        self.counts = np.bincount(self.places, minlength=self.num)

    def spread(self, plane_hu: NDArray[np.float32]) -> NDArray[np.float64]:
        """Edge spread function (num,) in HU, from inside to outside; steps without a pixel are interpolated."""
        sums = np.bincount(self.places, plane_hu.ravel()[self.pixels], minlength=self.num)
        return edge_spread(sums, self.counts)

    def mtf(self, spread: NDArray[np.float64], frequencies_per_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """MTF at these frequencies; 1 at 0. What averaging over a step and the difference of two take away is given back."""
        transfer = line_transfer(np.diff(spread), self.step_mm, frequencies_per_mm)
        return np.abs(transfer) / step_loss(self.step_mm, frequencies_per_mm)


def _jackknife(spreads: NDArray[np.float64], bins: _EdgeBins, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error (F,) of the MTF of spreads (N, num), from those without one of them each; NaN for N = 1."""
    num = len(spreads)
    if num == 1:
        return np.full(len(frequencies), np.nan)
    parts = [bins.mtf((spreads.sum(axis=0) - one) / (num - 1), frequencies) for one in spreads]
    return np.sqrt((num - 1) * np.var(parts, axis=0))
