"""`ltdiff uncertainty`: how far a standardized image, and each radiomic feature of it, can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.acquisition import AcquisitionInfo
from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.data.rois import MIN_LESION_PIXELS, Roi, mask_rois
from ltdiff.data.volume_files import write_volume
from ltdiff.evaluation.feature_values import feature_array
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import check_domain, read_training_domain
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import read_calibration
from ltdiff.model.residual_model import require_residual_model
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.text import printable
from ltdiff.uncertainty.calibration import NUM_DRAWS
from ltdiff.uncertainty.intervals import FeatureIntervals

SLICES_AT_A_TIME = 64
"""Slices whose draws are in memory together: a mask may touch hundreds."""
MAP_FILE, FEATURES_FILE = "sd.nii.gz", "features.csv"


def measure_uncertainty(
    series: Path, *, model: Path, out: Path, mask: Path | None = None, num_workers: int = 2, force: bool = False
) -> None:
    """Write out/sd.nii.gz and, with a `mask`, out/features.csv for a DICOM series or a volume file.

    The first is the standard deviation of B − A' in HU for every voxel; the second has one row per region of the mask (slice and
    label) and feature: its value on A', the interval of the target's, and, where `force` let it through, what of the series is
    `out_of_domain` what the model was trained for.

    Raises:
        ValueError: the model is not calibrated, or not for this series; the series or the mask cannot be read, or do not belong
            together.
    """
    torch.set_num_threads(1)
    standardizer = Standardizer.load(model, InferenceConfig(output="mean"))
    noise = require_residual_model(model).noise
    intervals = FeatureIntervals.from_dict(read_calibration(model)["intervals"])
    source, domain = read_scan(series), read_training_domain(model)
    acquisition = AcquisitionInfo.of(source)
    out_of_domain = check_domain(acquisition, domain, name=printable(series), verb="measure", force=force)
    volume = source.read_volume()
    rois = _find_rois(read_named_masks(mask, source, hu=volume.hu), mask) if mask else []
    spacing_mm, hu = source.spacing_mm, volume.hu
    numbers = range(len(hu))
    standardized = np.stack(standardize_slices(standardizer, hu, repeat(spacing_mm), numbers=numbers, num_workers=num_workers))
    out.mkdir(parents=True, exist_ok=True)
    write_volume(replace(volume, hu=np.stack([noise.sigma(hu) for hu in standardized])), out / MAP_FILE)
    (out / FEATURES_FILE).unlink(missing_ok=True)  # of an earlier series
    if rois:
        table = _interval_table(hu, standardized, rois, standardizer, intervals, spacing_mm=spacing_mm, num_workers=num_workers)
        replace_file(out / FEATURES_FILE, partial(table.assign(out_of_domain=out_of_domain).to_csv, index=False))


def _interval_table(
    hu: NDArray[np.float32],
    standardized: NDArray[np.float32],
    rois: Sequence[Roi],
    standardizer: Standardizer,
    intervals: FeatureIntervals,
    *,
    spacing_mm: tuple[float, float],
    num_workers: int,
) -> pd.DataFrame:
    rois = sorted(rois, key=lambda roi: roi.slice_index)
    chosen = sorted({roi.slice_index for roi in rois})
    parts = []
    for first in range(0, len(chosen), SLICES_AT_A_TIME):
        slices = chosen[first : first + SLICES_AT_A_TIME]
        means = list(standardized[slices])
        draws = standardizer.samples(hu[slices], repeat(spacing_mm), numbers=slices, num=NUM_DRAWS, num_workers=num_workers)
        volumes = map(np.stack, chain([means], draws))
        moved = [replace(roi, slice_index=slices.index(roi.slice_index)) for roi in rois if roi.slice_index in slices]
        part, features = feature_array(volumes, rois=moved, spacing_mm=spacing_mm, num_workers=num_workers)
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


def _find_rois(masks: Iterable[tuple[str, NDArray[np.bool_]]], path: Path) -> list[Roi]:
    """The cross-sections of every region."""
    rois = [replace(roi, label=name) for name, voxels in masks for roi in mask_rois(voxels.astype(np.uint8), roi_set="mask")]
    if not rois:
        raise ValueError(f"{printable(path)}: no region has {MIN_LESION_PIXELS} pixels or more in a slice")
    return rois
