"""Mean or sample: which of a method's two images agrees better with the target on validation pairs, by radiomic features.

A mean lacks the part of the target's noise that is not in the source. Where that is little, a draw of it only adds error; where
it is most, as after noise reduction, features of a mean are far off and those of a sample are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltdiff.data.slice_pairs import ValidationPair
from ltdiff.evaluation.concordance import ccc_per_column
from ltdiff.inference.method import Method
from ltdiff.model.config import Output
from ltdiff.uncertainty.validation_ccc import NUM_ROIS, ValidationRegions, class_means, feature_classes, overall


class OutputChoice(NamedTuple):
    """What was chosen, and for each output the mean CCC of each class of features on the validation regions."""

    output: Output
    ccc: dict[str, dict[str, float]]

    @classmethod
    def of(cls, ccc: dict[str, dict[str, float]]) -> OutputChoice:
        """The output with the highest CCC, over all classes; a draw keeps the mean."""
        return cls("sample" if overall(ccc["sample"]) > overall(ccc["mean"]) else "mean", ccc)


def choose_by_features(
    outputs: Mapping[Output, np.ndarray], *, target: np.ndarray, features: Sequence[str]
) -> OutputChoice:
    """The better output by features that were measured: `outputs` and `target` are (regions, features)."""
    classes = feature_classes(features)
    return OutputChoice.of(
        {output: class_means(ccc_per_column(values, target), classes) for output, values in outputs.items()}
    )


def choose_output(
    mean: Method, sample: Method, pairs: Sequence[ValidationPair], *, num_workers: int = 1
) -> OutputChoice | None:
    """Of a method's mean and sample by discs in validation pairs; None where there is no room for any."""
    regions = ValidationRegions(pairs, num_rois=NUM_ROIS, num_workers=num_workers)
    return OutputChoice.of(regions.ccc({"mean": mean, "sample": sample})) if len(regions) else None
