"""Feature arrays with values that a test chose."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ltdiff.data.rois import RoiSummary
from ltdiff.evaluation.feature_values import TARGET, FeatureArray
from ltdiff.radiomics.feature_sets import PYRADIOMICS


def make_feature_array(methods: Mapping[str, np.ndarray], slices: Sequence[int]) -> FeatureArray:
    """Of values (regions, features) by method, on regions of these slices (regions,)."""
    rois = [RoiSummary("random", int(slice_index), 1, f"region{i}", 9, (0, 3), (0, 3)) for i, slice_index in enumerate(slices)]
    names = tuple(f"glcm_F{f}" for f in range(methods[TARGET].shape[1]))
    return FeatureArray(np.stack(list(methods.values())), tuple(methods), tuple(rois), replace(PYRADIOMICS, features=names))
