"""The phantom of edges: inserts where they are said to be, with their HU, apart from each other."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ltdiff.simulation.edges import CLEARANCE_MM, INSERT_RADIUS_MM, INSERTS_HU, place_inserts, project_inserts
from ltdiff.simulation.reconstruction import reconstruct_pair
from ltdiff.simulation.scanner import Scanner


@pytest.fixture(scope="module")
def image(small_config):
    config = replace(small_config, matrix=256, scanner=Scanner(num_views=400))
    return reconstruct_pair(project_inserts(config), config)[0]


def _mean(image, x_mm, y_mm, half=1):
    column, row = (round(v / (400 / 256)) + 128 for v in (x_mm, y_mm))
    return image[row - half : row + half + 1, column - half : column + half + 1].mean()


def test_inserts_have_their_hu_in_their_background(image):
    for insert in place_inserts():
        assert _mean(image, *insert.centre_mm) == pytest.approx(insert.hu, abs=15)
    (x, y), lung = place_inserts()[1].centre_mm, place_inserts()[1].background_hu
    assert _mean(image, x, y + INSERT_RADIUS_MM + CLEARANCE_MM) == pytest.approx(lung, abs=15)


def test_there_are_several_of_every_kind():
    kinds = [(insert.hu, insert.background_hu) for insert in place_inserts()]
    assert {(hu, background) for background, values in INSERTS_HU.items() for hu in values} == set(kinds)
    assert min(kinds.count(kind) for kind in kinds) >= 8


def test_no_insert_is_near_another():
    centres = np.array([insert.centre_mm for insert in place_inserts()])
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)[~np.eye(len(centres), dtype=bool)]
    assert distances.min() >= 2 * INSERT_RADIUS_MM + CLEARANCE_MM - 1e-9
    radii = sorted({round(float(np.hypot(x + 82, y)), 6) for x, y in centres if x < 0})
    assert all(outer - inner >= 29 for inner, outer in pairwise(radii))


def test_a_small_field_of_view_is_refused(small_config):
    with pytest.raises(ValueError, match="at least 320 mm, not 250 mm"):
        project_inserts(replace(small_config, fov_mm=250.0))
