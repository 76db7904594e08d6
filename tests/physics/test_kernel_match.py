"""The linear kernel match: it finds a known filter, at any PixelSpacing, and does no harm at borders, in air or at DC."""

import numpy as np
import pytest
import torch

from ltdiff.physics.kernel_match import NUM_KNOTS, KernelMatch, KernelMatchFit, corner_frequency
from ltdiff.physics.spectrum import radial_frequency

FITTED_MM, OTHER_MM = (0.7, 0.7), (0.9, 0.8)


def _response(frequency):
    """Sharpens up to 0.35 cycles/mm, then falls off."""
    return (1 + 6 * frequency**2) * np.exp(-((frequency / 0.45) ** 4))


def _noise(seed, shape=(192, 160)):
    return np.random.default_rng(seed).normal(-500, 100, shape).astype(np.float32)


def _filtered(image, spacing_mm):
    spectrum = np.fft.fft2(image) * _response(radial_frequency(image.shape, spacing_mm))
    return np.fft.ifft2(spectrum).real.astype(np.float32)


def _fit(pairs, spacing_mm=FITTED_MM):
    fit = KernelMatchFit(max_frequency=corner_frequency(spacing_mm))
    for source, target in pairs:
        fit.add(source, target, spacing_mm=spacing_mm)
    return fit.solve()


def _unclipped(match):
    match.range_hu.copy_(torch.tensor([-5000, 5000]))
    return match


@pytest.fixture(scope="module")
def match():
    return _unclipped(_fit((a, _filtered(a, FITTED_MM)) for a in map(_noise, range(4))))


