"""Fitting what is known of B − A' to validation pairs: its noise, and what the residual flow of a model is good for."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from typing_extensions import override

from ltdiff.data.slice_pairs import ValidationPair, find_neighbours, read_validation_pairs
from ltdiff.inference.method import LinearMatch, Method, SamplingMethod, Slices
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.residual_model import FlowUse, ResidualModel
from ltdiff.model.residual_noise import ResidualNoiseModel, fit_flow_gain, fit_mean_gain, fit_residual_noise
from ltdiff.model.residual_sampler import ResidualSampler
from ltdiff.uncertainty.validation_ccc import Image, ValidationRegions, overall

logger = logging.getLogger(__name__)


class Sampled(SamplingMethod):
    """A method that draws Gaussian noise around the image of another; the noise of a slice is a function of its number."""

    def __init__(self, method: Method, residual_noise: ResidualNoiseModel) -> None:
        self.method, self.sampler = method, ResidualSampler(ResidualModel(residual_noise))

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        means = self.method.standardize(hu, spacing_mm, first_slice=first_slice)
        return np.stack([self.sampler.draw(mean, mean, seed=0, number=first_slice + i) for i, mean in enumerate(means)])

    @override
    def samples(
        self,
        slices_hu: Sequence[Slices] | Slices,
        spacings_mm: Iterable[Sequence[float]],
        *,
        numbers: Sequence[int],
        num: int,
        num_workers: int = 1,
    ) -> Iterator[list[Slices]]:
        means = standardize_slices(self.method, slices_hu, spacings_mm, numbers=numbers, num_workers=num_workers)
        yield from self.sampler.draws(means, means, numbers=numbers, num=num, num_workers=num_workers)


def fit_sampled(method: Method, manifest: pd.DataFrame, *, range_hu: tuple[float, float]) -> Sampled:
    """Make a sampling method of a fitted one, with its residual noise on the pairs on which models are calibrated.

    Raises:
        ValueError: there are no such pairs.
    """
    pairs = read_validation_pairs(manifest, purpose="the residual noise")
    means = [method.standardize(pair.source_hu[None], pair.spacing_mm, first_slice=pair.place[1])[0] for pair in pairs]
    return Sampled(method, _fit_noise(pairs, means, range_hu=range_hu))


class Made(NamedTuple):
    """What the networks, and the kernel match, make of the sources of validation pairs: images A' and Ã, (Y, X) in whole HU."""

    regions: ValidationRegions
    images: list[Image]
    matched: list[Image]
    range_hu: tuple[float, float]

    @classmethod
    def of(cls, regions: ValidationRegions, networks: Standardizer) -> "Made":
        """Standardize all sources with the networks alone."""
        low, high = (float(value) for value in networks.model.kernel_match.range_hu)
        matched = regions.standardize(LinearMatch(networks.model.kernel_match))
        return cls(regions, regions.standardize(networks), matched, (low, high))

    def fit_noise(self, images: Sequence[Image]) -> ResidualNoiseModel:
        """Fit the residual noise of the targets round images of theirs."""
        return _fit_noise(self.regions.pairs, images, range_hu=self.range_hu)

    def means(self, sampler: ResidualSampler) -> list[Image]:
        """Give the mean of what each target may be."""
        with ThreadPoolExecutor(self.regions.num_workers) as pool:
            return list(pool.map(sampler.mean, self.images, self.matched))

    def draws(self, sampler: ResidualSampler, *, num: int) -> Iterator[list[Image]]:
        """Draw `num` sets of what the targets may be."""
        numbers = [pair.place[1] for pair in self.regions.pairs]
        return sampler.draws(self.images, self.matched, numbers=numbers, num=num, num_workers=self.regions.num_workers)


def fit_flow(made: Made, standardizer: Standardizer) -> ResidualSampler:
    """What the model's flow is good for: its mean, where features of A' agree better with the targets' with it; its draws, where
    theirs do than those of Gaussian noise.
    """
    pairs, noise = made.regions.pairs, made.fit_noise(made.images)
    trial = ResidualSampler(ResidualModel(noise, FlowUse(noise)), standardizer.model, standardizer.precision)
    residuals: list[Image] = []
    expected: list[Image] = []
    drawn: list[Image] = []
    for pair, image, matched in zip(pairs, made.images, made.matched, strict=True):
        is_open, sigma = ~noise.is_clipped(image), noise.whitening(image)
        of_flow = trial.expect_whitened(image, matched), trial.draw_whitened(image, matched, seed=0, number=pair.place[1])
        found = ((pair.target_hu - image) / sigma, *of_flow)
        for values, all_values in zip(found, (residuals, expected, drawn), strict=True):
            all_values.append((is_open * values)[:, pair.columns])
    uses = [FlowUse(noise), FlowUse(noise, fit_mean_gain(residuals, expected))]
    means = [made.means(replace(trial, residual=ResidualModel(noise, use))) for use in uses]
    of_means = [overall(made.regions.ccc_of(values)) for values in made.regions.features(means)]
    logger.info("calibration: the networks' mean CCC %.3f, with that of the flow %.3f", *of_means)
    best = int(np.argmax(of_means))
    mean_noise = made.fit_noise(means[best]) if uses[best].mean_gain else noise
    gains: dict[str, tuple[float, ...]] = {"flow": fit_flow_gain(residuals, drawn), "noise": ()}
    samplers = {
        name: replace(trial, residual=ResidualModel(mean_noise, replace(uses[best], gain=gain))) for name, gain in gains.items()
    }
    features = made.regions.features(images for each in samplers.values() for images in made.draws(each, num=1))
    scores = {name: overall(made.regions.ccc_of(values)) for name, values in zip(samplers, features, strict=True)}
    logger.info(
        "calibration: samples of the residual's %s", ", ".join(f"{name} CCC {score:.3f}" for name, score in scores.items())
    )
    return samplers[max(scores, key=lambda name: scores[name])]


def _fit_noise(pairs: Sequence[ValidationPair], means: Sequence[Image], *, range_hu: tuple[float, float]) -> ResidualNoiseModel:
    return fit_residual_noise(
        [mean[:, pair.columns] for mean, pair in zip(means, pairs, strict=True)],
        [pair.target_hu[:, pair.columns] for pair in pairs],
        range_hu=range_hu,
        neighbours=find_neighbours(pair.place for pair in pairs),
    )
