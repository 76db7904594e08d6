"""Which output of a model is the best estimate of the target, where there are no pairs to tell.

Made pairs have a true answer, but made sources are what the networks were trained on. Of real sources only the distribution of
features is known, and that of other patients. So the networks must be better on made pairs, and their images of real sources must
not be told from the target more easily than those of the match. That is asked of patients whom the classifier has not seen
(`identifiability`): the distance of the distributions (FRD) takes what differs between a few patients for the protocol
(docs/notes/without-pairs.md).
"""

import math
from collections.abc import Mapping

import pandas as pd

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import standardize_all
from ltdiff.evaluation.scoring import SOURCE
from ltdiff.evaluation.unpaired_result import identify_source, measure_features
from ltdiff.evaluation.unpaired_set import read_unpaired_set
from ltdiff.inference.method import Method
from ltdiff.model.config import Output

NUM_ROIS, NUM_SLICES = 60, 24
"""Regions of each content class, and slices of either side at most."""
SEED = 1
"""Not that of the regions which an evaluation scores."""
LEAST_GAIN = 0.1
"""The share of the match's remaining error (1 − CCC) on made pairs by which that of the networks must be less."""
AUC_MARGIN = 0.05
"""Areas under the curve of two draws of the regions differ by as much."""


def measure_auc(methods: Mapping[Output, Method], manifest: pd.DataFrame, *, num_workers: int = 1) -> dict[Output, float]:
    """How well standardized real sources can be told from the targets by their features, for each output; NaN where a side
    shows one group alone.

    All slices but those of split `test` take part: no network was trained to standardize them.

    Raises:
        ValueError: a side has no slice, or they have no content in common.
    """
    rows = manifest[manifest["split"].isin(["train", "val"])].assign(split="val")
    config = EvaluationConfig(split="val", num_rois=NUM_ROIS, num_slices=NUM_SLICES, seed=SEED, num_workers=num_workers)
    unpaired_set = read_unpaired_set(rows, config=config)
    source = unpaired_set.source
    by_name = {str(output): method for output, method in methods.items()}
    images, _ = standardize_all(by_name, source.hu, source.spacings_mm, source.places, num_workers=num_workers)
    del images[SOURCE]  # which is no output
    told = identify_source(measure_features(images, unpaired_set), unpaired_set)
    return {output: told[output].auc for output in methods}


def choose_output(made_ccc: Mapping[Output, float], auc: Mapping[Output, float]) -> Output:
    """Choose the networks' mean or sample, whichever has the higher CCC on made pairs; or the match, unless that one is better
    by LEAST_GAIN, and told from the target no more easily than the match, but for AUC_MARGIN."""
    best: Output = max(("mean", "sample"), key=lambda output: made_ccc[output])
    if 1 - made_ccc[best] > (1 - LEAST_GAIN) * (1 - made_ccc["match"]):
        return "match"
    if math.isnan(auc[best]) or math.isnan(auc["match"]):
        return "match"
    return best if auc[best] <= auc["match"] + AUC_MARGIN else "match"
