"""The scanner against known values: HU of discs, resolution and noise of the kernels."""

import numpy as np
import pytest

from ltdiff.simulation.kernels import BL64_LIKE, BR40_LIKE, STANDARD
from ltdiff.simulation.scanner import Scanner
from ltdiff.simulation.shapes import Ellipsoid, Grid, coverage

MATRIX, FOV_MM = 128, 400.0
KERNELS = (BR40_LIKE, STANDARD, BL64_LIKE)


def paint(grid: Grid, *discs: tuple[float, float, float, float]) -> np.ndarray:
    """Discs (x, y, radius, HU) in air."""
    hu = np.full((grid.size, grid.size), -1000, np.float32)
    x, y = grid.axis_mm, grid.axis_mm[:, None]
    for cx, cy, radius, value in discs:
        fill = coverage(Ellipsoid((cx, cy, 0), radius, radius).distance(x, y, 0.0), grid.pixel_mm)
        hu += fill * (value - hu)
    return hu


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(320, FOV_MM / MATRIX / 2)


@pytest.fixture(scope="module")
def water(grid) -> np.ndarray:
    return paint(grid, (0, 0, 120, 0))


def patch(image: np.ndarray, x_mm: float, y_mm: float, half: int = 4) -> np.ndarray:
    column, row = (round(v / (FOV_MM / MATRIX)) + MATRIX // 2 for v in (x_mm, y_mm))
    return image[..., row - half : row + half + 1, column - half : column + half + 1]


def test_line_integral_through_the_middle_is_diameter_times_attenuation(small_scanner, grid, water):
    sinogram = small_scanner.project(water, pixel_mm=grid.pixel_mm)
    assert sinogram.shape == (small_scanner.num_views, small_scanner.num_detectors)
    middle = sinogram[:, small_scanner.num_detectors // 2]
    np.testing.assert_allclose(middle, 240 * small_scanner.water_attenuation_per_mm, rtol=0.01)


def test_uniform_discs_reconstruct_to_their_hu_where_they_are(small_scanner, grid):
    hu = paint(grid, (0, 0, 150, 0), (60, 40, 30, 100), (-70, -50, 30, -800))
    sinogram = small_scanner.project(hu, pixel_mm=grid.pixel_mm)
    (image,) = small_scanner.reconstruct(sinogram, [BR40_LIKE], matrix=MATRIX, fov_mm=FOV_MM)
    assert patch(image, 60, 40).mean() == pytest.approx(100, abs=5)
    assert patch(image, -70, -50).mean() == pytest.approx(-800, abs=5)
    assert patch(image, 0, 100).mean() == pytest.approx(0, abs=5)
    assert patch(image, 0, -180).mean() == pytest.approx(-1000, abs=5)


def test_several_kernels_at_once_equal_one_after_the_other(small_scanner, grid, water):
    sinogram = small_scanner.project(water, pixel_mm=grid.pixel_mm)
    together = small_scanner.reconstruct(sinogram, KERNELS, matrix=MATRIX, fov_mm=FOV_MM)
    for image, kernel in zip(together, KERNELS, strict=True):
        (alone,) = small_scanner.reconstruct(sinogram, [kernel], matrix=MATRIX, fov_mm=FOV_MM)
        np.testing.assert_allclose(image, alone, atol=0.5)


def test_resolution_and_noise_are_those_of_the_published_model():
    """MTF50 and MTF10 in lp/cm and relative noise of the model's soft, standard and bone windows."""
    scanner, matrix, fov_mm, sigma_mm = Scanner(), 256, 100.0, 0.15
    grid = Grid(256, 0.1)
    x = grid.axis_mm
    blob = -1000 + 1000 * np.exp(-(x**2 + x[:, None] ** 2) / (2 * sigma_mm**2))
    point = scanner.reconstruct(scanner.project(blob, pixel_mm=0.1), KERNELS, matrix=matrix, fov_mm=fov_mm) + 1000
    frequency = np.fft.rfftfreq(matrix, fov_mm / matrix)
    mtf = np.abs(np.fft.rfft(point.sum(axis=1), axis=1)) / np.exp(-2 * (np.pi * frequency * sigma_mm) ** 2)
    mtf /= mtf[:, :1]
    mtf50, mtf10 = (10 * frequency[(mtf < level).argmax(axis=1)] for level in (0.5, 0.1))
    np.testing.assert_allclose(mtf50, [3.6, 4.8, 7.4], atol=0.25)
    np.testing.assert_allclose(mtf10[:2], [6.6, 7.9], atol=0.25)

    noise = np.random.default_rng(0).standard_normal((scanner.num_views, scanner.num_detectors))
    deviation = scanner.reconstruct(noise, KERNELS, matrix=matrix, fov_mm=fov_mm).std(axis=(1, 2))
    np.testing.assert_allclose(deviation[1:] / deviation[0], [1.77 / 1.16, 3.45 / 1.16], rtol=0.05)


def noise_hu(scanner, sinogram, *, dose: float, thickness_mm: float) -> float:
    exposed = scanner.expose(sinogram, dose=dose, thickness_mm=thickness_mm, rng=np.random.default_rng(1))
    (image,) = scanner.reconstruct(exposed - sinogram, [BR40_LIKE], matrix=MATRIX, fov_mm=FOV_MM)
    return float(patch(image, 0, 0, half=15).std())


def test_noise_falls_with_the_root_of_dose_and_thickness(small_scanner, grid, water):
    sinogram = small_scanner.project(water, pixel_mm=grid.pixel_mm)
    reference = noise_hu(small_scanner, sinogram, dose=0.1, thickness_mm=1)
    assert noise_hu(small_scanner, sinogram, dose=0.4, thickness_mm=1) == pytest.approx(reference / 2, rel=0.1)
    assert noise_hu(small_scanner, sinogram, dose=0.1, thickness_mm=4) == pytest.approx(reference / 2, rel=0.1)


def test_two_kernels_share_the_noise(small_scanner, grid, water):
    sinogram = small_scanner.project(water, pixel_mm=grid.pixel_mm)

    def soft_and_sharp(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        exposed = small_scanner.expose(sinogram, dose=0.1, thickness_mm=1, rng=rng)
        images = small_scanner.reconstruct(exposed, [BR40_LIKE, BL64_LIKE], matrix=MATRIX, fov_mm=FOV_MM)
        return patch(images, 0, 0, half=20).reshape(2, -1)

    soft, sharp = soft_and_sharp(0)
    other_soft, _ = soft_and_sharp(1)
    assert np.corrcoef(soft, sharp)[0, 1] > 0.7
    assert abs(np.corrcoef(other_soft, soft)[0, 1]) < 0.2


def test_no_photons_give_finite_values(small_scanner, grid):
    sinogram = small_scanner.project(paint(grid, (0, 0, 200, 3000)), pixel_mm=grid.pixel_mm)
    exposed = small_scanner.expose(sinogram, dose=1e-4, thickness_mm=0.6, rng=np.random.default_rng(0))
    assert np.isfinite(exposed).all()


def test_scan_field_is_a_disc_round_the_isocentre(small_scanner):
    inside = small_scanner.inside_scan_field(matrix=MATRIX, fov_mm=500.0)
    assert inside[MATRIX // 2, MATRIX // 2]
    assert not inside[0, 0]
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.02)


@pytest.mark.parametrize("change", [{"num_detectors": 255}, {"detector_pitch_mm": 0.1}])
def test_detectors_that_do_not_cover_the_field_are_refused(change):
    with pytest.raises(ValueError, match="scan field"):
        Scanner(**change)


@pytest.mark.parametrize(("dose", "thickness_mm"), [(0, 1), (1, -1)])
def test_dose_and_thickness_must_be_positive(small_scanner, dose, thickness_mm):
    with pytest.raises(ValueError, match="positive"):
        small_scanner.expose(np.zeros((2, 2)), dose=dose, thickness_mm=thickness_mm, rng=np.random.default_rng(0))
