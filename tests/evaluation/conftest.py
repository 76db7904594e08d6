"""A small scored volume that several tests read."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ltdiff.data.rois import mask_rois, random_rois
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluation_set import EvaluationSet
from ltdiff.evaluation.scoring import score


@pytest.fixture(scope="session")
def volumes():
    """(images by method, target, labels): noise with structure; "source" is it blurred, "better" halfway."""
    rng = np.random.default_rng(4)
    structure = ndimage.gaussian_filter(rng.normal(0, 4000, (2, 96, 96)), (0, 6, 6))
    target = np.round(-600 + structure + rng.normal(0, 60, (2, 96, 96)))
    blurred = ndimage.gaussian_filter(target, (0, 1, 1))
    labels = np.zeros((2, 96, 96), np.uint8)
    labels[1, 40:60, 30:55] = 1
    return {"source": np.round(blurred), "better": np.round((blurred + 3 * target) / 4)}, target, labels


@pytest.fixture(scope="session")
def rois(volumes):
    _, target, labels = volumes
    return random_rois(target, num_rois=12, seed=1) + mask_rois(labels)


@pytest.fixture(scope="session")
def scores(volumes, rois):
    images, target, _ = volumes
    return score(images, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois)


@pytest.fixture(scope="session")
def evaluation_set(volumes, rois):
    """Two neighbouring slices of one series."""
    images, target, _ = volumes
    return EvaluationSet(
        source_hu=images["source"],
        target_hu=target,
        spacings_mm=np.full((2, 2), 0.8),
        series=np.array([0, 0]),
        places=pd.DataFrame({"slice_index": [0, 1], "series_uid": "1.2", "z_mm": [0.0, 5.0], "slice_number": [7, 8]}),
        rois=tuple(rois),
        scored=tuple(rois),
        lungs=np.zeros(target.shape, bool),
        labels=None,
        num_cross_sections=1,
        config=EvaluationConfig(),
        facts={
            "split": {"spec": "z:0.7", "scored": "test", "num_pairs": 2},
            "scans": {
                "num_patients": 1,
                "num_scans": 1,
                "manufacturers": ["Maker"],
                "source_kernels": ["B"],
                "target_kernels": ["L"],
                "spacing_mm": [0.8, 0.8],
                "slice_thickness_mm": [1.0, 5.0],
            },
            "roi_seed": 0,
            "num_lesion_cross_sections": 1,
            "num_repeated_slices": 0,
            "lungs": "given",
        },
    )
