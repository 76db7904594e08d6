import numpy as np
import pytest

from ltdiff.simulation.lesions import DIAMETER_RANGE_MM, LESION_HU, SHAPES, Lesion, draw_lesions
from ltdiff.simulation.shapes import Grid

GRID = Grid(128, 0.5)


def everywhere(x, y, z):
    """A lung without end."""
    return np.full(np.broadcast(x, y, z).shape, 1000.0)


@pytest.fixture(scope="module")
def lesions() -> list[Lesion]:
    rng = np.random.default_rng(0)
    return draw_lesions(40, z_range_mm=(-200, 200), lung_distance=everywhere, rng=rng)


def test_every_density_and_shape_occurs(lesions):
    assert len(lesions) == 40
    assert {lesion.hu for lesion in lesions} == set(LESION_HU)
    assert {lesion.shape for lesion in lesions} == set(SHAPES)
    assert {lesion.textured for lesion in lesions} == {True, False}
    assert [lesion.label for lesion in lesions] == list(range(1, 41))


def test_they_are_apart_and_within_range(lesions):
    centres = np.array([lesion.centre_mm for lesion in lesions])
    reach = np.array([lesion.diameter_mm / 2 for lesion in lesions])
    gap = np.linalg.norm(centres[:, None] - centres, axis=2) - reach[:, None] - reach
    assert gap[~np.eye(len(lesions), dtype=bool)].min() > 0
    assert (2 * reach >= DIAMETER_RANGE_MM[0]).all()
    assert (2 * reach <= DIAMETER_RANGE_MM[1]).all()


def test_the_diameter_is_the_longest_extent(lesions):
    directions = np.random.default_rng(1).normal(size=(3, 3000))
    directions /= np.linalg.norm(directions, axis=0)
    radii = np.linspace(0, 11, 56)
    for lesion in lesions[:16]:
        points = (c + d[:, None] * radii for c, d in zip(lesion.centre_mm, directions, strict=True))
        inside = lesion.distance(*points) > 0
        longest = radii[inside.any(axis=0)].max()
        assert longest <= lesion.diameter_mm / 2 + 0.2
        assert longest >= 0.75 * lesion.diameter_mm / 2


def test_a_sphere_fills_its_volume():
    sphere = Lesion(1, -10.0, 12.0, "spherical", False, (1.0, -2.0, 0.0), np.zeros((0, 4)))
    slices = [sphere.fill(GRID, z_mm=z, thickness_mm=2).sum() for z in np.arange(-7, 8, 2)]
    assert sum(slices) * 2 * GRID.pixel_mm**2 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)


def test_no_room_means_fewer_lesions():
    def nowhere(x, y, z):
        return -everywhere(x, y, z)

    assert draw_lesions(3, z_range_mm=(0, 1), lung_distance=nowhere, rng=np.random.default_rng(0)) == []
