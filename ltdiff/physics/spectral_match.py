"""The spectral match: the linear kernel match h of two protocols from series of different patients, without pairs.

For a filter with a real, positive response, the power spectra of what two protocols show have the ratio h², whoever was scanned.
Two such ratios are compared, for patients differ in anatomy and in noise:

- that of structure, in windows of their own class (`window_power`), so that size, lungs and couch cancel, less their noise;
- that of noise, in quiet windows of soft tissue (`noise_windows`), for the place and size of the patient.

At one dose both are h². At another the noise has a constant factor besides, which is fitted, and a noise match (`noise_match`)
comes after h. Of a noise-reduced source structure alone tells h. log h is an even polynomial without a constant, so that it is
smooth and h(0) = 1. It is fitted twice, the second time to the sources matched by the first: where spectra are alike, a window's
leakage from one frequency to another changes nothing, and neither does clipping. Series (or slices, where a side has one series)
are drawn again and again for the uncertainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ltdiff.physics import noise_windows as noise
from ltdiff.physics.degradation import Degradation, inverse_gains
from ltdiff.physics.kernel_match import NUM_KNOTS, KernelMatch, StoredRange, corner_frequency
from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_reduction import NoiseFilter, fit_noise_filters
from ltdiff.physics.noise_windows import NoiseModel, NoiseWindows
from ltdiff.physics.series_noise import SeriesNoise
from ltdiff.physics.window_power import NUM_CLASSES, RING_PER_MM, WindowPower, window_power

NUM_TERMS, SMOOTHNESS = 7, 3e-4
"""Terms of the polynomial in f², and the weight of its third derivative: without it, seven terms would follow the noise."""
NUM_ROUGHNESS = 78
"""Frequencies at which the third derivative is looked at."""
LOW_PER_MM = 0.12
"""Below, anatomy differs from patient to patient more than kernels do."""
LOW_ERROR, STRUCTURE_ERROR, NOISE_ERROR = 0.3, 0.1, 0.1
"""Standard deviations of log ratios of power: of structure below LOW_PER_MM and above, and of noise."""
MIXED_PER_MM, MIXED_SLOPE = 0.35, 2.0
"""Below this frequency quiet windows hold some structure, and the error of the noise's ratio grows by this per cycle/mm."""
SHAPE_ERROR, UNHEARD = 0.3, 1e3
"""Of the noise's log ratio, beyond which its shape is not that of h² (between FBP images it is .1, after noise reduction above
1), and the factor of an error that makes it count for nothing."""
MIN_STRUCTURE = 0.05
"""Share of structure in a class's power, below which its ratio is that of noise."""
NOISE_MODEL_ERROR = 0.15
"""Relative error of the noise that is taken off: its place is known from soft tissue, and streaks are not isotropic."""
CLASS_SPREAD = 0.3
"""Of the log ratios of classes that show the same anatomy on both sides."""
MIN_WINDOWS = 8
"""Of a class on each side: the median of fewer says little. Where no class has so many, all windows are one class."""
NUM_BOOTSTRAPS = 24
CHECKED_PER_MM, CHECKED_SHARE, NUM_CHECKED = 0.1, 0.9, 24
"""Frequencies at which the match is judged: from where kernels begin to differ to a share of f_max."""
LARGEST_ERROR, LEAST_DIFFERENCE = 0.3, 0.05
"""Of log h: beyond the first a match does more harm than good, below the second no texture changes."""
NUM_REDUCED = 3
"""Targets on which the strength of noise filters is found."""
SAME_DOSE = 0.3
"""Of the logarithm of the noise's factor: what two patients on each side differ by at one dose."""

Image = NDArray[np.float32]
Float = NDArray[np.float64]
Windows = TypeVar("Windows", WindowPower, NoiseWindows)


