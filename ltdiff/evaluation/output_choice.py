"""Mean or sample: which of a method's two images agrees better with the target on validation pairs, by radiomic features.

A mean lacks the part of the target's noise that is not in the source. Where that is little, a draw of it only adds error; where
it is most, as after noise reduction, features of a mean are far off and those of a sample are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltdiff.comparators.pairs import ValidationPair
from ltdiff.comparators.protocol import Method
from ltdiff.data.rois import random_rois
from ltdiff.evaluation.concordance import ccc_per_column
from ltdiff.inference.spread import Output
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.radiomics.parallel import RegionCut, extract_regions

NUM_ROIS = 300
ROI_SEED = 1
"""Not the seed of the regions that an evaluation scores."""
MIN_WIDTH_PX = 32
"""Of what validates, for discs to fit into it."""


class OutputChoice(NamedTuple):
    """What was chosen, and for each output the mean CCC of each class of features on the validation regions."""

    output: Output
    ccc: dict[str, dict[str, float]]


def choose_by_features(
    outputs: Mapping[Output, np.ndarray], *, target: np.ndarray, features: Sequence[str]
) -> OutputChoice:
    """The output with the highest CCC, a mean over the classes of the means over their features; a draw keeps the mean.

    `outputs` and `target` hold features (regions, features), named "class_feature".
    """
    classes = np.array([name.split("_", 1)[0] for name in features])
    ccc: dict[str, dict[str, float]] = {}
    for output, values in outputs.items():
        of_features = ccc_per_column(values, target)
        ccc[output] = {str(name): float(np.nanmean(of_features[classes == name])) for name in np.unique(classes)}
    overall = {output: float(np.mean(list(of_classes.values()))) for output, of_classes in ccc.items()}
    return OutputChoice("sample" if overall["sample"] > overall["mean"] else "mean", ccc)


def choose_output(
    mean: Method, sample: Method, pairs: Sequence[ValidationPair], *, num_workers: int = 1
) -> OutputChoice | None:
    """Of a method's mean and sample by discs in validation pairs; None where there is no room for any."""
    cuts: dict[str, list[RegionCut]] = {"mean": [], "sample": [], "target": []}
    for number, pair in enumerate(pairs):
        target_hu = pair.target_hu[None, :, pair.columns]
        if min(target_hu.shape[1:]) < MIN_WIDTH_PX:
            continue
        images = {"target": target_hu}
        for name, method in (("mean", mean), ("sample", sample)):
            images[name] = method.standardize(pair.source_hu[None], pair.spacing_mm, first_slice=number)[
                ..., pair.columns
            ]
        for roi in random_rois(target_hu, num_rois=math.ceil(NUM_ROIS / len(pairs)), seed=ROI_SEED + number):
            for name, hu in images.items():
                cuts[name].append(RegionCut.of(hu, roi.volume_mask, pair.spacing_mm))
    if not cuts["target"]:
        return None
    rows = extract_regions([cut for of_name in cuts.values() for cut in of_name], PYRADIOMICS, num_workers=num_workers)
    means, samples, target = np.array([list(row.values()) for row in rows]).reshape(3, len(cuts["target"]), -1)
    return choose_by_features({"mean": means, "sample": samples}, target=target, features=list(rows[0]))
