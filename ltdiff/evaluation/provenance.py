"""What an evaluation says of itself, for programs and for those who want to repeat it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import ltdiff
from ltdiff.data import rois as recipe
from ltdiff.data.rois import Roi, VolumeRoi, bounding_box
from ltdiff.evaluation import concordance
from ltdiff.evaluation.scoring import Scores


def describe_scoring(scores: Scores) -> dict[str, Any]:
    """What a reader needs to repeat the scoring: versions, conventions, counts and the bootstrap's seed."""
    return {
        "ltdiff_version": ltdiff.__version__,
        "feature_set": scores.feature_set.name,
        "extractor": scores.feature_set.extractor,
        "extractor_version": scores.feature_set.extractor_version,
        "discretisation": scores.feature_set.discretisation,
        "bootstrap_seed": scores.seed,
        "bootstrap_resamples": concordance.NUM_RESAMPLES,
        "confidence": concordance.CONFIDENCE,
        "num_rois": pd.Series([roi.roi_set for roi in scores.rois], dtype=object).value_counts(sort=False).to_dict(),
    }


def describe_rois(rois: tuple[Roi | VolumeRoi, ...]) -> dict[str, Any]:
    """The recipe and every region; a disc is rebuilt from its label by `ltdiff.data.rois.disc_mask`, in each of its slices."""
    return {
        "recipe": {
            "radius_px": recipe.RADIUS_RANGE_PX,
            "border_px": recipe.BORDER_PX,
            "border_fraction_of_small_images": recipe.BORDER_FRACTION,
            "lowest_mean_hu": recipe.LOWEST_MEAN_HU,
            "hu_ranges": recipe.HU_RANGES,
            "lesion_min_pixels": recipe.MIN_LESION_PIXELS,
        },
        "rois": [_describe_roi(roi) for roi in rois],
    }


def is_lesion(roi: Roi) -> bool:
    """Whether a region shows a lesion of a mask."""
    return is_lesion_set(roi.roi_set)


def is_lesion_set(roi_set: str) -> bool:
    """Whether the regions of a set show lesions: all that are not drawn at random do."""
    return not roi_set.startswith(("random", "hu_", recipe.WHOLE_SLICES))


def _describe_roi(roi: Roi | VolumeRoi) -> dict[str, Any]:
    rows, columns = bounding_box(np.any(roi.volume_mask, axis=0))
    return {
        "roi_set": roi.roi_set,
        "slice_index": roi.slice_index,
        "num_slices": len(roi.volume_mask),
        "label": roi.label,
        "num_pixels": int(roi.volume_mask.sum()),
        "rows": [rows.start, rows.stop],
        "columns": [columns.start, columns.stop],
    }