@dataclass(frozen=True)
class SpectralMatch:
    """log h(f) = ½ Σ_k c_k (f/f_max)^{2k}, k from 1, up to `max_per_mm` = f_max; beyond it h stays as it is there.

    `draws` (B, NUM_TERMS) are the coefficients of resampled series; `log_noise_factor` is that of the target's noise over the
    matched source's, 0 at one dose, where there is no `noise_match`; the ranges are what either protocol stores. `series_noise`,
    where there are quiet windows, makes the noise match of a series whose dose is not that of most. `noise_filters` are like the
    noise reduction of the source, if it has one.
    """

    coefficients: Float
    draws: Float
    log_noise_factor: float
    max_per_mm: float
    corner_per_mm: float
    source_range_hu: tuple[float, float]
    target_range_hu: tuple[float, float]
    noise_match: NoiseMatch | None = None
    series_noise: SeriesNoise | None = None
    noise_filters: tuple[NoiseFilter, ...] = ()

    def gain(self, frequencies_per_mm: Float, coefficients: Float | None = None) -> Float:
        """h at frequencies (F,)."""
        chosen = self.coefficients if coefficients is None else coefficients
        return np.exp(0.5 * _terms(frequencies_per_mm, self.max_per_mm) @ chosen)

    def kernel_match(self) -> KernelMatch:
        """The filter of these gains, source → target."""
        return KernelMatch.of(self._knots, self.gain(self._knots), self.target_range_hu)

    def degradation(self) -> Degradation:
        """The way back, target → source, by the gains of all draws."""
        gains = np.stack([self.gain(self._knots, draw) for draw in self.draws])
        return Degradation.inverting(self._knots, gains, self.source_range_hu, self.noise_match, self.noise_filters)

    def inverse(self) -> KernelMatch:
        """The filter 1/h, target → source."""
        return KernelMatch.of(self._knots, inverse_gains(self.gain(self._knots)), self.source_range_hu)

    @property
    def _knots(self) -> Float:
        return np.linspace(0, self.corner_per_mm, NUM_KNOTS)


class _Powers(NamedTuple):
    """The windows of one protocol, as they are or resampled, and the quiet ones among those of soft tissue."""

    windows: WindowPower
    quiet: NoiseWindows


class _Slice(NamedTuple):
    """A slice (H, W) in HU with PixelSpacing (y, x), the relative variances of its noise, and the number of its series."""

    hu: Image
    spacing_mm: tuple[float, float]
    place: Float
    series: int


class SpectralMatchFit:
    """Takes slices of the source and of the target protocol, in any order; `solve` gives the match. It holds the slices."""

    def __init__(self) -> None:
        self._sources: list[_Slice] = []
        self._targets: list[_Slice] = []
        self._ranges = {"source": StoredRange(), "target": StoredRange()}
        self._limit_per_mm, self._corner_per_mm = np.inf, 0.0

    def add(self, role: str, hu: Image, *, spacing_mm: tuple[float, float], series: int) -> None:
        """Add a slice (H, W) in HU with PixelSpacing (y, x), of series number `series` of its role: source or target."""
        one = _Slice(hu, spacing_mm, noise_place(hu, spacing_mm), series)
        (self._sources if role == "source" else self._targets).append(one)
        self._ranges[role].add(hu)
        self._limit_per_mm = min(self._limit_per_mm, 0.5 / max(spacing_mm))
        self._corner_per_mm = max(self._corner_per_mm, corner_frequency(spacing_mm))

    def solve(self) -> SpectralMatch:
        """The match of all slices.

        Raises:
            ValueError: a side has no slice that shows a patient; nothing tells the two protocols apart; or slices are too few.
        """
        limit, generator = self._limit_per_mm, np.random.default_rng(0)
        sources = [_measure(one, number=number) for number, one in enumerate(self._sources)]
        targets = [_measure(one, number=number) for number, one in enumerate(self._targets)]
        source, target = _join(sources, role="source"), _join(targets, role="target")
        first = self._match(_fit(source, target, limit, is_one_dose=True))
        matched = _join([self._measure_matched(number, first.kernel_match()) for number in range(len(sources))], role="source")
        resampled = [(_resample(matched, generator), _resample(target, generator)) for _ in range(NUM_BOOTSTRAPS)]
        factors = [_fit(*one, limit).log_noise_factor for one in resampled]
        free = _fit(matched, target, limit)
        is_one_dose = abs(free.log_noise_factor) < max(SAME_DOSE, 2 * float(np.std(factors)), 2 * free.structure_error)
        rest = _fit(matched, target, limit, is_one_dose=is_one_dose)
        draws = [first.coefficients + _fit(*one, limit, is_one_dose=is_one_dose).coefficients for one in resampled]
        match = self._match(rest._replace(coefficients=first.coefficients + rest.coefficients), draws)
        _check(match, num_slices=(len(sources), len(self._targets)))
        if not len(source.quiet) or not len(target.quiet):
            return match
        models = source.quiet.model(), target.quiet.model()
        gains, is_reduced = match.gain(models[0].frequencies_per_mm), free.noise_misfit > SHAPE_ERROR
        return replace(
            match,
            noise_match=None if is_one_dose else NoiseMatch.of(*models, gains, is_reduced=is_reduced),
            series_noise=SeriesNoise.of(*models, gains, is_reduced=is_reduced),
            noise_filters=self._fit_noise_filters(match, models[0]) if is_reduced else (),
        )

    def _fit_noise_filters(self, match: SpectralMatch, noise_model: NoiseModel) -> tuple[NoiseFilter, ...]:
        """Those that leave the source's noise of some targets seen through 1/h."""
        chosen = [self._targets[k] for k in np.unique(np.linspace(0, len(self._targets) - 1, NUM_REDUCED).round().astype(int))]
        inverse = match.inverse()
        images = [inverse(torch.from_numpy(one.hu), one.spacing_mm).numpy() for one in chosen]
        return fit_noise_filters(images, [one.spacing_mm for one in chosen], noise_model, max_per_mm=match.max_per_mm)

    def _match(self, fitted: "_Fitted", draws: Sequence[Float] = ()) -> SpectralMatch:
        return SpectralMatch(
            coefficients=fitted.coefficients,
            draws=np.array(draws),
            log_noise_factor=fitted.log_noise_factor,
            max_per_mm=self._limit_per_mm,
            corner_per_mm=self._corner_per_mm,
            source_range_hu=self._ranges["source"].range_hu,
            target_range_hu=self._ranges["target"].range_hu,
        )

    def _measure_matched(self, number: int, match: KernelMatch) -> tuple[WindowPower, NoiseWindows]:
        """Of a source slice as the first match makes it."""
        one = self._sources[number]
        matched = match(torch.from_numpy(one.hu), one.spacing_mm).round().numpy()
        return _measure(one._replace(hu=matched), number=number)


