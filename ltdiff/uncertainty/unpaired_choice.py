"""Which output of a model resembles the target protocol most, where there are no pairs to tell."""

import math
from collections.abc import Mapping

import pandas as pd

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import standardize_all
from ltdiff.evaluation.unpaired_result import compare_features, measure_features
from ltdiff.evaluation.unpaired_set import read_unpaired_set
from ltdiff.inference.method import Method
from ltdiff.model.config import Output

NUM_ROIS = 60
"""Regions of each content class."""
SEED = 1
"""Not that of the regions which an evaluation scores."""
LEAST_GAIN = 0.1
"""Of the logarithmic distance, by which networks must be nearer to the target than the kernel match: two draws of the regions
differ by about so much."""


def radiomic_distances(methods: Mapping[Output, Method], manifest: pd.DataFrame, *, num_workers: int = 1) -> dict[Output, float]:
    """Fréchet radiomic distance between standardized validation sources and the targets, of other patients, for each output.

    Of the training slices where no slice validates.

    Raises:
        ValueError: a side has no slice, or they have no content in common.
    """
    validating = manifest[manifest["split"] == "val"]
    split = "val" if {"source", "target"} <= set(validating["role"]) else "train"
    config = EvaluationConfig(split=split, num_rois=NUM_ROIS, seed=SEED, num_workers=num_workers)  # type: ignore[arg-type]
    unpaired_set = read_unpaired_set(manifest, config=config)
    source = unpaired_set.source
    by_name = {str(output): method for output, method in methods.items()}
    images, _ = standardize_all(by_name, source.hu, source.spacings_mm, source.places, num_workers=num_workers)
    found = compare_features(measure_features(images, unpaired_set), unpaired_set).set_index("method")["frd"]
    return {output: float(found[output]) for output in methods}


def choose_output(distances: Mapping[Output, float]) -> Output:
    """Choose the nearest output; the kernel match unless another one is nearer by LEAST_GAIN, or where nothing can be told."""
    known = {output: distance for output, distance in distances.items() if math.isfinite(distance)}
    if "match" not in known:
        return "match"
    nearest = min(known, key=lambda output: known[output])
    return nearest if known[nearest] < known["match"] - LEAST_GAIN else "match"
