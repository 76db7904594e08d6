"""The edge response of bodies that a known filter has blurred, and of simulated patients."""

import json

import numpy as np
import pytest
from scipy import ndimage

from ltdiff.physics.edge_response import EdgeMeter, edge_response

FINER = 4


def _body(sigma_mm, *, spacing_mm=0.8, size=320, shift_mm=(0.0, 0.0), couch=False, noise_hu=1.0, air_hu=-1000.0, seed=0):
    """A body of fat with two lungs, blurred on a finer grid by a Gaussian, then sampled."""
    n = size * FINER
    axis = ((np.arange(n) + 0.5) / FINER - size / 2) * spacing_mm
    y, x = axis[:, None] - shift_mm[0], axis - shift_mm[1]
    hu = np.where((x / 110) ** 2 + (y / 85) ** 2 <= 1, -90.0, air_hu)
    for side in (-1, 1):
        hu[((x - side * 50) / 38) ** 2 + (y / 55) ** 2 <= 1] = -860.0
    if couch:  # thin shells with foam between them, under the back
        for start, end, value in ((83.0, 85.0, 60.0), (85.0, 105.0, -960.0), (105.0, 107.0, 60.0)):
            hu[np.broadcast_to((y > start) & (y < end) & (abs(x) < 100), hu.shape) & (hu == air_hu)] = value
    blurred = ndimage.gaussian_filter(hu.astype(np.float32), sigma_mm / spacing_mm * FINER)
    middle = slice(FINER // 2 - 1, FINER // 2 + 1)
    plane = blurred.reshape(size, FINER, size, FINER)[:, middle, :, middle].mean(axis=(1, 3))
    return plane + np.random.default_rng(seed).normal(0, noise_hu, plane.shape).astype(np.float32)


def _gaussian(sigma_mm, frequencies):
    return np.exp(-2 * (np.pi * sigma_mm * frequencies) ** 2)


@pytest.fixture(scope="module")
def sharp():
    return _body(0.5)


@pytest.mark.parametrize("kind", ["skin", "lung"])
def test_a_gaussian_has_its_mtf_at_both_kinds_of_edges(sharp, kind):
    for sigma_mm, plane in ((0.5, sharp), (0.9, _body(0.9))):
        response = edge_response([plane], (0.8, 0.8), kind=kind)
        assert response.kind == kind
        assert response.mtf[0] == pytest.approx(1)
        assert response.frequencies_per_mm.max() == pytest.approx(0.6)
        np.testing.assert_allclose(response.mtf, _gaussian(sigma_mm, response.frequencies_per_mm), atol=0.02)


def test_pixels_of_two_sizes_are_pooled_in_mm():
    meter = EdgeMeter()
    for spacing_mm, size in ((0.6, 420), (0.9, 280)):
        meter.add(_body(0.7, spacing_mm=spacing_mm, size=size), (spacing_mm, spacing_mm))
    response = meter.response("skin")
    assert response.frequencies_per_mm.max() == pytest.approx(0.55)
    np.testing.assert_allclose(response.mtf, _gaussian(0.7, response.frequencies_per_mm), atol=0.02)


def test_noise_adds_nothing_to_the_response():
    planes = [_body(0.9, noise_hu=60.0, seed=seed) for seed in range(4)]
    response = edge_response(planes, (0.8, 0.8), kind="lung")
    np.testing.assert_allclose(response.mtf, _gaussian(0.9, response.frequencies_per_mm), atol=0.04)


def test_the_side_of_the_couch_is_left_out(sharp):
    free, lying = EdgeMeter(), EdgeMeter()
    free.add(sharp, (0.8, 0.8))
    lying.add(_body(0.5, couch=True), (0.8, 0.8))
    assert 0.5 < lying.num_profiles["skin"] / free.num_profiles["skin"] < 0.95
    np.testing.assert_allclose(lying.response("skin").mtf, free.response("skin").mtf, atol=0.02)


def test_air_at_the_end_of_the_stored_range_is_left_out():
    clipped = np.maximum(_body(0.5, noise_hu=30.0), -1010)
    assert edge_response([clipped], (0.8, 0.8), kind="skin") is None
    assert edge_response([clipped], (0.8, 0.8)).kind == "lung"


def test_a_body_that_the_image_cuts_off_has_edges_where_it_does_not(sharp):
    response = edge_response([sharp[60:-60, 60:-60]] * 4, (0.8, 0.8), kind="skin")
    assert response is None or np.abs(response.mtf - _gaussian(0.5, response.frequencies_per_mm)).max() < 0.05


def test_where_the_field_of_view_ends_is_no_edge(sharp):
    """It is filled with a value that need not be the lowest one, and cuts the body off as no scanner could show it."""
    y, x = np.mgrid[:320, :320] - 160
    filled = np.where(np.hypot(y, x) < 130, sharp, -1024.0)
    filled[160, 160] = -1100.0
    cut, whole = EdgeMeter(), EdgeMeter()
    cut.add(filled, (0.8, 0.8))
    whole.add(sharp, (0.8, 0.8))
    assert 0 < cut.num_profiles["skin"] < whole.num_profiles["skin"]
    np.testing.assert_allclose(cut.response("skin").mtf, whole.response("skin").mtf, atol=0.03)


@pytest.mark.parametrize("plane", [np.full((64, 64), -1000.0), np.full((64, 64), 40.0), np.zeros((8, 8))])
def test_without_edges_there_is_no_response(plane):
    assert edge_response([plane], (0.8, 0.8)) is None


def test_meters_of_parts_are_merged_to_that_of_all(sharp):
    planes = [sharp, _body(0.9)]
    whole, parts = EdgeMeter(), [EdgeMeter(), EdgeMeter()]
    for plane, part in zip(planes, parts, strict=True):
        whole.add(plane, (0.8, 0.8))
        part.add(plane, (0.8, 0.8))
    parts[0].merge(EdgeMeter.from_dict(json.loads(json.dumps(parts[1].to_dict()))))
    for kind in ("skin", "lung"):
        np.testing.assert_allclose(parts[0].response(kind).mtf, whole.response(kind).mtf)
        assert parts[0].num_profiles[kind] == whole.num_profiles[kind]
