"""Mean or sample: noise that the source lacks has a sample chosen, noise that is not missing the mean."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.data.slice_pairs import ValidationPair
from ltdiff.methods.sampled import fit_sampled
from ltdiff.uncertainty import mean_or_sample
from ltdiff.uncertainty.mean_or_sample import choose_by_features, choose_output

SPACING_MM = (0.8, 0.8)
RANGE_HU = (-1024.0, 3071.0)
FEATURES = ["firstorder_Mean", "glcm_Contrast", "glcm_Idm"]


class _Nothing:
    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return hu.astype(np.float32)


def _choose(values, target):
    return choose_by_features(values, target=target, features=FEATURES)


@pytest.fixture(autouse=True)
def _few_regions(monkeypatch):
    monkeypatch.setattr(mean_or_sample, "NUM_ROIS", 40)


def _pairs(missing_hu, *, size=96, columns=slice(None)):
    """Pairs whose source lacks noise of so many HU, which differs from place to place."""
    rng = np.random.default_rng(0)
    anatomy = ndimage.gaussian_filter(rng.normal(0, 3000, (4, size, size)), (0, 6, 6))
    level = 0.2 + 0.8 * (np.arange(size) / size)
    noise = missing_hu * level * rng.normal(size=anatomy.shape)
    shared = 20 * rng.normal(size=anatomy.shape)
    return [
        ValidationPair(
            np.rint(a + s).astype(np.float32), np.rint(a + s + n).astype(np.float32), SPACING_MM, columns, ("series", z)
        )
        for z, (a, s, n) in enumerate(zip(anatomy, shared, noise, strict=True))
    ]


@pytest.mark.parametrize(("missing_hu", "expected"), [(60.0, "sample"), (2.0, "mean")])
def test_missing_noise_decides(missing_hu, expected):
    pairs = _pairs(missing_hu)
    sample = fit_sampled(_Nothing(), pairs, range_hu=RANGE_HU)
    choice = choose_output(_Nothing(), sample, pairs)
    assert choice.output == expected
    other = {"mean": "sample", "sample": "mean"}[expected]
    assert choice.ccc[expected]["glcm"] > choice.ccc[other]["glcm"]
    assert set(choice.ccc["mean"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}


def test_no_room_for_a_disc_is_no_choice():
    pairs = _pairs(60.0, columns=slice(70, 96))
    assert choose_output(_Nothing(), _Nothing(), pairs) is None


def test_classes_weigh_alike_and_features_that_no_region_defines_do_not_count():
    target = np.random.default_rng(0).normal(size=(30, 3))
    target[:, 2] = np.nan
    worse = target + np.array([0.0, 1.0, 0.0]) * np.random.default_rng(1).normal(size=(30, 3))
    choice = _choose({"mean": worse, "sample": target}, target)
    assert choice.output == "sample"
    assert choice.ccc["sample"] == {"firstorder": 1.0, "glcm": pytest.approx(1.0)}
    assert choice.ccc["mean"]["glcm"] < 0.9


def test_a_draw_is_the_mean():
    target = np.random.default_rng(0).normal(size=(30, 3))
    assert _choose({"mean": target, "sample": target}, target).output == "mean"