def _transfer_function(match, spacing_mm, size=255):
    """(frequencies, gains) of the response to one bright pixel, whose own spectrum is flat."""
    impulse = torch.zeros(size, size)
    impulse[size // 2, size // 2] = 1000
    response = match(impulse, spacing_mm).numpy() / 1000
    gain = np.fft.fft2(np.fft.ifftshift(response)).real
    return radial_frequency((size, size), spacing_mm), gain


@pytest.mark.parametrize("spacing_mm", [FITTED_MM, OTHER_MM, (1.2, 1.2)])
def test_a_known_filter_is_found_and_carries_over_to_another_spacing(match, spacing_mm):
    frequency, gain = _transfer_function(match, spacing_mm)
    np.testing.assert_allclose(gain, _response(frequency), rtol=0, atol=0.05)
    assert np.abs(gain - _response(frequency)).mean() < 0.01


def test_it_maps_unseen_noise_at_another_spacing(match):
    source = _noise(9)
    error = match(torch.from_numpy(source), OTHER_MM).numpy() - _filtered(source, OTHER_MM)
    assert error[32:-32, 32:-32].std() < 0.02 * source.std()


def test_the_mean_is_kept(match):
    assert match.gains[0].item() == pytest.approx(1, abs=1e-3)
    for value in (-1000.0, -500.0, 40.0):
        matched = match(torch.full((40, 50), value), FITTED_MM)
        torch.testing.assert_close(matched, torch.full((40, 50), value), rtol=0, atol=1)


def test_noise_that_the_target_lacks_is_suppressed():
    """Where the source holds noise of its own, the gain is Wiener's P / (P + N)."""
    rng = np.random.default_rng(0)
    targets = [_noise(seed) for seed in range(4)]
    match = _fit((b + rng.normal(0, 100, b.shape).astype(np.float32), b) for b in targets)
    assert match.gains[1:].mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shape", [(64, 64), (37, 61), (5, 3), (1, 1)])
def test_untrained_it_changes_nothing(shape):
    image = torch.from_numpy(_noise(0, shape)).round()
    torch.testing.assert_close(KernelMatch()(image, FITTED_MM), image, rtol=0, atol=1e-2)


def test_slices_may_be_stacked(match):
    images = torch.from_numpy(np.stack([_noise(seed, (40, 50)) for seed in range(6)])).view(2, 3, 40, 50)
    stacked = match(images, FITTED_MM)
    assert stacked.shape == images.shape
    torch.testing.assert_close(stacked[1, 2], match(images[1, 2], FITTED_MM), rtol=1e-5, atol=1e-3)


def test_borders_do_not_wrap_around(match):
    """Air on the left and bone on the right: neither leaks to the other side."""
    image = torch.full((64, 128), -1000.0)
    image[:, 64:] = 1000
    matched = match(image, FITTED_MM)
    assert (matched[:, :16] + 1000).abs().max() < 5
    assert (matched[:, -16:] - 1000).abs().max() < 5


def test_results_stay_in_the_target_s_range():
    targets = [_filtered(_noise(seed), FITTED_MM).clip(-600, -350) for seed in range(2)]
    match = _fit(zip(map(_noise, range(2)), targets, strict=True))
    assert match.range_hu.tolist() == [-600, -350]
    matched = match(torch.from_numpy(_noise(5)), FITTED_MM)
    assert (matched.min().item(), matched.max().item()) == (-600, -350)


def test_slices_of_air_alone_are_no_obstacle():
    air = np.full((192, 160), -1000, np.float32)
    match = _unclipped(_fit([(air, air), (_noise(0), _filtered(_noise(0), FITTED_MM))]))
    frequency, gain = _transfer_function(match, FITTED_MM)
    np.testing.assert_allclose(gain[frequency > 0.05], _response(frequency)[frequency > 0.05], rtol=0, atol=0.1)


@pytest.mark.parametrize("clipped_hu", [-1024, -560])
def test_clipped_pixels_do_not_bend_the_fit(clipped_hu):
    """Noise in air is cut off at the lowest value that the target stores; at −560 HU that is so in every window."""

    def pair(seed):
        source = _noise(seed)
        source[:, :64] -= 500
        return source, _filtered(source, FITTED_MM).clip(clipped_hu)

    fitted = _unclipped(_fit(map(pair, range(4))))
    frequency, gain = _transfer_function(fitted, FITTED_MM)
    error = np.abs(gain - _response(frequency)).mean()
    assert error < 0.02 if clipped_hu == -1024 else 0.05 < error < 0.5  # what is lost everywhere cannot be found


def test_knots_that_no_frequency_reached_keep_their_neighbour_s_gain():
    fit = KernelMatchFit(max_frequency=2 * corner_frequency(FITTED_MM))
    fit.add(_noise(0), 0.5 * _noise(0), spacing_mm=FITTED_MM)
    torch.testing.assert_close(fit.solve().gains, torch.full((NUM_KNOTS,), 0.5, dtype=torch.float64), rtol=0, atol=1e-6)


def test_what_cannot_be_fitted_is_refused():
    fit = KernelMatchFit(max_frequency=1.0)
    with pytest.raises(ValueError, match=r"\(192, 160\) and target \(8, 8\)"):
        fit.add(_noise(0), _noise(0, (8, 8)), spacing_mm=FITTED_MM)
    with pytest.raises(ValueError, match="at least one slice pair"):
        fit.solve()


def test_corner_frequency_bounds_all_frequencies():
    frequency = radial_frequency((64, 64), OTHER_MM)
    assert frequency.max() == pytest.approx(corner_frequency(OTHER_MM))
    assert frequency[0, 0] == 0


def test_the_range_ends_where_the_target_is_saturated():
    fit = KernelMatchFit(max_frequency=corner_frequency(FITTED_MM))
    noise = _noise(0)
    fit.add(noise, noise.clip(-550, None), spacing_mm=FITTED_MM)
    assert fit.solve().range_hu.tolist() == [-550, 3071]  # its largest value is one voxel's, not the scanner's end


def test_a_few_saturated_slices_are_enough_and_a_larger_value_elsewhere_refutes_them():
    """Metal, saturated at 2976 HU, is in one slice of many; the others say nothing of the end."""
    fit = KernelMatchFit(max_frequency=corner_frequency(FITTED_MM))
    noise = _noise(0).clip(-1000, None)
    metal = noise.copy()
    metal[:6, :6] = 2976
    for target in (noise, metal, noise):
        fit.add(noise, target, spacing_mm=FITTED_MM)
    assert fit.solve().range_hu[1] == 2976
    beyond = noise.copy()
    beyond[0, 0] = 3000
    fit.add(noise, beyond, spacing_mm=FITTED_MM)
    assert fit.solve().range_hu[1] == 3071
