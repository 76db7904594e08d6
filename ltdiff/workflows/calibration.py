"""`ltdiff calibrate` and `ltdiff uncertainty`: how far a standardized image, and each radiomic feature of it, can be trusted.

model/spread.json   what is left over, as a model, the distribution of every feature's error, and whether the mean or a sample
                    agrees better with the target; see inference/spread, evaluation/intervals and evaluation/output_choice.
                    Made from validation pairs, which no network was trained on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.formats import write_volume
from ltdiff.data.manifest import LEFT_OUT, data_fingerprint, read_manifest, spread_in_twos
from ltdiff.data.masks import read_named_masks
from ltdiff.data.rois import MIN_LESION_PIXELS, Roi, mask_rois, random_rois
from ltdiff.data.scan import Scan, read_scan
from ltdiff.data.traits import series_traits, volume_traits
from ltdiff.dicom.faults import printable
from ltdiff.durable import replace_file, write_text
from ltdiff.evaluation.intervals import LEVEL, FeatureIntervals, coverage_table, fit_intervals
from ltdiff.evaluation.output_choice import choose_by_features
from ltdiff.evaluation.scoring import feature_array
from ltdiff.evaluation.slice_correlation import find_neighbours
from ltdiff.evaluation.test_set import EvaluationConfig, TestSet, read_test_set, standardize_slices
from ltdiff.inference.recipe import read_scope
from ltdiff.inference.spread import SPREAD_FILE, Spread, fit_spread, read_spread
from ltdiff.inference.standardizer import InferenceConfig, Standardizer
from ltdiff.model.ltdiff import read_description
from ltdiff.model.sums import drop_sum

logger = logging.getLogger(__name__)

NUM_ROIS = 300
NUM_DRAWS = 16
MAX_PAIRS = 64
"""Of slices of a split, spread in twos: the draws of all of them are held at a time, 17 MB for 512 × 512 pixels."""
MAP_FILE, FEATURES_FILE = "sd.nii.gz", "features.csv"
ROI_SEED = 1
"""Not the seed of the regions that an evaluation scores."""


def calibrate(pairs: Path, *, model: Path, num_workers: int = 2) -> str:
    """Write `model`/spread.json from the pairs of split `val`; the coverage on those of `test`, if there are any, as Markdown.

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
    spread, intervals = _fit(standardizer, manifest, model=model, num_workers=num_workers)
    if not (manifest["split"] == "test").any():
        return ""
    try:
        held_out = _Seen(standardizer, manifest, "test", num_workers)
    except ValueError as error:
        logger.warning("the model is calibrated, and what its intervals cover is not measured: %s", error)
        return ""
    draws, target, value, _ = held_out.features(spread)
    table = coverage_table(intervals, draws=draws, value=value, target=target)
    return (
        f"{LEVEL:.0%} intervals on {NUM_ROIS} random regions of the test pairs; widths and CRPS over the sd between regions:\n\n"
        f"{table.to_markdown(index=False, floatfmt='.3f')}"
    )


def calibrate_run(pairs: Path, *, model: Path, num_workers: int = 2) -> None:
    """Calibrate a model that was just trained, unless it is; where its validation pairs do not serve the log says why."""
    manifest = read_manifest(pairs)
    if (model / SPREAD_FILE).is_file():
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
) -> tuple[Spread, FeatureIntervals]:
    torch.set_num_threads(1)  # as archives are standardized
    low, high = (float(value) for value in standardizer.model.kernel_match.range_hu)
    seen = _Seen(standardizer, manifest, "val", num_workers)
    test_set = seen.test_set
    spread = fit_spread(
        list(seen.standardized),
        list(test_set.target_hu),
        range_hu=(low, high),
        neighbours=find_neighbours(test_set.series, test_set.slice_numbers),
    )
    draws, target, value, features = seen.features(spread)
    intervals = fit_intervals(features, draws=draws, target=target)
    choice = choose_by_features({"mean": value, "sample": draws[0]}, target=target, features=features)
    logger.info("calibration: the %s is better on the validation pairs", choice.output)
    content = {"output": choice.output, "validation_ccc": choice.ccc, "data_fingerprint": data_fingerprint(manifest)}
    content |= {"spread": spread.to_dict(), "intervals": asdict(intervals)}
    drop_sum(model, SPREAD_FILE)
    write_text(model / SPREAD_FILE, json.dumps(content) + "\n")
    return spread, intervals


def measure_uncertainty(
    series: Path, *, model: Path, out: Path, mask: Path | None = None, num_workers: int = 2, force: bool = False
) -> None:
    """Write out/sd.nii.gz and, with a `mask`, out/features.csv for a DICOM series or a volume file.

    The first is the standard deviation of B − A' in HU for every voxel; the second has one row per region of the mask (slice and
    label) and feature: its value on A', the interval of the target's, and, where `force` let it through, what of the series is
    `outside` what the model was trained for.

    Raises:
        ValueError: the model is not calibrated, or not for this series; the series or the mask cannot be read, or do not belong
            together.
    """
    torch.set_num_threads(1)
    standardizer = Standardizer.load(model, InferenceConfig(output="mean"))
    spread, intervals = read_spread(model), _read_intervals(model)
    source = read_scan(series)
    outside = _check_scope(source, model, name=printable(series), force=force)
    rois = _read_rois(mask, source) if mask else []
    spacing_mm = source.volume.spacing_mm[1:]
    hu = source.volume.hu
    standardized = standardize_slices(
        standardizer,
        hu,
        np.broadcast_to(np.array(spacing_mm), (len(hu), 2)),
        numbers=range(len(hu)),
        num_workers=num_workers,
        name="standardize",
    )
    out.mkdir(parents=True, exist_ok=True)
    write_volume(replace(source.volume, hu=np.stack([spread.sigma(hu) for hu in standardized])), out / MAP_FILE)
    (out / FEATURES_FILE).unlink(missing_ok=True)  # of an earlier series
    if rois:
        table = _interval_table(standardized, rois, spread, intervals, spacing_mm=spacing_mm, num_workers=num_workers)
        replace_file(out / FEATURES_FILE, partial(table.assign(outside=outside).to_csv, index=False))


