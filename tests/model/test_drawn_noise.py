"""What a noise-reduced source lacks is drawn: as much as at such places, of the texture in mm, always the same for one source."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.model.drawn_noise import DrawnNoise

SPACING_MM, RANGE_HU = (0.8, 0.8), (-1024.0, 3071.0)


def _anatomy(seed, size=192):
    """Lung on the left, soft tissue on the right, both smooth."""
    coarse = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 6)
    return (np.where(np.arange(size) < size // 2, -800, 40) + 100 * coarse).round().astype(np.float32)


def _texture(seed, size=192, *, sigma_px=1.0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), sigma_px)
    return noise / noise.std()


@pytest.fixture(scope="module")
def drawn_noise():
    """20 HU are missing in the lung, 10 in soft tissue."""
    matched = [_anatomy(seed) for seed in range(3)]
    missing = np.where(np.arange(192) < 96, 20, 10)
    targets = [hu + missing * _texture(10 + seed) for seed, hu in enumerate(matched)]
    return DrawnNoise.fit(matched, targets, [SPACING_MM] * 3, range_hu=RANGE_HU)


def test_as_much_is_drawn_as_is_missing_at_such_places(drawn_noise):
    matched = _anatomy(7)
    added = drawn_noise(matched, matched, SPACING_MM) - matched
    assert added[:, :88].std() == pytest.approx(20, rel=0.1)
    assert added[:, 104:].std() == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.5])
def test_the_texture_is_the_same_in_mm_whatever_the_pixels(drawn_noise, factor):
    matched = np.full((256, 256), 40, np.float32)
    spacing_mm = (0.8 * factor, 0.8 * factor)
    added = drawn_noise(matched, matched, spacing_mm) - matched
    neighbours = np.corrcoef(added[:, 1:].ravel(), added[:, :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-((factor / 2) ** 2)), abs=0.06)  # of a Gaussian filter of one pixel's sigma


def test_one_source_always_gets_the_same_and_clipped_air_stays(drawn_noise):
    matched = _anatomy(7)
    matched[:20] = RANGE_HU[0]
    first, again = (drawn_noise(matched, matched, SPACING_MM) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first[:20] == RANGE_HU[0]).all()
    assert (drawn_noise(matched, matched + 1, SPACING_MM) != first).any()