def _check(match: SpectralMatch, *, num_slices: tuple[int, int]) -> None:
    """ValueError where there is nothing to match, or where the match is too uncertain."""
    frequencies = np.linspace(CHECKED_PER_MM, CHECKED_SHARE * match.max_per_mm, NUM_CHECKED)
    spread = np.std([np.log(match.gain(frequencies, draw)) for draw in match.draws], axis=0)
    if (spread > LARGEST_ERROR).any():
        needed = [int(np.ceil(num * (spread.max() / LARGEST_ERROR) ** 2)) for num in num_slices]
        raise ValueError(
            f"{num_slices[0]} slices of the source and {num_slices[1]} of the target are too few for what they show: the filter "
            f"between the two is known to {100 * spread.max():.0f} %; some {needed[0]} and {needed[1]} are needed"
        )
    if match.log_noise_factor == 0.0:
        size = np.sqrt(np.mean(np.log(match.gain(frequencies)) ** 2))
        if size < max(LEAST_DIFFERENCE, 2 * np.sqrt(np.mean(spread**2))):
            raise ValueError("source and target cannot be told apart: their spectra differ by less than those of their slices do")


def _measure(one: _Slice, *, number: int) -> tuple[WindowPower, NoiseWindows]:
    return (
        window_power(one.hu, one.spacing_mm, place=one.place, series=one.series, number=number),
        noise.noise_windows(one.hu, one.spacing_mm, place=one.place, series=one.series, number=number),
    )


def _join(measured: Sequence[tuple[WindowPower, NoiseWindows]], *, role: str) -> _Powers:
    if not sum(len(windows) for windows, _ in measured):
        raise ValueError(f"a spectral match needs at least one slice of the {role} that shows a patient")
    return _Powers(WindowPower.join([one for one, _ in measured]), NoiseWindows.join([one for _, one in measured]).quiet)


class _Fitted(NamedTuple):
    """Coefficients (NUM_TERMS,), logarithm of the noise's factor, error of the structure's log ratio at one frequency, and by how
    much the noise's log ratio differs from it but for the factor."""

    coefficients: Float
    log_noise_factor: float
    structure_error: float
    noise_misfit: float = 0.0


class _Ratio(NamedTuple):
    """Logarithms of target over source power, each with its frequency and standard deviation (F,)."""

    frequencies_per_mm: Float
    log_ratio: Float
    error: Float


