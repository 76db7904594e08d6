"""PyRadiomics' features in space from our matrices: its values, also of regions that define little."""

import numpy as np
import pytest

from ltdiff.radiomics.pyradiomics import extract_features
from ltdiff.radiomics.space_features import CLASSES, extract_features_in_space, feature_names

SPACING_MM = (2.0, 0.7, 0.8)


def assert_values_of_pyradiomics(image, mask, *, bin_width=25.0):
    settings = {"spacing_mm": SPACING_MM, "bin_width": bin_width, "classes": CLASSES}
    theirs = extract_features(image, mask, in_plane=False, **settings)
    ours = extract_features_in_space(image, mask, **settings)
    assert list(ours) == feature_names() == [name for name in theirs if name != "glcm_MCC"]
    assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("density", "spread"), [(1.0, 300), (0.6, 100), (0.25, 40), (0.9, 12)])
def test_random_regions(seed, density, spread):
    """Dense and full of levels, and sparse ones of two or three levels in which many a direction has pairs of one alone."""
    rng = np.random.default_rng(seed)
    image = rng.normal(10, spread, (4, 6, 7)).round()
    mask = rng.random(image.shape) < density
    mask[1, 1, 1] = mask[2, 2, 2] = mask[1, 2, 1] = True
    assert_values_of_pyradiomics(image, mask)


@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 2, 2), (5, 2, 2)])
def test_flat_and_small_regions(shape):
    image = np.random.default_rng(1).normal(-800, 60, shape)
    assert_values_of_pyradiomics(image, np.ones(shape, bool))


def test_values_that_are_no_hu():
    """The bins of a filter's response: of any sign, finer than one."""
    image = np.random.default_rng(2).normal(0, 3, (5, 8, 9))
    assert_values_of_pyradiomics(image, image > -4, bin_width=0.37)


@pytest.mark.parametrize("mask", [np.ones((3, 5, 5), bool), np.eye(5, dtype=bool)[None] & np.ones((3, 1, 1), bool)])
def test_regions_of_one_value(mask):
    assert_values_of_pyradiomics(np.full(mask.shape, 40.0), mask)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_voxels_that_do_not_touch():
    mask = np.zeros((3, 5, 5), bool)
    mask[::2, ::2, ::2] = True
    assert_values_of_pyradiomics(np.random.default_rng(3).normal(0, 90, mask.shape), mask)


def test_refusals_are_those_of_pyradiomics():
    image, mask = np.zeros((2, 3, 4)), np.ones((2, 3, 4), bool)
    for bad, message in ((image + np.nan, "not finite"), (np.arange(24.0).reshape(2, 3, 4) * 1e5, "2000 bins"), (image, "empty")):
        with pytest.raises(ValueError, match=message):
            extract_features_in_space(bad, mask & (message != "empty"), spacing_mm=SPACING_MM, bin_width=25)
