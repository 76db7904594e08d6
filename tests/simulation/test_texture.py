import numpy as np
import pytest

from ltdiff.simulation.shapes import Grid
from ltdiff.simulation.texture import Texture

GRID = Grid(512, 1.0)
FIELD = Texture(seed=3, exponent=2.5, min_wavelength_mm=2.0)


def radial_power(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    power = np.abs(np.fft.fft2(image)) ** 2
    index = np.fft.fftfreq(len(image), 1 / len(image))
    ring = np.hypot(index[:, None], index).astype(int)
    counts = np.maximum(np.bincount(ring.ravel()), 1)
    return np.arange(len(counts)), np.bincount(ring.ravel(), power.ravel()) / counts


def test_a_thin_slice_has_zero_mean_and_unit_deviation():
    image = FIELD.slice(GRID, z_mm=3.3, thickness_mm=0.1)
    assert image.mean() == pytest.approx(0, abs=0.02)
    assert image.std() == pytest.approx(1, rel=0.05)


def test_power_follows_the_exponent():
    frequency, power = radial_power(FIELD.slice(GRID, z_mm=0, thickness_mm=0.1))
    band = (frequency > 12) & (frequency < 200)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(1 - FIELD.exponent, abs=0.15)


def test_thick_slices_lose_fine_structure_first():
    _, thin = radial_power(FIELD.slice(GRID, z_mm=0, thickness_mm=0.1))
    _, thick = radial_power(FIELD.slice(GRID, z_mm=0, thickness_mm=10))
    loss = thick / thin
    assert loss[5:8].mean() > 0.7
    assert loss[150:250].mean() < 0.5


def test_neighbouring_slices_share_coarse_structure():
    here, near, far = (FIELD.slice(GRID, z_mm=z, thickness_mm=1).ravel() for z in (0, 1, 100))
    assert np.corrcoef(here, near)[0, 1] > 0.5
    assert abs(np.corrcoef(here, far)[0, 1]) < 0.1


def test_it_is_a_function_of_seed_and_position():
    image = FIELD.slice(GRID, z_mm=-7, thickness_mm=1)
    np.testing.assert_array_equal(image, FIELD.slice(GRID, z_mm=-7, thickness_mm=1))
    other = Texture(seed=4, exponent=2.5, min_wavelength_mm=2.0)
    assert abs(np.corrcoef(image.ravel(), other.slice(GRID, z_mm=-7, thickness_mm=1).ravel())[0, 1]) < 0.1


def test_a_coarser_grid_shows_the_same_field():
    fine = FIELD.slice(GRID, z_mm=0, thickness_mm=1)
    coarse = FIELD.slice(Grid(256, 2.0), z_mm=0, thickness_mm=1)
    assert np.corrcoef(fine[::2, ::2].ravel(), coarse.ravel())[0, 1] > 0.8
