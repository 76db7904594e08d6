"""What is left over: a residual of known size and texture is found again, and draws have both."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.model.residual_noise import NUM_FREQUENCIES, apply_gain, fit_mean_gain, fit_residual_noise

RANGE_HU = (-1024.0, 3071.0)
SIGMA_HU = {-800.0: 4.0, 40.0: 12.0}


def _image(rng):
    """Left half lung, right half soft tissue, each with texture of 10 HU."""
    hu = np.where(np.arange(160)[None, :] < 80, -800.0, 40.0) + 10 * rng.standard_normal((160, 160))
    return hu.round().astype(np.float32)


def _residual(rng, *, blur_px=1.0):
    noise = ndimage.gaussian_filter(rng.standard_normal((160, 160)), blur_px)
    noise /= noise.std()
    return noise * np.where(np.arange(160)[None, :] < 80, SIGMA_HU[-800.0], SIGMA_HU[40.0])


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    images = [_image(rng) for _ in range(6)]
    targets = [(hu + _residual(rng)).round().astype(np.float32) for hu in images]
    return fit_residual_noise(images, targets, range_hu=RANGE_HU)


def test_the_size_is_found_by_tissue(fitted):
    sigma = fitted.sigma(_image(np.random.default_rng(1)))
    assert sigma.shape == (160, 160)
    assert np.median(sigma[:, 10:70]) == pytest.approx(SIGMA_HU[-800.0], rel=0.08)
    assert np.median(sigma[:, 90:150]) == pytest.approx(SIGMA_HU[40.0], rel=0.08)


def test_draws_have_size_and_texture_of_the_residual(fitted):
    rng = np.random.default_rng(2)
    hu = _image(rng)
    drawn = np.stack([fitted.draw(hu, seed=seed, number=0) - hu for seed in range(8)])
    part, expected = drawn[:, 10:150, 90:150], np.stack([_residual(rng) for _ in range(8)])[:, 10:150, 90:150]
    assert part.std() == pytest.approx(expected.std(), rel=0.1)
    for lag in (1, 2):
        correlations = [np.corrcoef(r[:, :, lag:].ravel(), r[:, :, :-lag].ravel())[0, 1] for r in (part, expected)]
        assert correlations[0] == pytest.approx(correlations[1], abs=0.1)


def test_draws_are_whole_hu_that_a_series_can_store_and_a_function_of_the_seed(fitted):
    hu = np.full((40, 37), -1020, np.float32)
    first, again, other = (fitted.draw(hu, seed=seed, number=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first, first.round())
    assert first.min() >= RANGE_HU[0]


def test_what_is_clipped_stays_clipped_and_only_that(fitted):
    rng = np.random.default_rng(4)
    hu = np.clip(_image(rng) - 230, *RANGE_HU)  # lung round the lower end of the range
    hu[:4, 90:] = RANGE_HU[1]
    drawn = fitted.draw(hu, seed=0, number=0)
    is_clipped = (hu == RANGE_HU[0]) | (hu == RANGE_HU[1])
    assert 0.1 < is_clipped.mean() < 0.9
    np.testing.assert_array_equal(drawn[is_clipped], hu[is_clipped])
    assert (drawn != hu)[~is_clipped].mean() > 0.7


@pytest.mark.parametrize("num_slabs", [1, 2, 4])
def test_slices_that_overlap_share_noise(num_slabs):
    """As many slabs as the residuals' correlation tells, and draws that correlate by as much."""
    rng = np.random.default_rng(5)
    slabs = [_residual(rng) for _ in range(8 + num_slabs)]
    residuals = [sum(slabs[z : z + num_slabs]) / np.sqrt(num_slabs) for z in range(8)]
    images = [_image(rng) for _ in residuals]
    targets = [hu + residual for hu, residual in zip(images, residuals, strict=True)]
    neighbours = [(z, z + 1) for z in range(7)]
    fitted = fit_residual_noise(images, targets, range_hu=RANGE_HU, neighbours=neighbours)
    assert fitted.num_pooled == num_slabs
    flat = np.full((160, 160), 40, np.float32)
    drawn = [fitted.draw(flat, seed=0, number=z).ravel() for z in range(6)]
    found = np.mean([np.corrcoef(drawn[z], drawn[z + 1])[0, 1] for z in range(5)])
    assert found == pytest.approx((num_slabs - 1) / num_slabs, abs=0.06)
    assert drawn[0].std() == pytest.approx(fitted.sigma(flat).mean(), rel=0.05)


def test_without_neighbours_nothing_is_shared(fitted):
    assert fitted.num_pooled == 1


def test_a_few_wild_pixels_do_not_widen_a_bin():
    rng = np.random.default_rng(3)
    images = [_image(rng) for _ in range(4)]
    targets = [hu + _residual(rng) for hu in images]
    for target in targets:
        target.ravel()[rng.integers(target.size, size=25)] += 1000  # one in a thousand
    sigma = fit_residual_noise(images, targets, range_hu=RANGE_HU).sigma(images[0])
    assert np.median(sigma[:, 90:150]) == pytest.approx(SIGMA_HU[40.0], rel=0.15)


def test_the_gain_of_what_is_expected_is_found_at_every_frequency():
    """Residuals are 1.5 of a smooth part of what is expected, none of the rest, and noise that is not."""
    rng = np.random.default_rng(6)
    expected = [rng.standard_normal((128, 128)) for _ in range(6)]
    gain = np.where(np.arange(NUM_FREQUENCIES) < 8, 1.5, 0.0)
    residuals = [apply_gain(one, gain) + 0.1 * rng.standard_normal(one.shape) for one in expected]
    found = np.array(fit_mean_gain(residuals, expected))
    np.testing.assert_allclose(found[1:7], 1.5, atol=0.15)
    np.testing.assert_allclose(found[9:], 0, atol=0.1)
    assert (np.array(fit_mean_gain([-one for one in residuals], expected)) < 0.1).all()


def test_without_a_pair_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="at least one pair"):
        fit_residual_noise([], [], range_hu=RANGE_HU)


@pytest.mark.parametrize("shape", [(5, 9), (1, 1)])
def test_any_size(fitted, shape):
    hu = np.zeros(shape, np.float32)
    assert fitted.sigma(hu).shape == fitted.draw(hu, seed=0, number=0).shape == shape
