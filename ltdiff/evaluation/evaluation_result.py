"""All that an evaluation measured, before any of it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ltdiff.data.rois import Roi, is_lesion_set
from ltdiff.evaluation.endpoints import endpoint_agreement, endpoint_table
from ltdiff.evaluation.error_ratio import largest_shares, remaining_error_ratios
from ltdiff.evaluation.evaluation_set import EvaluationSet
from ltdiff.evaluation.noise_floor import noise_floor, repeatability
from ltdiff.evaluation.noise_power import largest_differences, noise_power
from ltdiff.evaluation.paper import group_ccc
from ltdiff.evaluation.robust_features import robust_features
from ltdiff.evaluation.scoring import Scores
from ltdiff.evaluation.slice_correlation import slice_correlation
from ltdiff.evaluation.structures import (
    count_changed_places,
    describe_lesions,
    find_structures,
    structure_summary,
    structure_table,
)
from ltdiff.inference.method import Slices


@dataclass(frozen=True)
class EvaluationResult:
    """Scores; all `tables` by the names of their files, empty where one does not apply; and what a reader is told and shown.

    `shown` is the region that a reader wants to see, `planes_hu` its slice (Y, X) by method and of the target. `lesions` is what
    is to be said of the lesions' regions, where there is a mask. `outliers` are the regions with most of the error of the method
    that is compared with the others (see `largest_shares`). `facts` hold nothing that tells who a patient is.
    """

    scores: Scores
    tables: dict[str, pd.DataFrame]
    outliers: pd.DataFrame
    lesions: str
    shown: Roi
    planes_hu: dict[str, Slices]
    target_hu: Slices
    facts: dict[str, Any]


def collect_result(
    scores: Scores,
    *,
    images: Mapping[str, Slices],
    evaluation_set: EvaluationSet,
    facts: Mapping[str, Any],
    compared: str | None = None,
) -> EvaluationResult:
    """The result for `images` (N, Y, X) that were scored; the error of the method `compared` is set against the others'."""
    endpoints = endpoint_table(images, evaluation_set)
    tables = compare_images(images, evaluation_set) | {
        "endpoints": endpoints,
        "endpoint_agreement": endpoint_agreement(endpoints),
        "ccc": scores.ccc,
        "feature_ccc": scores.feature_ccc,
        "relative_error": scores.relative_error,
        "image_metrics": scores.image_metrics,
        "group_ccc": group_ccc(scores.feature_ccc),
        "noise_floor": noise_floor(scores.features, seed=scores.seed),
        "repeatability": repeatability(scores.features, seed=scores.seed),
        "robust_features": robust_features(scores.features, seed=scores.seed),
        "remaining_error": remaining_error_ratios(scores.features, method=compared, seed=scores.seed),
        "slices": evaluation_set.places,
    }
    # a lesion if there is one, and the largest
    shown = max(evaluation_set.rois, key=lambda roi: (is_lesion_set(roi.roi_set), roi.mask.sum()))
    return EvaluationResult(
        scores=scores,
        tables=tables,
        outliers=largest_shares(scores.features).query("method == @compared"),
        lesions=describe_lesions(tables["structures"], evaluation_set.lesions, evaluation_set.num_cross_sections),
        shown=shown,
        planes_hu={method: volume[shown.slice_index] for method, volume in images.items()},
        target_hu=evaluation_set.target_hu[shown.slice_index],
        facts={**scores.provenance, **evaluation_set.facts, **facts},
    )


def compare_images(images: Mapping[str, Slices], evaluation_set: EvaluationSet) -> dict[str, pd.DataFrame]:
    """Noise, neighbouring slices and structures of each method's `images` (N, Y, X) beside the target's.

    The table `content` has one row per method: whole images in short.
    """
    target_hu, spacings_mm = evaluation_set.target_hu, evaluation_set.spacings_mm
    lesions, neighbours = evaluation_set.lesions, evaluation_set.neighbours
    power = noise_power(images, target_hu=target_hu, spacings_mm=spacings_mm)
    correlation = slice_correlation(images, target_hu=target_hu, neighbours=neighbours)
    rois = [*lesions, *find_structures(target_hu, spacings_mm=spacings_mm, lesions=lesions)]
    structures = structure_table(images, target_hu=target_hu, rois=rois, neighbours=neighbours)
    content = count_changed_places(images, target_hu=target_hu, spacings_mm=spacings_mm)
    if len(power):
        content = content.merge(largest_differences(power), on="method")
    if len(correlation):
        difference = correlation.set_index("method")["relative_difference"]
        content = content.join(difference.rename("slice_correlation_difference"), on="method")
    return {
        "noise_power": power,
        "slice_correlation": correlation,
        "structures": structures,
        "structure_summary": structure_summary(structures),
        "content": content,
    }
