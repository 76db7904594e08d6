"""HistogramMatching matching finds a known monotone curve, and leaves alone what it cannot know."""

import numpy as np
import pytest
from bodies import make_bodies
from tiny_run import write_pairs, write_unpaired

from ltdiff.data.manifest import read_manifest
from ltdiff.methods.histogram_matching import HIGHEST_HU, LOWEST_HU, HistogramMatching, body_values, quantile_curve
from ltdiff.methods.protocol import FitError

GRID_HU = np.arange(LOWEST_HU, HIGHEST_HU + 1)
SPACING_MM = (0.8, 0.7)


def _values(seed, num=200_000):
    """Lung and soft tissue."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(num) < 0.5, rng.normal(-850, 60, num), rng.normal(40, 60, num))


def _change(hu):
    """A monotone curve: contrast and level of another scanner."""
    return 0.9 * hu - 30


def _at(curve, hu):
    return np.interp(hu, GRID_HU, curve)


def test_a_known_monotone_curve_is_found_whoever_is_shown():
    curve = quantile_curve(_change(_values(0)), _values(1))
    for hu in (-950, -850, -750, -50, 40, 120):
        assert _at(curve, _change(hu)) == pytest.approx(hu, abs=4)


def test_the_same_distribution_changes_nothing():
    curve = quantile_curve(_values(0), _values(0))
    np.testing.assert_allclose(curve, GRID_HU, atol=1e-6)


def test_the_curve_is_monotone_and_the_identity_far_beyond_what_is_known():
    curve = quantile_curve(_change(_values(0)) + 400, _values(1))
    assert (np.diff(curve) >= 0).all()
    lowest, highest = -1750, 1750  # what is known ends some 300 HU beyond the middle of lung and of tissue, and was moved by 400
    far = (lowest > GRID_HU) | (highest < GRID_HU)
    np.testing.assert_allclose(curve[far], GRID_HU[far])


def test_a_value_that_many_pixels_have_becomes_the_middle_of_its_quantiles():
    source = np.concatenate([np.full(5000, -1000.0), np.linspace(-100, 100, 5000)])
    target = np.concatenate([np.linspace(-1040, -960, 5000), np.linspace(-100, 100, 5000)])
    assert _at(quantile_curve(source, target), -1000) == pytest.approx(-1000, abs=2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(method, its folder, manifest) of patients who are all others; the source has half the contrast, and 100 HU more."""
    folder = tmp_path_factory.mktemp("histogram")
    sources = [np.round(0.5 * make_bodies(3, seed=seed) + 100) for seed in (1, 2)]
    targets = [make_bodies(3, seed=seed) for seed in (3, 4)]
    manifest = read_manifest(write_unpaired(folder / "data", sources=sources, targets=targets, split="train"))
    method = HistogramMatching()
    method.fit(manifest, folder=folder / "fit")
    return method, folder / "fit", manifest


def test_images_of_other_patients_get_the_target_s_hu(fitted):
    wanted = make_bodies(1, seed=5)
    made = fitted[0].standardize(np.round(0.5 * wanted + 100), SPACING_MM)
    soft, lung = (np.abs(wanted[0] - level) < 40 for level in (40, -850))
    for mask in (soft, lung):
        assert made[0][mask].mean() == pytest.approx(wanted[0][mask].mean(), abs=15)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, made.round())


def test_nothing_outside_the_body_is_changed(fitted):
    source = make_bodies(1, seed=5)
    made = fitted[0].standardize(source, SPACING_MM)
    corner = (slice(None), slice(0, 20), slice(0, 20))
    np.testing.assert_array_equal(made[corner], source[corner])
    air = np.full((1, 64, 64), -1000, np.float32)
    np.testing.assert_array_equal(fitted[0].standardize(air, SPACING_MM), air)
    assert len(body_values(air)) == 0


def test_a_finished_fit_is_read(fitted):
    method, folder, manifest = fitted
    again = HistogramMatching()
    again.fit(manifest, folder=folder)
    np.testing.assert_array_equal(again.curve_hu, method.curve_hu)
    with pytest.raises(ValueError, match="holds work with other settings or data"):
        HistogramMatching().fit(manifest[manifest["slice_index"] > 0], folder=folder)


def test_pairs_serve_as_well(tmp_path):
    target = make_bodies(4, seed=1)
    manifest = read_manifest(write_pairs(tmp_path / "data", volumes=(target + 20, target)))
    method = HistogramMatching()
    method.fit(manifest, folder=tmp_path / "fit")
    assert _at(method.curve_hu, 60) == pytest.approx(40, abs=1)


def test_what_shows_no_body_or_no_source_is_no_reason_to_stop_others(fitted, tmp_path):
    air = np.full((2, 64, 64), -1000, np.float32)
    manifest = read_manifest(write_unpaired(tmp_path / "data", sources=[air], targets=[air], split="train"))
    with pytest.raises(FitError, match="shows a body"):
        HistogramMatching().fit(manifest, folder=tmp_path / "fit")
    targets = manifest[manifest["role"] == "target"]
    with pytest.raises(FitError, match="no source slice in its split 'train'"):
        HistogramMatching().fit(targets, folder=tmp_path / "other")
