"""A small scored volume that several tests read."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scored_scans import make_scan, score_volume

from ltdiff.data.rois import RoiSummary, mask_rois, random_rois
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluation_result import ScanMeasures, collect_result
from ltdiff.evaluation.evaluation_set import EvaluationSet
from ltdiff.evaluation.noise_power import count_windows
from ltdiff.evaluation.scored_scan import ScanImages


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
    return score_volume(images, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois)


@pytest.fixture(scope="session")
def scan(volumes, rois):
    """Two neighbouring slices of one series."""
    images, target, labels = volumes
    return make_scan(images["source"], target, rois=rois, spacing_mm=(0.8, 0.8), labels=labels)


@pytest.fixture(scope="session")
def evaluation_set(scan, rois):
    """That scan alone."""
    return EvaluationSet(
        scans=[lambda: scan],
        places=scan.places,
        num_windows=count_windows(scan.target_hu),
        shown=rois[-1],
        lesions=[RoiSummary.of(roi) for roi in scan.lesions],
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


@pytest.fixture(scope="session")
def collect(scores, volumes, scan, evaluation_set):
    """What makes a result of the same scores, with other images, or some things changed in the scan or the set."""

    def collect(*, scores=scores, images=volumes[0], compared=None, facts=None, of_scan=None, **of_set):
        changed = replace(scan, **of_scan or {})
        of_set = {"num_windows": count_windows(changed.target_hu)} | of_set
        of_all = replace(evaluation_set, scans=[lambda: changed], **of_set)
        measures = ScanMeasures(of_all)
        measures.take(ScanImages(changed, images))
        return collect_result(scores, measures=measures, evaluation_set=of_all, facts=facts or {}, compared=compared)

    return collect
