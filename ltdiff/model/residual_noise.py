"""Model of the residual R = B − A': its standard deviation in each pixel, and its texture.

The standard deviation σ(x) is looked up from what A' shows round the pixel (local mean and roughness), the texture is that of
Gaussian noise with the residual's own isotropic spectrum; slices that overlap have as much of it in common as their residuals
have. Fitted on validation pairs, where the network has not seen B. The bridge's own draws are no substitute: they scatter by a
tenth of the error (docs/notes/uncertainty.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.physics.spectrum import half_overlapping_windows, radial_frequency, tapered_power

Image = NDArray[np.float32]

MEAN_PX = 5
"""Side of the square round a pixel whose mean and roughness decide."""
MEAN_EDGES_HU = (-1000.0, -950.0, -850.0, -700.0, -400.0, -100.0, 0.0, 80.0, 250.0, 700.0)
NUM_ROUGHNESS_BINS = 6
MIN_PIXELS = 200
"""A bin with fewer takes the value of all bins of its mean."""
TAIL_QUANTILE = 0.995
"""Residuals beyond it count as being there: a few copied or metal pixels must not widen a whole bin."""
WINDOW_PX = 64
MIN_SIGMA_HU = 0.5
"""Smallest σ at which the residual still has a texture."""
NUM_FREQUENCIES = 24
MAX_FLOW_GAIN = 5.0
"""A flow that draws a fifth of the power's root of what is there has learned nothing at that frequency."""
MAX_POOLED = 8
"""Slices of more slabs share nearly all of their noise anyway."""