def _fit(source: _Powers, target: _Powers, limit_per_mm: float, *, is_one_dose: bool = False) -> _Fitted:
    """Least squares for the coefficients and the noise's factor, which is 1 at one dose.

    After noise reduction the noise has another shape than structure says: then it tells nothing of h.
    """
    noise_ratio, noises = _noise_ratio(source.quiet, target.quiet, limit_per_mm)
    structure = _structure_ratio(source.windows, target.windows, noises, limit_per_mm)
    alone = _solve(structure, noise_ratio._replace(error=noise_ratio.error * UNHEARD), limit_per_mm)
    misfit = _noise_misfit(alone, structure, noise_ratio, limit_per_mm)
    heard = noise_ratio._replace(error=noise_ratio.error * (1 + (misfit / SHAPE_ERROR) ** 2))
    return _solve(structure, heard, limit_per_mm, is_one_dose=is_one_dose)._replace(noise_misfit=misfit)


def _solve(structure: "_Ratio", noise_ratio: "_Ratio", limit_per_mm: float, *, is_one_dose: bool = False) -> _Fitted:
    terms = [_terms(one.frequencies_per_mm, limit_per_mm) for one in (structure, noise_ratio)]
    factor = np.concatenate([np.zeros(len(terms[0])), np.full(len(terms[1]), 0.0 if is_one_dose else 1.0)])
    widths = np.concatenate([np.full(len(terms[0]), RING_PER_MM), np.full(len(terms[1]), noise.RING_PER_MM)])
    root = np.sqrt(widths) / np.concatenate([structure.error, noise_ratio.error])
    design = np.column_stack([np.concatenate(terms), factor]) * root[:, None]
    values = np.concatenate([structure.log_ratio, noise_ratio.log_ratio]) * root
    roughness = np.column_stack([_third_derivative(limit_per_mm), np.zeros(NUM_ROUGHNESS)]) * SMOOTHNESS
    solution = np.linalg.lstsq(
        np.concatenate([design, roughness]), np.concatenate([values, np.zeros(NUM_ROUGHNESS)]), rcond=None
    )[0]
    above = structure.error[structure.frequencies_per_mm > LOW_PER_MM]
    return _Fitted(solution[:NUM_TERMS], float(solution[NUM_TERMS]), float(np.median(above)) if len(above) else LOW_ERROR)


def _noise_misfit(alone: _Fitted, structure: "_Ratio", noise_ratio: "_Ratio", limit_per_mm: float) -> float:
    """Root mean square of what the noise's log ratio differs from that of structure `alone`, but for a constant factor."""
    if not len(noise_ratio.log_ratio) or not len(structure.log_ratio):
        return 0.0
    away = noise_ratio.log_ratio - _terms(noise_ratio.frequencies_per_mm, limit_per_mm) @ alone.coefficients
    error = np.interp(noise_ratio.frequencies_per_mm, structure.frequencies_per_mm, structure.error)
    weights = 1 / (noise_ratio.error**2 + error**2)
    return float(np.sqrt(np.average((away - np.average(away, weights=weights)) ** 2, weights=weights)))


def _third_derivative(limit_per_mm: float) -> Float:
    """Of the terms (NUM_ROUGHNESS, NUM_TERMS), so that the sum of its squares is the integral from −f_max to f_max."""
    frequencies = np.linspace(-limit_per_mm, limit_per_mm, NUM_ROUGHNESS + 3)
    step = frequencies[1] - frequencies[0]
    return np.diff(_terms(np.abs(frequencies), limit_per_mm), n=3, axis=0) / step**3 * np.sqrt(step)


class _Noise(NamedTuple):
    """The noise of both protocols."""

    source: NoiseModel
    target: NoiseModel


def _noise_ratio(source: NoiseWindows, target: NoiseWindows, limit_per_mm: float) -> tuple[_Ratio, _Noise | None]:
    """At a place between those of both sides."""
    if not len(source) or not len(target):
        return _Ratio(np.empty(0), np.empty(0), np.empty(0)), None
    models = _Noise(source.model(), target.model())
    place = np.median(np.concatenate([source.place, target.place]), axis=0)
    num_rings = min(source.power.shape[1], target.power.shape[1])
    rings = np.arange(num_rings) * noise.RING_PER_MM
    rings = rings[(rings >= noise.NOISE_PER_MM) & (rings <= limit_per_mm)]
    error = NOISE_ERROR + MIXED_SLOPE * np.maximum(MIXED_PER_MM - rings, 0)
    return _Ratio(rings, np.log(models.target.at(rings, place) / models.source.at(rings, place)), error), models


