"""`ltdiff calibrate`: fit residual noise, feature intervals and the choice of mean or sample on validation pairs.

model/calibration.json   the residual noise model, the distribution of every feature's error, and whether the mean or a sample
                         agrees better with the target; see model/residual_noise and uncertainty/intervals. No network was
                         trained on these pairs.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.data.slice_pairs import has_validation_pairs
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import Method
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import OUTPUTS, Output
from ltdiff.model.model_folder import CALIBRATION_FILE, read_calibration, read_description, write_calibration
from ltdiff.model.residual_model import RESIDUAL, ResidualModel
from ltdiff.model.residual_sampler import ResidualSampler
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.system.text import printable
from ltdiff.uncertainty.fit_residual import Made, fit_flow
from ltdiff.uncertainty.intervals import LEVEL, FeatureIntervals, coverage_table, fit_intervals
from ltdiff.uncertainty.series_noise_choice import choose_series_noise
from ltdiff.uncertainty.unpaired_choice import choose_output, measure_auc
from ltdiff.uncertainty.validation_ccc import ValidationRegions, overall

logger = logging.getLogger(__name__)

NUM_DRAWS = 16
_MATCH = InferenceConfig(output="match")
"""How a model is loaded that is calibrated: the calibration that it may have, and that may be damaged, plays no part."""
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
    match = Standardizer.load(model, _MATCH)
    if read_description(model)["about"].get("data_fingerprint") != data_fingerprint(manifest):
        logger.warning(
            "%s is not what the model was trained on, or split in another way: what validates here may have trained the model",
            printable(pairs),
        )
    intervals = _fit(match, manifest, model=model, num_workers=num_workers)
    if not (manifest["split"] == "test").any():
        return ""
    try:
        regions = ValidationRegions.read(manifest, split="test", num_workers=num_workers)
    except ValueError as error:
        logger.warning("the model is calibrated, and what its intervals cover is not measured: %s", error)
        return ""
    calibrated = Standardizer.load(model, InferenceConfig(output="mean"))
    value, *draws = regions.features(chain([regions.standardize(calibrated)], regions.samples(calibrated, num=NUM_DRAWS)))
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
        match = Standardizer.load(model, _MATCH, device=device)
        try:
            _fit(match, manifest, model=model, num_workers=num_workers)
        except ValueError as error:
            # Slices of air, or that cannot be read: training left them out, and must not fail by them.
            logger.warning("the model is not calibrated: %s", error)


def read_choice(model: Path) -> OutputChoice | None:
    """Read the choice of mean or sample from a model folder; None where the model is not calibrated."""
    if not (model / CALIBRATION_FILE).is_file():
        return None
    content = read_calibration(model)
    return OutputChoice(content["output"], content.get("validation_ccc", {}))


def _fit(match: Standardizer, manifest: pd.DataFrame, *, model: Path, num_workers: int) -> FeatureIntervals:
    torch.set_num_threads(1)  # as archives are standardized
    regions = ValidationRegions.read(manifest, num_workers=num_workers, make_source=match.model.degradation)
    made = Made.of(regions, match.used_otherwise(output="mean", residual=None))
    has_flow = "residual" in read_description(model)["about"].get("trained", {})
    sampler = fit_flow(made, match) if has_flow else ResidualSampler(ResidualModel(made.fit_noise(made.images)))
    value, *draws = regions.features(chain([made.means(sampler)], made.draws(sampler, num=NUM_DRAWS)))
    intervals = fit_intervals(PYRADIOMICS.features, draws=np.stack(draws), target=regions.target)
    (matched,) = regions.features([regions.standardize(match)])
    measured = {"mean": value, "sample": draws[0], "match": matched, EXPECTED: np.mean(draws[: Expectation.NUM_SAMPLES], axis=0)}
    choice = OutputChoice.of({output: regions.ccc_of(values) for output, values in measured.items()})
    if not manifest["pair_id"].notna().any():
        outputs: tuple[Output, ...] = ("mean", "sample")
        methods: dict[Output, Method] = {
            output: match.used_otherwise(output=output, residual=sampler.residual) for output in outputs
        }
        output = _choose_without_pairs({**methods, "match": match}, choice.ccc, manifest, num_workers=num_workers)
        choice = choice._replace(output=output)
    logger.info(
        "calibration: of images the %s agrees best with the target (CCC %s)",
        choice.output,
        ", ".join(f"{name} {overall(of_name):.3f}" for name, of_name in choice.ccc.items()),
    )
    content = {"output": choice.output, "validation_ccc": choice.ccc, "data_fingerprint": data_fingerprint(manifest)}
    content |= {RESIDUAL: asdict(sampler.residual), "intervals": asdict(intervals)}
    content |= choose_series_noise(model, manifest) if choice.output == "match" else {}
    write_calibration(model, content)
    return intervals


def _choose_without_pairs(
    methods: Mapping[Output, Method], made_ccc: Mapping[str, Mapping[str, float]], manifest: pd.DataFrame, *, num_workers: int
) -> Output:
    """By made pairs, and by real sources; `made_ccc` is that of each output by class of features."""
    try:
        auc = measure_auc(methods, manifest, num_workers=num_workers)
    except ValueError as error:
        logger.warning("the kernel match is used alone, for nothing tells whether the networks add to it: %s", error)
        return "match"
    told = ", ".join(f"{output} {found:.2f}" for output, found in auc.items())
    logger.info("real sources are told from the target with an AUC of: %s", told)
    return choose_output({output: overall(made_ccc[output]) for output in methods}, auc)
