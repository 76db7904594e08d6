"""The spectral match finds a known filter from other images than it was applied to, whatever they show of which tissue."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics import spectral_match
from ltdiff.physics.spectral_match import SpectralMatchFit
from ltdiff.physics.spectrum import radial_frequency

FREQUENCIES_PER_MM = np.arange(0.1, 0.56, 0.05)
SPACING_MM = (0.8, 0.8)


def _response(frequency):
    return (1 + 12 * frequency**2) * np.exp(-((frequency / 0.6) ** 4))


def _image(seed, *, spacing_mm=SPACING_MM, lung_share=0.4, size=320, noise=8.0):
    """Lung and soft tissue, each with a texture of its own in mm, and noise."""
    rng = np.random.default_rng(seed)
    frequency = np.maximum(radial_frequency((size, size), spacing_mm), 0.01)
    white = [np.fft.fft2(rng.normal(size=(size, size))) / np.sqrt(np.prod(spacing_mm)) for _ in range(3)]
    lung, soft, grain = (
        np.fft.ifft2(one * amplitude * frequency**-slope).real
        for one, amplitude, slope in zip(white, (5.0, 1.2, noise), (1.0, 1.0, 0.0), strict=True)
    )
    border = ndimage.gaussian_filter(rng.normal(size=(size, size)), 32 / spacing_mm[0])
    is_lung = border < np.quantile(border, lung_share)
    return np.where(is_lung, -850 + lung, 40 + soft) + grain


def _filtered(image, spacing_mm=SPACING_MM):
    return np.fft.ifft2(np.fft.fft2(image) * _response(radial_frequency(image.shape, spacing_mm))).real


def _fit(sources, targets, *, spacing_mm=SPACING_MM, target_spacing_mm=SPACING_MM):
    fit = SpectralMatchFit()
    for series, image in enumerate(sources):
        fit.add("source", np.rint(image).astype(np.float32), spacing_mm=spacing_mm, series=series)
    for series, image in enumerate(targets):
        fit.add(
            "target", np.rint(_filtered(image, target_spacing_mm)).astype(np.float32), spacing_mm=target_spacing_mm, series=series
        )
    return fit.solve()


def _largest_error(match):
    return np.abs(np.log(match.gain(FREQUENCIES_PER_MM) / _response(FREQUENCIES_PER_MM))).max()


def test_the_filter_is_found_from_other_images():
    assert _largest_error(_fit(map(_image, range(4)), map(_image, range(10, 14)))) < 0.06


def test_more_lung_on_one_side_does_not_look_like_a_kernel(monkeypatch):
    sources = [_image(seed, lung_share=0.25) for seed in range(4)]
    targets = [_image(seed, lung_share=0.7) for seed in range(10, 14)]
    monkeypatch.setattr(spectral_match, "LARGEST_ERROR", np.inf)
    error = _largest_error(_fit(sources, targets))
    monkeypatch.setattr(spectral_match, "MIN_WINDOWS", np.inf)  # then all windows are of one class
    assert error < 0.35 * _largest_error(_fit(sources, targets))


def test_pixels_may_differ_in_size():
    targets = [_image(seed, spacing_mm=(0.65, 0.65), size=400) for seed in range(10, 14)]
    assert _largest_error(_fit(map(_image, range(4)), targets, target_spacing_mm=(0.65, 0.65))) < 0.08


def test_one_slice_on_each_side_is_enough_to_begin():
    assert _largest_error(_fit([_image(0)], [_image(10)])) < 0.2


def test_the_gain_at_frequency_0_is_1_and_beyond_the_nyquist_frequency_it_stays():
    match = _fit([_image(0)], [_image(10)])
    assert match.gain(np.zeros(1)) == pytest.approx(1.0)
    limit, beyond = match.gain(np.array([0.625, 0.8]))
    assert limit == pytest.approx(beyond)


def test_the_bootstrap_holds_the_error():
    match = _fit(map(_image, range(4)), map(_image, range(10, 14)))
    spread = np.std([np.log(match.gain(FREQUENCIES_PER_MM, draw)) for draw in match.draws], axis=0)
    error = np.abs(np.log(match.gain(FREQUENCIES_PER_MM) / _response(FREQUENCIES_PER_MM)))
    assert np.mean(error) < 5 * np.mean(spread) + 0.02
    assert spread.max() < 0.15


def test_of_a_noise_reduced_source_structure_alone_tells_the_filter():
    """Noise of which only coarse grains are left over: taken for the filter, its ratio would be off by far."""
    rng = np.random.default_rng(0)
    sources = [_image(seed, noise=0.2) + 4 * ndimage.gaussian_filter(rng.normal(0, 8, (320, 320)), 1.5) for seed in range(4)]
    match = _fit(sources, map(_image, range(10, 14)))
    assert _largest_error(match) < 0.2
    assert match.noise_match is not None
    assert match.noise_match.is_reduced


def test_made_sources_have_the_source_s_spectrum_and_a_draw_each():
    match = _fit(map(_image, range(4)), map(_image, range(10, 14)))
    target = np.rint(_filtered(_image(20))).astype(np.float32)
    degradation = match.degradation()
    degrade = degradation(target, SPACING_MM)
    made = [degrade(target, (0, 0), np.random.default_rng(k)) for k in range(4)]
    inside = (slice(40, -40), slice(40, -40))
    for one in made:
        assert np.abs(one - _image(20))[inside].mean() < 0.2 * np.abs(target - _image(20))[inside].mean()
        assert (one == np.rint(one)).all()
    assert any((one != made[0]).any() for one in made[1:])


@pytest.mark.parametrize("missing", ["source", "target"])
def test_a_side_that_shows_no_patient_is_named(missing):
    fit = SpectralMatchFit()
    for role in ("source", "target"):
        image = np.full((128, 128), -1000.0) if role == missing else _image(0, size=128)
        fit.add(role, image.astype(np.float32), spacing_mm=SPACING_MM, series=0)
    with pytest.raises(ValueError, match=f"at least one slice of the {missing} that shows a patient"):
        fit.solve()


def test_what_cannot_be_told_apart_is_refused():
    fit = SpectralMatchFit()
    for role, seeds in (("source", range(4)), ("target", range(10, 14))):
        for seed in seeds:
            fit.add(role, np.rint(_image(seed)).astype(np.float32), spacing_mm=SPACING_MM, series=seed)
    with pytest.raises(ValueError, match="cannot be told apart"):
        fit.solve()


def test_too_uncertain_a_match_says_how_many_slices_are_needed(monkeypatch):
    monkeypatch.setattr(spectral_match, "LARGEST_ERROR", 1e-3)
    with pytest.raises(ValueError, match="2 slices of the source and 3 of the target are too few"):
        _fit([_image(seed) for seed in range(2)], [_image(seed) for seed in range(10, 13)])


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_noise_of_another_dose_does_not_look_like_a_kernel(factor):
    sources = [_image(seed) for seed in range(4)]
    targets = [_image(seed, noise=8.0 * factor) for seed in range(10, 14)]
    match = _fit(sources, targets)
    assert match.noise_match is not None
    assert match.log_noise_factor == pytest.approx(2 * np.log(factor), abs=0.5)
    assert _largest_error(match) < 0.3
