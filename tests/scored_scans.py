"""Scans and images that a test made, as an evaluation reads them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ltdiff.data.rois import Roi, VolumeRoi
from ltdiff.evaluation.scored_scan import ScanImages, ScoredScan
from ltdiff.evaluation.scoring import Scores, score


def make_scan(
    source_hu: np.ndarray,
    target_hu: np.ndarray,
    *,
    rois: Sequence[Roi | VolumeRoi],
    spacing_mm: Sequence[float] | np.ndarray = (0.8, 0.7),
    first: int = 0,
    **fields,
) -> ScoredScan:
    """A scan whose slices follow each other from number 7 on; `rois` come in their order, and `fields` are others."""
    num = len(target_hu)
    numbers = {"slice_index": np.arange(first, first + num), "z_mm": 5.0 * np.arange(num), "slice_number": np.arange(7, 7 + num)}
    made = {
        "spacings_mm": np.broadcast_to(np.asarray(spacing_mm, float), (num, 2)),
        "series": np.zeros(num, int),
        "places": pd.DataFrame({"series_uid": "1.2", **numbers}),
        "scored": rois,
        "ranks": range(len(rois)),
        "lungs": np.zeros(target_hu.shape, bool),
        "labels": None,
    }
    return ScoredScan(first=first, source_hu=source_hu, target_hu=target_hu, **made | fields)


def score_volume(
    images: Mapping[str, np.ndarray],
    *,
    target_hu: np.ndarray,
    spacing_mm: Sequence[float] | np.ndarray,
    rois: Sequence[Roi | VolumeRoi],
    repeat_hu: np.ndarray | None = None,
    **options,
) -> Scores:
    """Score images of one scan; `options` are those of `score`."""
    scan = make_scan(target_hu, target_hu, rois=rois, spacing_mm=spacing_mm, repeat_hu=repeat_hu)
    return score([ScanImages(scan, dict(images))], **options)
