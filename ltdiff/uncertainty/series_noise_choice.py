"""Whether a match looks at the noise of each series: where that brings the noise of validation series nearer to the target's.

The radiomic distance of all series together does not tell: where some are too noisy and others too smooth, it sees their mean.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltdiff.data.manifest import evenly_spaced, in_plane_spacing_mm, read_hu, slice_numbers
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.procedure import read_series_noise
from ltdiff.inference.series_method import SeriesMethod
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import USES_SERIES_NOISE

logger = logging.getLogger(__name__)

NUM_SERIES, NUM_CHECKED = 12, 4
"""Source series that are looked at, and slices of each of them that are standardized: some 20 seconds."""
LEAST_GAIN = 0.1
"""Of the distance, |log| of the ratio of noise power, by which the noise of each series must be better."""
DISTANCES = "series_noise_distances"
"""In the calibration: the distance of noise to the target's for series of another dose, with the noise of the protocol and with
their own."""


def choose_series_noise(model: Path, manifest: pd.DataFrame) -> dict[str, Any]:
    """What a model's calibration says of the noise of series; {} where the model was not fitted to any noise.

    Validation slices are standardized; those that train where none validates.
    """
    series_noise = read_series_noise(model)
    if series_noise is None:
        return {}
    match = Standardizer.load(model, InferenceConfig(output="match"))
    match, own = match.used_otherwise(series_noise=None), match.used_otherwise(series_noise=series_noise)
    sources = manifest[manifest["role"] == "source"].drop_duplicates(["path", "slice_index"])
    sources = sources.assign(slice_number=slice_numbers(manifest, sources))
    names = sources["series_uid"].unique()
    names = names[evenly_spaced(len(names), at_most=NUM_SERIES)]
    by_series = SeriesMethod(own, manifest)
    others = [name for name in names if by_series.for_series(name) is not own]
    found = [_distances(sources[sources["series_uid"] == name], match, by_series.for_series(name)) for name in others]
    found = [one for one in found if np.isfinite(one).all()]
    if not found:
        return {USES_SERIES_NOISE: False}
    with_protocol, with_own = np.mean(found, axis=0)
    is_better = bool(with_own < with_protocol - LEAST_GAIN)
    logger.info(
        "%d of %d series have another noise than their protocol; with the match of the protocol it is off by %.2f (log power), "
        "with their own by %.2f, which is %s",
        len(others),
        len(names),
        with_protocol,
        with_own,
        "used" if is_better else "not used",
    )
    return {USES_SERIES_NOISE: is_better, DISTANCES: {"protocol": float(with_protocol), "series": float(with_own)}}


def _distances(rows: pd.DataFrame, match: Standardizer, own: Standardizer) -> tuple[float, float]:
    """Of a series, standardized with the noise of its protocol and with its own."""
    series_noise = own.procedure.series_noise
    assert series_noise is not None
    validating = rows[rows["split"] == "val"]
    rows = validating if len(validating) else rows
    chosen = rows.iloc[evenly_spaced(len(rows), at_most=NUM_CHECKED)].to_dict("records")
    spacing_mm = in_plane_spacing_mm(chosen[0])
    slices = [(read_hu({str(key): value for key, value in row.items()}), int(row["slice_number"])) for row in chosen]
    with_protocol, with_own = (
        series_noise.distance([one.standardize(hu[None], spacing_mm, first_slice=number)[0] for hu, number in slices], spacing_mm)
        for one in (match, own)
    )
    return with_protocol, with_own
