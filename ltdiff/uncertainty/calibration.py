"""`ltdiff calibrate`: fit residual noise, feature intervals and the choice of mean or sample on validation pairs.

model/calibration.json   the residual noise model, the distribution of every feature's error, and whether the mean or a sample
                         agrees better with the target; see model/residual_noise, uncertainty/intervals and
                         uncertainty/mean_or_sample. No network was trained on these pairs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.manifest import LEFT_OUT, data_fingerprint, evenly_spaced_adjacent_pairs, read_manifest
from ltdiff.data.rois import random_rois
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ltdiff.evaluation.feature_values import feature_array
from ltdiff.evaluation.slice_correlation import find_neighbours
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import CALIBRATION_FILE, read_description, write_calibration
from ltdiff.model.residual_noise import ResidualNoiseModel, fit_residual_noise
from ltdiff.system.text import printable
from ltdiff.uncertainty.intervals import LEVEL, FeatureIntervals, coverage_table, fit_intervals
from ltdiff.uncertainty.mean_or_sample import choose_by_features

logger = logging.getLogger(__name__)

NUM_ROIS = 300
NUM_DRAWS = 16
MAX_PAIRS = 64
"""Of slices of a split, residual_noise in twos: the draws of all of them are held at a time, 17 MB for 512 × 512 pixels."""
ROI_SEED = 1
"""Not the seed of the regions that an evaluation scores."""


def calibrate(pairs: Path, *, model: Path, num_workers: int = 2) -> str:
    """Write `model`/calibration.json from the pairs of split `val`; return the coverage on split `test`, if any, as Markdown.

    Raises:
        ValueError: no model there, or no validation pair.
    """
    manifest = read_manifest(pairs)
    if not has_validation_pairs(manifest):
        raise ValueError(
            f"{printable(pairs)}: calibrating needs validation pairs, and there are none (see `ltdiff pair --split`)"
        )
    standardizer = Standardizer.load(model, InferenceConfig(output="mean"))
    if read_description(model)["about"].get("data_fingerprint") != data_fingerprint(manifest):
        logger.warning(
            "%s is not what the model was trained on, or split in another way: what validates here may have trained the model",
            printable(pairs),
        )
    residual_noise, intervals = _fit(standardizer, manifest, model=model, num_workers=num_workers)
    if not (manifest["split"] == "test").any():
        return ""
    try:
        held_out = _Seen(standardizer, manifest, "test", num_workers)
    except ValueError as error:
        logger.warning("the model is calibrated, and what its intervals cover is not measured: %s", error)
        return ""
    draws, target, value, _ = held_out.features(residual_noise)
    table = coverage_table(intervals, draws=draws, value=value, target=target)
    return (
        f"{LEVEL:.0%} intervals on {NUM_ROIS} random regions of the test pairs; widths and CRPS over the sd between regions:\n\n"
        f"{table.to_markdown(index=False, floatfmt='.3f')}"
    )


def calibrate_run(pairs: Path, *, model: Path, num_workers: int = 2) -> None:
    """Calibrate a model that was just trained, unless it is; where its validation pairs do not serve the log says why."""
    manifest = read_manifest(pairs)
    if (model / CALIBRATION_FILE).is_file():
        logger.info("calibration: done already")
    elif not has_validation_pairs(manifest):
        logger.warning("the model is not calibrated: %s has no validation pairs", printable(pairs))
    else:
        use_gpu = read_description(model)["about"]["settings"]["training"]["use_gpu"]
        device = None if use_gpu else torch.device("cpu")  # as it was trained
        standardizer = Standardizer.load(model, InferenceConfig(output="mean"), device=device)
        try:
            _fit(standardizer, manifest, model=model, num_workers=num_workers)
        except ValueError as error:
            # Slices of several sizes, or of air, or that cannot be read: training left them out, and must not fail by them.
            logger.warning("the model is not calibrated: %s", error)


def has_validation_pairs(manifest: pd.DataFrame) -> bool:
    """Whether the split `val` has any."""
    return bool(((manifest["split"] == "val") & manifest["pair_id"].notna()).any())


def _fit(
    standardizer: Standardizer, manifest: pd.DataFrame, *, model: Path, num_workers: int
) -> tuple[ResidualNoiseModel, FeatureIntervals]:
    torch.set_num_threads(1)  # as archives are standardized
    low, high = (float(value) for value in standardizer.model.kernel_match.range_hu)
    seen = _Seen(standardizer, manifest, "val", num_workers)
    test_set = seen.test_set
    residual_noise = fit_residual_noise(
        list(seen.standardized),
        list(test_set.target_hu),
        range_hu=(low, high),
        neighbours=find_neighbours(test_set.series, test_set.slice_numbers),
    )
    draws, target, value, features = seen.features(residual_noise)
    intervals = fit_intervals(features, draws=draws, target=target)
    choice = choose_by_features({"mean": value, "sample": draws[0]}, target=target, features=features)
    logger.info("calibration: the %s is better on the validation pairs", choice.output)
    content = {"output": choice.output, "validation_ccc": choice.ccc, "data_fingerprint": data_fingerprint(manifest)}
    content |= {"residual_noise": residual_noise.to_dict(), "intervals": asdict(intervals)}
    write_calibration(model, content)
    return residual_noise, intervals


class _Seen:
    """The slice pairs of a split with their standardized images and random regions."""

    def __init__(
        self, standardizer: Standardizer, manifest: pd.DataFrame, split: Literal["val", "test"], num_workers: int
    ) -> None:
        of_split = (manifest["split"] == split) & manifest["pair_id"].notna()
        sources = manifest[of_split & (manifest["role"] == "source")].sort_values(["series_uid", "z_mm"])
        seen = sources["pair_id"].iloc[evenly_spaced_adjacent_pairs(len(sources), at_most=MAX_PAIRS)]
        # the others stay in the manifest, which tells which slices are neighbours
        manifest = manifest.assign(split=manifest["split"].mask(of_split & ~manifest["pair_id"].isin(seen), LEFT_OUT))
        config = EvaluationConfig(split=split, num_rois=1, num_workers=num_workers)
        self.test_set: EvaluationSet = read_evaluation_set(manifest, config=config)
        self.num_workers = num_workers
        self.standardized = self.test_set.standardize(split, standardizer)
        self.rois = random_rois(self.test_set.target_hu, num_rois=NUM_ROIS, seed=ROI_SEED)

    def features(
        self, residual_noise: ResidualNoiseModel
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[str, ...]]:
        """Of draws (N, rois, features), of the target and of A' (rois, features), and their names."""
        numbers = self.test_set.slice_numbers.tolist()
        volumes = [self.test_set.target_hu, *draw_volumes(self.standardized, residual_noise, numbers=numbers)]
        values, names = feature_array(
            volumes,
            rois=self.rois,
            spacing_mm=self.test_set.spacings_mm,
            num_workers=self.num_workers,
            progress=True,
        )
        return values[2:], values[0], values[1], names


def draw_volumes(
    standardized: NDArray[np.float32], residual_noise: ResidualNoiseModel, *, numbers: Sequence[int]
) -> list[NDArray[np.float32]]:
    """A' (Z, Y, X) itself and NUM_DRAWS draws; the noise of a slice is a function of its number and the draw's."""
    draws = [
        np.stack([residual_noise.draw(hu, seed=k, number=z) for hu, z in zip(standardized, numbers, strict=True)])
        for k in range(NUM_DRAWS)
    ]
    return [standardized, *draws]
