"""The MTF at the edges of discs that a known Gaussian has blurred."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.evaluation.mtf import COLUMNS, FRACTIONS, Disc, largest_mtf_differences, mtf_table

PIXEL_MM = 0.8
SIZE, FINER = 96, 8
DISCS = [Disc("light", (30.3, 32.7), 12.5), Disc("dark", (62.6, 61.2), 12.5)]


def _image(sigma_px, *, light_hu=100.0, dark_hu=-800.0):
    """Both discs in water, blurred on a finer grid and then sampled at the middles of the pixels."""
    axis = (np.arange(SIZE * FINER) + 0.5) / FINER - 0.5
    hu = np.zeros((SIZE * FINER, SIZE * FINER), np.float32)
    for disc, value in zip(DISCS, (light_hu, dark_hu), strict=True):
        distance = np.hypot(axis[:, None] - disc.centre_px[0], axis - disc.centre_px[1])
        hu += value * np.clip((disc.radius_px - distance) * FINER + 0.5, 0, 1)
    blurred = ndimage.gaussian_filter(hu, sigma_px * FINER)
    middle = slice(FINER // 2 - 1, FINER // 2 + 1)
    return blurred.reshape(SIZE, FINER, SIZE, FINER)[:, middle, :, middle].mean(axis=(1, 3))


def _gaussian(sigma_px):
    """MTF at FRACTIONS of the Nyquist frequency, half a cycle per pixel."""
    return np.exp(-2 * (np.pi * sigma_px * np.array(FRACTIONS) / 2) ** 2)


@pytest.fixture(scope="module")
def target():
    return _image(0.6)


def _table(images, target):
    return mtf_table(images, target_hu=target, discs=DISCS, pixel_mm=PIXEL_MM)


def test_a_gaussian_has_its_mtf_whatever_the_contrast(target):
    table = _table({"softer": _image(0.9)[None]}, target)
    assert tuple(table.columns) == COLUMNS
    assert table["kind"].unique().tolist() == ["light", "dark"]
    for _, of_kind in table.groupby("kind"):
        np.testing.assert_allclose(of_kind["mtf"], _gaussian(0.9), atol=0.01)
        np.testing.assert_allclose(of_kind["target_mtf"], _gaussian(0.6), atol=0.01)
        np.testing.assert_allclose(of_kind["difference"], of_kind["mtf"] - of_kind["target_mtf"])
        np.testing.assert_allclose(of_kind["frequency_per_mm"], np.array(FRACTIONS) / (2 * PIXEL_MM))
    assert table["standard_error"].isna().all()


def test_the_target_itself_differs_nowhere(target):
    table = _table({"same": target[None], "other contrast": 2 * target[None] + 30}, target)
    np.testing.assert_allclose(table["difference"], 0, atol=1e-6)


def test_a_method_may_pass_on_one_contrast_worse_than_another(target):
    image = np.where(np.arange(SIZE)[:, None] < 46, _image(0.9), target)  # the light disc is in the upper half
    largest = largest_mtf_differences(_table({"method": image[None]}, target)).set_index("kind")
    expected = _gaussian(0.9) - _gaussian(0.6)
    assert largest.loc["light", "difference"] == pytest.approx(expected.min(), abs=0.01)
    assert largest.loc["light", "fraction_of_nyquist"] == FRACTIONS[np.abs(expected).argmax()]
    assert largest.loc["dark", "difference"] == pytest.approx(0, abs=1e-6)


def test_the_error_is_that_of_the_noise(target):
    rng = np.random.default_rng(0)
    repeats = [_table({"a": target + rng.normal(0, 3, (8, SIZE, SIZE))}, target) for _ in range(30)]
    light = [table.query("kind == 'light' and fraction_of_nyquist > 0.1") for table in repeats]
    scatter = np.std([table["difference"] for table in light], axis=0)
    told = np.sqrt(np.mean([table["standard_error"] ** 2 for table in light], axis=0))
    assert (scatter > 0.001).all()
    np.testing.assert_allclose(told.mean(), scatter.mean(), rtol=0.15)


def test_the_largest_difference_keeps_its_sign(target):
    largest = largest_mtf_differences(_table({"sharper": _image(0.4)[None], "softer": _image(0.9)[None]}, target))
    assert len(largest) == 4
    assert (largest.set_index("method").loc["sharper", "difference"] > 0.1).all()
    assert (largest.set_index("method").loc["softer", "difference"] < -0.1).all()