def _structure_ratio(source: WindowPower, target: WindowPower, noises: _Noise | None, limit_per_mm: float) -> _Ratio:
    """Of the medians of each class, less their noise: the average over the classes with weights √(n_source n_target).

    The more of a class is noise, the less it counts. A class that is far from the others shows other anatomy on either side.
    """
    num_rings = min(source.power.shape[1], target.power.shape[1])
    rings = np.arange(num_rings) * RING_PER_MM
    ratios, weights, numbers = [], [], []
    for sides in _classes(source, target):
        levels, shares = [], []
        for side, model in zip(sides, noises or (None, None), strict=True):
            power = np.median(side.power[:, :num_rings], axis=0)
            own = 0.0 if model is None else model.at(rings, np.median(side.place, axis=0))
            levels.append(power - own)
            shares.append((power - own) / np.maximum(power, np.finfo(float).tiny))
        share = np.minimum(*shares)
        valid = np.isfinite(share) & (share > MIN_STRUCTURE)
        ratios.append(np.log(np.where(valid, levels[1], 1.0) / np.where(valid, levels[0], 1.0)))
        numbers.append(np.sqrt(len(sides[0]) * len(sides[1])))
        own_error = np.hypot(STRUCTURE_ERROR, NOISE_MODEL_ERROR * (1 / np.where(valid, share, 1.0) - 1))
        weights.append(np.where(valid, numbers[-1] / own_error**2, 0.0))
    ratio, weight = np.array(ratios), np.array(weights)
    used = (rings > 0) & (rings <= limit_per_mm) & (weight.sum(axis=0) > 0)
    ratio, weight = ratio[:, used], weight[:, used]
    away = ratio - _weighted_median(ratio, weight)
    agreeing = weight / (1 + (away / CLASS_SPREAD) ** 2)
    mean = (agreeing * ratio).sum(axis=0) / agreeing.sum(axis=0)
    spread = np.sqrt((weight * (ratio - mean) ** 2).sum(axis=0) / weight.sum(axis=0) / len(ratio))
    error = np.hypot(spread, np.sqrt(sum(numbers) / weight.sum(axis=0)))
    return _Ratio(rings[used], mean, np.where(rings[used] < LOW_PER_MM, np.maximum(error, LOW_ERROR), error))


def _weighted_median(values: Float, weights: Float) -> Float:
    """Over the first axis of values (C, R): the value at which half of the weight is reached."""
    order = np.argsort(values, axis=0)
    values, weights = np.take_along_axis(values, order, axis=0), np.take_along_axis(weights, order, axis=0)
    middle = (np.cumsum(weights, axis=0) >= weights.sum(axis=0) / 2).argmax(axis=0)
    return np.take_along_axis(values, middle[None], axis=0)[0]


def _classes(source: WindowPower, target: WindowPower) -> list[tuple[WindowPower, WindowPower]]:
    """The windows of source and target of each class that both have enough of."""
    sides = [(source[source.classes == number], target[target.classes == number]) for number in range(NUM_CLASSES)]
    return [one for one in sides if min(map(len, one)) >= MIN_WINDOWS] or [(source, target)]


def _terms(frequencies_per_mm: Float, limit_per_mm: float) -> Float:
    """(f/f_max)^{2k} (F, NUM_TERMS); beyond f_max as at f_max."""
    share = np.minimum(frequencies_per_mm / limit_per_mm, 1.0)
    return share[:, None] ** (2 * np.arange(1, NUM_TERMS + 1))


def _resample(powers: _Powers, generator: np.random.Generator) -> _Powers:
    """Windows of as many series, or of as many slices where there is one series, drawn with replacement."""
    by_series = len(np.unique(powers.windows.series)) > 1
    name = "series" if by_series else "slices"
    names = np.unique(getattr(powers.windows, name))
    if len(names) == 1:  # of a single slice, its windows
        return _Powers(_drawn(powers.windows, generator), _drawn(powers.quiet, generator))
    chosen = generator.choice(names, size=len(names))
    return _Powers(_of(powers.windows, name, chosen), _of(powers.quiet, name, chosen))


def _of(windows: Windows, name: str, chosen: NDArray[np.int64]) -> Windows:
    groups = getattr(windows, name)
    return windows[np.concatenate([np.flatnonzero(groups == one) for one in chosen])]


def _drawn(windows: Windows, generator: np.random.Generator) -> Windows:
    """As many of the windows, some of them several times."""
    return windows[generator.integers(len(windows), size=len(windows))] if len(windows) else windows
