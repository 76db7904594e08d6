"""Scores on validation pairs: a method that returns the target has CCC 1, and regions lie where nothing was trained on."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.data.slice_pairs import ValidationPair
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.uncertainty.validation_ccc import MIN_WIDTH_PX, ValidationRegions, overall

SPACING_MM = (0.8, 0.8)


class _Known:
    """Gives images that were fixed beforehand, by the number of the slice; counts its calls."""

    def __init__(self, images):
        self.images, self.num_calls = images, 0

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        self.num_calls += 1
        return self.images[first_slice][None]


def _pairs(*, columns=slice(None), size=96):
    rng = np.random.default_rng(0)
    targets = np.rint(ndimage.gaussian_filter(rng.normal(0, 3000, (3, size, size)), (0, 4, 4))).astype(np.float32)
    noise = np.rint(rng.normal(0, 30, targets.shape)).astype(np.float32)
    return [
        ValidationPair(target + more, target, SPACING_MM, columns, ("series", z))
        for z, (target, more) in enumerate(zip(targets, noise, strict=True))
    ]


def test_the_target_itself_has_ccc_1_and_the_source_less():
    pairs = _pairs()
    regions = ValidationRegions(pairs, num_rois=30)
    assert len(regions) == 30
    ccc = regions.ccc({"target": _Known([p.target_hu for p in pairs]), "source": _Known([p.source_hu for p in pairs])})
    assert overall(ccc["target"]) == pytest.approx(1.0)
    assert set(ccc["source"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}
    assert all(value < 0.999 for value in ccc["source"].values())


def test_methods_measured_together_or_one_after_the_other_score_the_same():
    pairs = _pairs()
    source, target = (_Known([getattr(p, name) for p in pairs]) for name in ("source_hu", "target_hu"))
    together = ValidationRegions(pairs, num_rois=12).ccc({"a": source, "b": target})
    regions = ValidationRegions(pairs, num_rois=12)
    assert {**regions.ccc({"a": source}), **regions.ccc({"b": target})} == together
    assert source.num_calls == 2 * len(pairs)


def test_only_the_validating_columns_count():
    """What differs elsewhere changes nothing."""
    columns = slice(40, 90)
    pairs = _pairs(columns=columns)
    elsewhere = [p.target_hu.copy() for p in pairs]
    for hu in elsewhere:
        hu[:, :40] = 500
        hu[:, 90:] = 500
    assert overall(ValidationRegions(pairs, num_rois=12).ccc({"m": _Known(elsewhere)})["m"]) == pytest.approx(1.0)


def test_without_room_there_are_no_regions():
    assert len(ValidationRegions(_pairs(columns=slice(0, MIN_WIDTH_PX - 1)), num_rois=12)) == 0


def test_a_slice_is_standardized_as_that_of_its_number():
    """Whatever its place among the pairs: a draw's noise is a function of it."""
    numbers = []

    class Noting:
        def standardize(self, hu, spacing_mm, *, first_slice=0):
            numbers.append(first_slice)
            return hu

    pairs = [pair._replace(place=("series", 10 + 2 * i)) for i, pair in enumerate(_pairs())]
    ValidationRegions(pairs, num_rois=12).standardize(Noting())
    assert numbers == [10, 12, 14]


def test_classes_weigh_alike_and_features_that_no_region_defines_do_not_count():
    regions = ValidationRegions(_pairs(), num_rois=30)
    classes = np.array([name.split("_")[0] for name in PYRADIOMICS.features])
    target = np.random.default_rng(0).normal(size=(30, len(classes)))
    target[:, np.flatnonzero(classes == "glcm")[0]] = np.nan
    regions._target = target
    worse = target + (classes == "glrlm") * np.random.default_rng(1).normal(size=target.shape)
    assert regions.ccc_of(target) == pytest.approx(dict.fromkeys(("firstorder", "glcm", "glrlm", "ngtdm"), 1.0))
    ccc = regions.ccc_of(worse)
    assert ccc["glrlm"] < 0.9
    assert overall(ccc) == pytest.approx((3 + ccc["glrlm"]) / 4)