def _interval_table(
    standardized: NDArray[np.float32],
    rois: Sequence[Roi],
    spread: Spread,
    intervals: FeatureIntervals,
    *,
    spacing_mm: tuple[float, float],
    num_workers: int,
) -> pd.DataFrame:
    rois = sorted(rois, key=lambda roi: roi.slice_index)
    chosen = sorted({roi.slice_index for roi in rois})
    parts = []
    for first in range(0, len(chosen), MAX_PAIRS):  # a mask may touch hundreds of slices
        slices = chosen[first : first + MAX_PAIRS]
        volumes = _draw_volumes(standardized[slices], spread, numbers=slices)
        moved = [replace(roi, slice_index=slices.index(roi.slice_index)) for roi in rois if roi.slice_index in slices]
        part, features = feature_array(
            volumes, rois=moved, spacing_mm=spacing_mm, num_workers=num_workers, progress=True
        )
        if features != intervals.features:
            raise ValueError("the model was calibrated for other features: run `ltdiff calibrate` again")
        parts.append(part)
    values = np.concatenate(parts, axis=1)
    low, high = intervals.interval(values[1:])
    keys = pd.DataFrame([(roi.slice_index, roi.label) for roi in rois], columns=["slice_index", "label"])
    tables = [
        keys.assign(feature=name, value=values[0, :, i], low=low[:, i], high=high[:, i])
        for i, name in enumerate(intervals.features)
    ]
    return pd.concat(tables, ignore_index=True)


class _Seen:
    """The slice pairs of a split with their standardized images and random regions."""

    def __init__(
        self, standardizer: Standardizer, manifest: pd.DataFrame, split: Literal["val", "test"], num_workers: int
    ) -> None:
        of_split = (manifest["split"] == split) & manifest["pair_id"].notna()
        sources = manifest[of_split & (manifest["role"] == "source")].sort_values(["series_uid", "z_mm"])
        seen = sources["pair_id"].iloc[spread_in_twos(len(sources), at_most=MAX_PAIRS)]
        # the others stay in the manifest, which tells which slices are neighbours
        manifest = manifest.assign(split=manifest["split"].mask(of_split & ~manifest["pair_id"].isin(seen), LEFT_OUT))
        config = EvaluationConfig(split=split, num_rois=1, num_workers=num_workers)
        self.test_set: TestSet = read_test_set(manifest, config=config)
        self.num_workers = num_workers
        self.standardized = self.test_set.standardize(split, standardizer)
        self.rois = random_rois(self.test_set.target_hu, num_rois=NUM_ROIS, seed=ROI_SEED)

    def features(self, spread: Spread) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[str, ...]]:
        """Of draws (N, rois, features), of the target and of A' (rois, features), and their names."""
        numbers = self.test_set.slice_numbers.tolist()
        volumes = [self.test_set.target_hu, *_draw_volumes(self.standardized, spread, numbers=numbers)]
        values, names = feature_array(
            volumes,
            rois=self.rois,
            spacing_mm=self.test_set.spacings_mm,
            num_workers=self.num_workers,
            progress=True,
        )
        return values[2:], values[0], values[1], names


def _draw_volumes(
    standardized: NDArray[np.float32], spread: Spread, *, numbers: Sequence[int]
) -> list[NDArray[np.float32]]:
    """A' (Z, Y, X) itself and NUM_DRAWS draws; the noise of a slice is a function of its number and the draw's."""
    draws = [
        np.stack([spread.draw(hu, seed=k, number=z) for hu, z in zip(standardized, numbers, strict=True)])
        for k in range(NUM_DRAWS)
    ]
    return [standardized, *draws]


def _check_scope(source: Scan, model: Path, *, name: str, force: bool) -> str:
    """What of the source the model was not trained for: refused, or forced and returned."""
    scope = read_scope(model)
    if source.series is None:  # a volume file tells neither kernel nor manufacturer
        objections = scope.range_objections(volume_traits(source.volume))
    else:
        traits = series_traits(source.series)
        objections = scope.identity_objections(traits) + scope.range_objections(traits)
    outside = "; ".join(objections)
    if outside and not force:
        raise ValueError(
            f"{name} is outside what the model was trained and calibrated for: {outside}; "
            "--force true measures it nevertheless"
        )
    if outside:
        logger.warning("%s is measured nevertheless, outside what the model was calibrated for: %s", name, outside)
    return outside


def _read_rois(mask: Path, source: Scan) -> list[Roi]:
    """The cross-sections of every region of the mask."""
    rois = [
        replace(roi, label=name)
        for name, voxels in read_named_masks(mask, source).items()
        for roi in mask_rois(voxels.astype(np.uint8), roi_set="mask")
    ]
    if not rois:
        raise ValueError(f"{printable(mask)}: no region has {MIN_LESION_PIXELS} pixels or more in a slice")
    return rois


def _read_intervals(model: Path) -> FeatureIntervals:
    return FeatureIntervals.from_dict(json.loads((model / SPREAD_FILE).read_text())["intervals"])
