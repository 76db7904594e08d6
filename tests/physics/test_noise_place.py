"""Where noise is: the variance of a ray grows with exp(attenuation)."""

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.noise_place import NUM_DIRECTIONS, WATER_PER_MM, directional_noise_place, noise_place


def _disc(radius_mm, *, spacing_mm=(0.8, 0.8), shape=(512, 512), hu=0.0):
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.where(np.hypot(y[:, None] * spacing_mm[0], x * spacing_mm[1]) < radius_mm, hu, -1000.0).astype(np.float32)


def _by_photons(hu, spacing_mm=(0.8, 0.8)):
    return noise_place(hu, spacing_mm)[1]


def test_the_middle_of_a_water_disc_has_the_variance_of_its_diameter():
    for radius_mm in (80.0, 150.0):
        place = _by_photons(_disc(radius_mm))
        assert place[256, 256] == pytest.approx(np.exp(WATER_PER_MM * (2 * radius_mm - 300)), rel=0.05)


def test_it_falls_from_the_middle_to_the_skin():
    place = _by_photons(_disc(150.0))
    profile = place[256, [256, 256 + 94, 256 + 170]]
    assert (np.diff(profile) < 0).all()


def test_pixel_size_and_matrix_change_nothing():
    expected = _by_photons(_disc(120.0))
    other = _by_photons(_disc(120.0, spacing_mm=(1.6, 0.8), shape=(256, 512)), (1.6, 0.8))
    middle = (slice(100, 400, 50), slice(100, 400, 50))
    np.testing.assert_allclose(ndimage.zoom(other, (2, 1), order=1)[middle], expected[middle], rtol=0.05)


def test_shoulders_make_streaks_between_them():
    hu = _disc(100.0)
    for side in (-1, 1):
        hu = np.maximum(hu, np.roll(_disc(40.0, hu=200.0), side * 150, axis=1))
    place = _by_photons(hu)
    assert place[256, 256] > 2 * _by_photons(_disc(100.0))[256, 256]


def test_metal_does_not_overflow():
    hu = _disc(150.0)
    hu[200:300, 200:300] = 30000
    assert np.isfinite(noise_place(hu, (0.8, 0.8))).all()


def test_electronics_count_twice_and_one_source_is_the_same_everywhere():
    same, photons, electronics = noise_place(_disc(150.0), (0.8, 0.8))
    assert np.allclose(same, 1)
    assert electronics[256, 256] > photons[256, 256] ** 2  # the mean of squares


def test_the_noise_of_a_long_body_has_its_frequencies_across_its_long_rays():
    hu = np.full((512, 512), -1000.0, np.float32)
    hu[206:306, 81:431] = 0  # 280 mm wide, 80 mm high
    photons = directional_noise_place(hu, (0.8, 0.8))[1][:, 32, 32]
    along_x, along_y = photons[0], photons[NUM_DIRECTIONS // 2]
    assert along_y > 10 * along_x  # rays along x have detectors along y
    assert photons.mean() == pytest.approx(noise_place(hu, (0.8, 0.8))[1][256, 256], rel=0.1)