@dataclass(frozen=True)
class ResidualNoiseModel:
    """σ in HU by bins of local mean (rows) and roughness (columns) of A', and the residual's power by cycles/pixel.

    A slice's noise pools that of `num_pooled` slabs, of which it has all but one in common with the next slice.
    """

    roughness_edges_hu: tuple[float, ...]
    sigma_hu: tuple[tuple[float, ...], ...]
    power: tuple[float, ...]  # at NUM_FREQUENCIES equal steps from 0 to √½ cycles/pixel; of unit variance
    range_hu: tuple[float, float]
    num_pooled: int

    def sigma(self, hu: Image) -> Image:
        """Standard deviation of B − A' in HU, (Y, X), for A' (Y, X)."""
        row, column = _bins(hu, self.roughness_edges_hu)
        return np.asarray(self.sigma_hu, np.float32)[row, column]

    def whitening(self, hu: Image) -> Image:
        """The σ (Y, X) that B − A' is divided by: not so small that rounding is all that is left."""
        return np.maximum(self.sigma(hu), np.float32(MIN_SIGMA_HU))

    def texture(self, white: NDArray[Any], *, pixel: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
        """White noise (…, Y, X) of unit variance → noise of unit variance with the residual's spectrum.

        Sides of a `pixel` (y, x) are in pixels of the slices that this was fitted to.
        """
        return _filter(white, np.asarray(self.power), pixel)

    def noise(self, shape: tuple[int, int], *, seed: int, number: int) -> NDArray[np.float64]:
        """The texture (Y, X) of slice `number` of a series, which has as much of it in common with the next as residuals have."""
        slabs = [np.random.default_rng([seed, slab]) for slab in range(number, number + self.num_pooled)]
        return self.texture(sum(slab.standard_normal(shape) for slab in slabs) / np.sqrt(self.num_pooled))

    def draw(self, hu: Image, *, seed: int, number: int) -> Image:
        """One image that B may be, (Y, X) in whole HU, for A' (Y, X), slice `number` of its series."""
        return self.add(hu, self.sigma(hu) * self.noise(hu.shape, seed=seed, number=number))

    def add(self, hu: Image, residual_hu: NDArray[Any]) -> Image:
        """A' + residual in whole HU, within the target's range.

        A pixel at an end of the range stays there, as nearly all of B's do: noise would break the runs of clipped air.
        """
        return np.where(self.is_clipped(hu), hu, np.rint(hu + residual_hu)).clip(*self.range_hu).astype(np.float32)

    def is_clipped(self, hu: Image) -> NDArray[np.bool_]:
        """Whether a pixel (Y, X) lies at an end of the target's range."""
        return np.asarray((hu <= self.range_hu[0]) | (hu >= self.range_hu[1]))


def fit_residual_noise(
    standardized: Sequence[Image],
    targets: Sequence[Image],
    *,
    range_hu: tuple[float, float],
    neighbours: Sequence[tuple[int, int]] = (),
) -> ResidualNoiseModel:
    """Fit to pairs of A' and B, (Y, X) each, that no network was trained on; `neighbours` are indices of adjacent slices.

    Raises:
        ValueError: there is no pair.
    """
    if not standardized:
        raise ValueError("a residual noise model needs at least one pair")
    roughness = np.concatenate([_local(hu)[1].ravel() for hu in standardized])
    edges = np.quantile(roughness, np.linspace(0, 1, NUM_ROUGHNESS_BINS + 1)[1:-1])
    residuals = [target - hu for hu, target in zip(standardized, targets, strict=True)]
    flat = np.concatenate([residual.ravel() for residual in residuals])
    places = [_bins(hu, edges) for hu in standardized]
    rows, columns = (np.concatenate([place[axis].ravel() for place in places]) for axis in (0, 1))
    sigma = _sigma_table(flat, rows, columns)
    relative = [residual / np.maximum(sigma[place], MIN_SIGMA_HU) for residual, place in zip(residuals, places, strict=True)]
    return ResidualNoiseModel(
        roughness_edges_hu=tuple(map(float, edges)),
        sigma_hu=tuple(tuple(map(float, row)) for row in sigma),
        power=tuple(map(float, _unit_variance(_power(relative), (_window_px(relative),) * 2))),
        range_hu=range_hu,
        num_pooled=_num_pooled(relative, neighbours),
    )


def _local(hu: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the MEAN_PX × MEAN_PX pixels round each."""
    image = hu.astype(np.float64)
    mean = ndimage.uniform_filter(image, MEAN_PX)
    variance = ndimage.uniform_filter(image**2, MEAN_PX) - mean**2
    return mean, np.sqrt(np.maximum(variance, 0.0))


def _bins(hu: Image, roughness_edges: Sequence[float] | NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    mean, roughness = _local(hu)
    return np.digitize(mean, MEAN_EDGES_HU), np.digitize(roughness, roughness_edges)


def _sigma_table(residual: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
    overall = _robust_rms(residual)
    table = np.empty((len(MEAN_EDGES_HU) + 1, NUM_ROUGHNESS_BINS))
    for i in range(len(table)):
        of_row = rows == i
        pooled = _robust_rms(residual[of_row]) if of_row.sum() >= MIN_PIXELS else overall
        for j in range(NUM_ROUGHNESS_BINS):
            values = residual[of_row & (columns == j)]
            table[i, j] = _robust_rms(values) if len(values) >= MIN_PIXELS else pooled
    return table


def _robust_rms(values: NDArray[Any]) -> float:
    limit = np.quantile(np.abs(values), TAIL_QUANTILE)
    return float(np.sqrt(np.mean(np.clip(values, -limit, limit).astype(np.float64) ** 2)))


def _num_pooled(relative: Sequence[NDArray[Any]], neighbours: Sequence[tuple[int, int]]) -> int:
    """k slabs a slice, of which neighbours share k − 1, correlate by (k − 1)/k; outliers are cut at 4 σ."""
    if not neighbours:
        return 1
    cut = [np.clip(one, -4, 4) for one in relative]
    correlation = np.mean([_correlation(cut[i], cut[j]) for i, j in neighbours])
    return round(1 / (1 - np.clip(correlation, 0, 1 - 1 / MAX_POOLED)))


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    scale = float(np.sqrt(np.mean(a**2) * np.mean(b**2)))
    return float(np.mean(a * b)) / scale if scale else 0.0


def fit_flow_gain(residuals: Sequence[NDArray[Any]], drawn: Sequence[NDArray[Any]]) -> tuple[float, ...]:
    """The gains by frequency that give what a flow has `drawn` the spectrum of the real `residuals`, (Y, X) in σ each."""
    real, made = _power(residuals), _power(drawn)
    gain = np.sqrt(real / np.maximum(made, np.finfo(float).tiny))
    return _keep_zero(gain.clip(1 / MAX_FLOW_GAIN, MAX_FLOW_GAIN))


def fit_mean_gain(residuals: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> tuple[float, ...]:
    """The gains by frequency, none of them negative, with which what a flow has `expected` comes nearest to the real `residuals`,
    by least squares; (Y, X) in σ each.
    """
    both, neither = (_power([r + sign * e for r, e in zip(residuals, expected, strict=True)]) for sign in (1, -1))
    gain = (both - neither) / 4 / np.maximum(_power(expected), np.finfo(float).tiny)
    return _keep_zero(gain.clip(0, MAX_FLOW_GAIN))


def _keep_zero(gain: NDArray[np.float64]) -> tuple[float, ...]:
    """Gains whose first, at frequency 0, is that of the next: windows less their means say nothing of it."""
    return (float(gain[1]), *map(float, gain[1:]))


def _unit_variance(power: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    on_grid = _on_grid(power, shape)
    return power / on_grid.mean() if on_grid.any() else np.ones(NUM_FREQUENCIES)


def _power(standardized: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Radial power spectrum, averaged over half-overlapping windows; outliers are cut at 4 σ."""
    size = _window_px(standardized)
    total, num_windows = np.zeros((size, size)), 0
    for residual in (one for one in standardized if min(one.shape) >= size):  # a smaller image shortens no other's windows
        windows = half_overlapping_windows(np.clip(residual, -4, 4), (size, size))
        total += tapered_power(windows - windows.mean(axis=(1, 2), keepdims=True)).sum(axis=0)
        num_windows += len(windows)
    lower = np.rint(_frequency_steps((size, size))).astype(int).ravel()
    counts = np.bincount(lower, minlength=NUM_FREQUENCIES)
    power = np.bincount(lower, total.ravel() / num_windows, minlength=NUM_FREQUENCIES) / np.maximum(counts, 1)
    known = counts > 0
    return np.interp(np.arange(NUM_FREQUENCIES), np.flatnonzero(known), power[known])


def _window_px(standardized: Sequence[NDArray[Any]]) -> int:
    return min(WINDOW_PX, max(min(one.shape) for one in standardized))


def _filter(white: NDArray[Any], power: NDArray[np.float64], pixel: tuple[float, float]) -> NDArray[np.float64]:
    """White noise (…, Y, X) of unit variance → noise of unit variance with this spectrum."""
    gain = np.sqrt(power)
    on_grid = _on_grid(gain, white.shape[-2:], pixel)
    return apply_gain(white, gain / np.sqrt(np.mean(on_grid**2)), pixel=pixel)


def apply_gain(image: NDArray[Any], gain: NDArray[np.float64], *, pixel: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """An image (…, Y, X) with a gain by frequency, at NUM_FREQUENCIES equal steps from 0 to √½ cycles/pixel.

    Sides of its `pixel` (y, x) are in pixels of the gain.
    """
    return np.fft.ifft2(np.fft.fft2(image) * _on_grid(gain, image.shape[-2:], pixel)).real


def _on_grid(table: NDArray[np.float64], shape: tuple[int, ...], pixel: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """A table over the frequency → its values on the grid of an `fft2`; beyond its end as there."""
    return np.interp(_frequency_steps(shape, pixel), np.arange(NUM_FREQUENCIES), table)


def _frequency_steps(shape: tuple[int, ...], pixel: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Radial frequencies of an `fft2` in steps of the tables: 0 … NUM_FREQUENCIES − 1 at √½ cycles/pixel."""
    return radial_frequency(shape, pixel) / np.sqrt(0.5) * (NUM_FREQUENCIES - 1)
