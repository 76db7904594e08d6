import numpy as np
import pytest

from ltdiff.simulation.shapes import Grid
from ltdiff.simulation.vessels import Tubes, accompany, grow_tree, merge

GRID = Grid(256, 0.25)


def straight(direction: tuple[float, float, float], radius_mm: float) -> Tubes:
    """A tube of 20 mm through the isocentre."""
    t = np.linspace(-10, 10, 400)[:, None]
    points = t * np.array(direction)
    return Tubes(points[points[:, 2].argsort()], np.full(400, radius_mm), np.full(400, 0.05))


def test_a_tube_along_z_is_a_disc():
    fill = straight((0, 0, 1), 3.0).fill(GRID, z_mm=0, thickness_mm=2)
    assert fill.sum() * GRID.pixel_mm**2 == pytest.approx(np.pi * 9, rel=0.05)
    assert fill[128, 128] == pytest.approx(1, abs=0.05)
    assert fill[128, 128 + 16] < 0.05


def test_a_thin_tube_in_the_slice_keeps_its_volume():
    fill = straight((1, 0, 0), 0.3).fill(GRID, z_mm=0, thickness_mm=5)
    assert fill.sum() * GRID.pixel_mm**2 * 5 == pytest.approx(np.pi * 0.09 * 20, rel=0.1)


def test_a_tube_outside_the_slice_is_not_seen():
    assert straight((1, 0, 0), 1.0).fill(GRID, z_mm=10, thickness_mm=5).max() < 1e-4


def test_a_tree_reaches_its_targets_with_radii_that_follow_murray():
    rng = np.random.default_rng(0)
    targets = rng.uniform(-30, 30, (64, 3))
    tree = grow_tree(np.zeros(3), targets, leaf_radius_mm=0.5, rng=rng)
    nearest = np.linalg.norm(targets[:, None] - tree.points_mm, axis=2).min(axis=1)
    assert nearest.max() < 0.5
    radii = np.unique(tree.radius_mm)
    np.testing.assert_allclose(radii[1:] / radii[:-1], 2 ** (1 / 2.7), rtol=1e-4)
    assert radii[0] == pytest.approx(0.5)
    assert (np.diff(tree.points_mm[:, 2]) >= 0).all()


def test_bronchi_run_beside_wide_vessels_only():
    tubes = merge(straight((0, 0, 1), 3.0), straight((0, 0, 1), 0.5))
    beside = accompany(tubes, min_radius_mm=1.0, relative_radius=1.0)
    assert len(beside.radius_mm) == 400
    assert (beside.points_mm[:, 1] > 3).all()
