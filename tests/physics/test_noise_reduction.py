"""Noise filters keep edges; their strength and kind are found from the noise that a protocol leaves."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_reduction import NoiseFilter, diffuse, fit_noise_filters, smooth_total_variation
from ltdiff.physics.noise_windows import NoiseWindows, noise_windows

SPACING_MM = (0.8, 0.8)
NUM_SLICES, SIZE = 2, 320


@pytest.mark.parametrize("smooth", [NoiseFilter("diffusion", 5, edge_hu=40), NoiseFilter("total_variation", 12)])
def test_noise_falls_edges_stay_and_the_mean_is_kept(smooth):
    rng = np.random.default_rng(0)
    step = np.where(np.arange(64) < 32, -800.0, 40.0) * np.ones((64, 1))
    noisy = step + 10 * rng.standard_normal(step.shape)
    smoothed = smooth(noisy)
    assert smoothed[:, :30].std() < 0.6 * noisy[:, :30].std()
    assert smoothed[:, 32].mean() - smoothed[:, 31].mean() == pytest.approx(840, abs=15)
    assert smoothed.mean() == pytest.approx(noisy.mean(), abs=1e-2)


def test_diffusion_is_not_linear():
    noise = 10 * np.random.default_rng(0).standard_normal((32, 32))
    weak, strong = (diffuse(factor * noise, edge_hu=40, num_steps=5).std() / factor for factor in (1, 20))
    assert strong > 1.5 * weak


def test_a_part_of_a_step_of_diffusion_is_between_two_steps():
    noise = 10 * np.random.default_rng(0).standard_normal((32, 32))
    spreads = [diffuse(noise, edge_hu=40, num_steps=num).std() for num in (1, 1.5, 2, 2.001)]
    assert spreads[0] > spreads[1] > spreads[2] > spreads[3]
    assert spreads[2] == pytest.approx(spreads[3], rel=1e-3)


def test_total_variation_lowers_a_step_by_its_weight_over_its_width():
    step = np.where(np.arange(16) < 8, 0.0, 100.0) * np.ones((4, 1))
    smooth = smooth_total_variation(step, weight_hu=16.0, num_iterations=2000)
    np.testing.assert_allclose(smooth, np.where(np.arange(16) < 8, 2.0, 98.0) * np.ones((4, 1)), atol=0.05)


@pytest.fixture(scope="module")
def scans():
    """Soft tissue with coarse structure and the noise of a smooth kernel, of 20 HU."""
    rng, images = np.random.default_rng(0), []
    for _ in range(NUM_SLICES):
        structure = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 12)
        noise = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 0.6)
        images.append((40 + 10 * structure / structure.std() + 20 * noise / noise.std()).astype(np.float32))
    return images


def _quiet(images):
    parts = [noise_windows(image, SPACING_MM, place=noise_place(image, SPACING_MM)) for image in images]
    return NoiseWindows.join(parts).quiet


def _noise(images):
    return _quiet(images).model()


def _fit(scans, wanted):
    return fit_noise_filters(scans, [SPACING_MM] * len(scans), wanted, max_per_mm=0.6)


def test_the_kind_of_filter_and_its_strength_are_found(scans):
    (total_variation,) = _fit(scans[:1], _noise([smooth_total_variation(image, weight_hu=12.0) for image in scans[1:]]))
    assert (total_variation.kind, total_variation.strength) == ("total_variation", pytest.approx(12.0, rel=0.1))
    diffusions = _fit(scans[:1], _noise([diffuse(image, edge_hu=40.0, num_steps=6.0) for image in scans[1:]]))
    assert {one.kind for one in diffusions} == {"diffusion"}
    assert min(abs(np.log(one.edge_hu / 40)) + abs(np.log(one.strength / 6)) for one in diffusions) < 0.5


def test_filters_leave_the_wanted_noise(scans):
    wanted = _noise([ndimage.median_filter(scans[1], 3)])  # which is none of the filters
    found = _fit(scans[:1], wanted)
    assert found
    for one in found:
        left = _quiet([one(image) for image in scans[:1]])
        place, frequencies = np.median(left.place, axis=0), np.arange(0.25, 0.6, 0.05)
        ratio = left.model().at(frequencies, place) / wanted.at(frequencies, place)
        assert np.log(ratio).mean() == pytest.approx(0.0, abs=0.15)


def test_there_is_no_filter_where_noise_is_missing_already_or_not_known(scans):
    assert _fit([0.5 * image for image in scans], _noise(scans)) == ()
    assert _fit([image - 1000 for image in scans], _noise(scans)) == ()  # air has no quiet windows
