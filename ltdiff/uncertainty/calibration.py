"""`ltdiff calibrate`: fit residual noise, feature intervals and the choice of mean or sample on validation pairs.

model/calibration.json   the residual noise model, the distribution of every feature's error, and whether the mean or a sample
                         agrees better with the target; see model/residual_noise and uncertainty/intervals. No network was
                         trained on these pairs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from typing_extensions import override

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.data.slice_pairs import ValidationPair, find_neighbours, has_validation_pairs, read_validation_pairs
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import Method, Slices
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import OUTPUTS, Output
from ltdiff.model.model_folder import CALIBRATION_FILE, read_calibration, read_description, write_calibration
from ltdiff.model.residual_noise import ResidualNoiseModel, fit_flow_gain, fit_residual_noise
from ltdiff.model.residual_sampler import ResidualSampler
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.system.text import printable
from ltdiff.uncertainty.intervals import LEVEL, FeatureIntervals, coverage_table, fit_intervals
from ltdiff.uncertainty.unpaired_choice import choose_output, radiomic_distances
from ltdiff.uncertainty.validation_ccc import Image, ValidationRegions, overall

logger = logging.getLogger(__name__)

NUM_DRAWS = 16
EXPECTED = "expected"
"""Beside the outputs: the expectation of features over samples (`Expectation`), which no image has."""


class OutputChoice(NamedTuple):
    """Mean, sample or kernel match, whichever agrees best with the target by radiomic features, and the CCC of each by class.

    A mean lacks the part of the target's noise that is not in the source. Where that is little, a draw of it only adds error;
    where it is most, as after noise reduction, features of a mean are far off and those of a sample are not. Where the networks
    add nothing to the kernel match, it is taken alone.
    """

    output: Output
    ccc: dict[str, dict[str, float]]

    @classmethod
    def of(cls, ccc: dict[str, dict[str, float]]) -> "OutputChoice":
        """Choose the output with the highest CCC over all classes; of equal ones the first in OUTPUTS."""
        return cls(max((output for output in OUTPUTS if output in ccc), key=lambda output: overall(ccc[output])), ccc)

    @property
    def for_features(self) -> str:
        """What agrees best with the target where features alone are wanted: an output, or EXPECTED.

        Where an output was chosen without pairs, made pairs tell only whether the expectation is better than a sample.
        """
        best = max(self.ccc, key=lambda name: overall(self.ccc[name]), default=self.output)
        return best if best == EXPECTED and self.output != "match" else self.output


class Sampled(Method):
    """A method that draws Gaussian noise around the image of another; the noise of a slice is a function of its number."""

    def __init__(self, method: Method, residual_noise: ResidualNoiseModel) -> None:
        self.method, self.residual_noise = method, residual_noise

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        means = self.method.standardize(hu, spacing_mm, first_slice=first_slice)
        return np.stack([self.residual_noise.draw(mean, seed=0, number=first_slice + i) for i, mean in enumerate(means)])


def calibrate(pairs: Path, *, model: Path, num_workers: int = 2) -> str:
    """Write `model`/calibration.json from the pairs of split `val`; return the coverage on split `test`, if any, as Markdown.

    Where the manifest has no pairs at all, sources are made for its targets, as they were in the model's training.

    Raises:
        ValueError: no model there, or no validation pair.
    """
    manifest = read_manifest(pairs)
    if not has_validation_pairs(manifest) and manifest["pair_id"].notna().any():
        raise ValueError(
            f"{printable(pairs)}: calibrating needs validation pairs, and there are none (see `ltdiff pair --split`)"
        )
    standardizer = Standardizer.load(model, InferenceConfig(output="mean"))
    if read_description(model)["about"].get("data_fingerprint") != data_fingerprint(manifest):
        logger.warning(
            "%s is not what the model was trained on, or split in another way: what validates here may have trained the model",
            printable(pairs),
        )
    sampler, intervals = _fit(standardizer, manifest, model=model, num_workers=num_workers)
    if not (manifest["split"] == "test").any():
        return ""
    try:
        regions = ValidationRegions.read(manifest, split="test", num_workers=num_workers)
    except ValueError as error:
        logger.warning("the model is calibrated, and what its intervals cover is not measured: %s", error)
        return ""
    value, *draws = _measure(regions, regions.standardize(standardizer), sampler)
    table = coverage_table(intervals, draws=np.stack(draws), value=value, target=regions.target)
    return (
        f"{LEVEL:.0%} intervals on {len(regions)} random regions of the test pairs; widths and CRPS over the sd between "
        f"regions:\n\n{table.to_markdown(index=False, floatfmt='.3f')}"
    )


def calibrate_run(manifest: pd.DataFrame, *, model: Path, num_workers: int = 2) -> None:
    """Calibrate a model that was just trained, unless it is; where its validation pairs do not serve the log says why."""
    if (model / CALIBRATION_FILE).is_file():
        logger.info("calibration: done already")
    elif not has_validation_pairs(manifest) and manifest["pair_id"].notna().any():
        logger.warning("the model is not calibrated: there are no validation pairs")
    else:
        use_gpu = read_description(model)["about"]["settings"]["training"]["use_gpu"]
        device = None if use_gpu else torch.device("cpu")  # as it was trained
        standardizer = Standardizer.load(model, InferenceConfig(output="mean"), device=device)
        try:
            _fit(standardizer, manifest, model=model, num_workers=num_workers)
        except ValueError as error:
            # Slices of air, or that cannot be read: training left them out, and must not fail by them.
            logger.warning("the model is not calibrated: %s", error)


def read_choice(model: Path) -> OutputChoice | None:
    """Read the choice of mean or sample from a model folder; None where the model is not calibrated."""
    if not (model / CALIBRATION_FILE).is_file():
        return None
    content = read_calibration(model)
    return OutputChoice(content["output"], content.get("validation_ccc", {}))


def fit_sampled(method: Method, manifest: pd.DataFrame, *, range_hu: tuple[float, float]) -> Sampled:
    """Make a sampling method of a fitted one, with its residual noise on the pairs on which models are calibrated.

    Raises:
        ValueError: there are no such pairs.
    """
    pairs = read_validation_pairs(manifest, purpose="the residual noise")
    means = [method.standardize(pair.source_hu[None], pair.spacing_mm, first_slice=pair.place[1])[0] for pair in pairs]
    return Sampled(method, _fit_noise(pairs, means, range_hu=range_hu))


def _fit(
    standardizer: Standardizer, manifest: pd.DataFrame, *, model: Path, num_workers: int
) -> tuple[ResidualSampler, FeatureIntervals]:
    torch.set_num_threads(1)  # as archives are standardized
    low, high = (float(value) for value in standardizer.model.kernel_match.range_hu)
    regions = ValidationRegions.read(manifest, num_workers=num_workers, make_source=standardizer.model.degradation)
    means = regions.standardize(standardizer)
    noise = _fit_noise(regions.pairs, means, range_hu=(low, high))
    has_flow = "residual" in read_description(model)["about"].get("trained", {})
    sampler = _fit_flow(noise, standardizer, regions, means) if has_flow else ResidualSampler(noise)
    value, *draws = _measure(regions, means, sampler)
    intervals = fit_intervals(PYRADIOMICS.features, draws=np.stack(draws), target=regions.target)
    match = Standardizer(standardizer.model, Procedure.read(model, InferenceConfig(output="match")), device=standardizer.device)
    (matched,) = regions.features([regions.standardize(match)])
    measured = {"mean": value, "sample": draws[0], "match": matched, EXPECTED: np.mean(draws[: Expectation.NUM_SAMPLES], axis=0)}
    choice = OutputChoice.of({output: regions.ccc_of(values) for output, values in measured.items()})
    if not manifest["pair_id"].notna().any():
        methods: dict[Output, Method] = {"mean": standardizer, "sample": _sampling(standardizer, sampler.noise), "match": match}
        choice = choice._replace(output=_choose_without_pairs(methods, manifest, num_workers=num_workers))
    logger.info(
        "calibration: of images the %s agrees best with the target (CCC %s)",
        choice.output,
        ", ".join(f"{name} {overall(of_name):.3f}" for name, of_name in choice.ccc.items()),
    )
    content = {"output": choice.output, "validation_ccc": choice.ccc, "data_fingerprint": data_fingerprint(manifest)}
    content |= {"residual_noise": asdict(sampler.noise), "intervals": asdict(intervals)}
    write_calibration(model, content)
    return sampler, intervals


def _fit_flow(
    noise: ResidualNoiseModel, standardizer: Standardizer, regions: ValidationRegions, means: Sequence[Image]
) -> ResidualSampler:
    """The sampler of the model's flow, or of Gaussian noise alone where its features agree better with the targets'."""
    model, precision = standardizer.model, standardizer.precision
    flow = ResidualSampler(noise, model, precision)
    residuals, drawn = [], []
    for pair, mean in zip(regions.pairs, means, strict=True):
        matched = flow.match(pair.source_hu, pair.spacing_mm)
        whitened = flow.draw_whitened(mean, matched, seed=0, number=pair.place[1])
        is_open = ~noise.is_clipped(mean)
        residuals.append((is_open * (pair.target_hu - mean) / noise.whitening(mean))[:, pair.columns])
        drawn.append((is_open * whitened)[:, pair.columns])
    flow = ResidualSampler(replace(noise, flow_gain=fit_flow_gain(residuals, drawn)), model, precision)
    samplers = {"flow": flow, "noise": ResidualSampler(noise)}
    features = regions.features(images for each in samplers.values() for images in _draw(regions, means, each, num=1))
    scores = {name: overall(regions.ccc_of(values)) for name, values in zip(samplers, features, strict=True)}
    logger.info(
        "calibration: samples of the residual's %s", ", ".join(f"{name} CCC {score:.3f}" for name, score in scores.items())
    )
    return samplers[max(scores, key=lambda name: scores[name])]


def _sampling(standardizer: Standardizer, noise: ResidualNoiseModel) -> Standardizer:
    procedure = replace(standardizer.procedure, residual_noise=noise)
    return Standardizer(standardizer.model, procedure, device=standardizer.device)


def _choose_without_pairs(methods: Mapping[Output, Method], manifest: pd.DataFrame, *, num_workers: int) -> Output:
    """On real sources: made ones are what the networks were trained on, and say nothing of what they do to others."""
    try:
        distances = radiomic_distances(methods, manifest, num_workers=num_workers)
    except ValueError as error:
        logger.warning("the kernel match is used alone, for nothing tells whether the networks add to it: %s", error)
        return "match"
    logger.info("radiomic distance to the target: %s", ", ".join(f"{output} {found:.2f}" for output, found in distances.items()))
    return choose_output(distances)


def _fit_noise(pairs: Sequence[ValidationPair], means: Sequence[Image], *, range_hu: tuple[float, float]) -> ResidualNoiseModel:
    return fit_residual_noise(
        [mean[:, pair.columns] for mean, pair in zip(means, pairs, strict=True)],
        [pair.target_hu[:, pair.columns] for pair in pairs],
        range_hu=range_hu,
        neighbours=find_neighbours(pair.place for pair in pairs),
    )


def _measure(regions: ValidationRegions, means: Sequence[Image], sampler: ResidualSampler) -> NDArray[np.float64]:
    """Measure the features (1 + NUM_DRAWS, regions, features) of A' and of its draws."""
    return regions.features(chain([means], _draw(regions, means, sampler, num=NUM_DRAWS)))


def _draw(regions: ValidationRegions, means: Sequence[Image], sampler: ResidualSampler, *, num: int) -> Iterator[list[Image]]:
    sources, spacings_mm, numbers = zip(
        *((pair.source_hu, pair.spacing_mm, pair.place[1]) for pair in regions.pairs), strict=True
    )
    return sampler.draws(means, sources, spacings_mm, numbers=numbers, num=num, num_workers=regions.num_workers)
