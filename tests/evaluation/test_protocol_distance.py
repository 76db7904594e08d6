"""Noise level, noise spectrum and edges of two sets of slices: what is changed on purpose is what is found."""

import numpy as np
import pytest
from bodies import SPACING_MM, make_bodies

from ltdiff.evaluation.protocol_distance import NPS, measure_protocol, protocol_curves, protocol_distance

NUM_SLICES = 4


def _measure(slices_hu):
    return measure_protocol(slices_hu, np.tile(SPACING_MM, (len(slices_hu), 1)))


@pytest.fixture(scope="module")
def target():
    return _measure(make_bodies(NUM_SLICES, seed=1))


def test_images_of_one_protocol_are_at_a_small_distance_whoever_they_show(target):
    distances = protocol_distance(_measure(make_bodies(NUM_SLICES, seed=2)), target)
    assert abs(distances["noise_difference"]) < 0.08
    assert distances["nps_difference"] < 0.25
    assert distances["mtf_difference_skin"] < 0.05
    assert distances["mtf_difference_lung"] < 0.08


def test_nothing_is_at_a_distance_from_itself(target):
    assert set(protocol_distance(target, target).values()) == {0.0}


def test_more_noise_is_found_in_level_and_spectrum(target):
    distances = protocol_distance(_measure(make_bodies(NUM_SLICES, seed=1, noise_hu=45.0)), target)
    assert distances["noise_difference"] == pytest.approx(0.5, abs=0.05)
    assert distances["nps_difference"] == pytest.approx(1.25, abs=0.2)
    assert distances["mtf_difference_skin"] < 0.05


def test_a_blur_is_found_at_the_edges(target):
    """At 0.5 cycles/mm Gaussians of 0.8 and 1.2 pixels leave exp(−2π²σ²f²) = .13 and .01, most apart below."""
    distances = protocol_distance(_measure(make_bodies(NUM_SLICES, seed=1, blur_px=1.2)), target)
    frequency = np.linspace(0, 0.5, 200)
    sharp, soft = (np.exp(-2 * (np.pi * 0.8 * blur_px * frequency) ** 2) for blur_px in (0.8, 1.2))
    assert distances["mtf_difference_skin"] == pytest.approx((sharp - soft).max(), abs=0.06)
    assert abs(distances["noise_difference"]) < 0.08


def test_curves_of_all_have_the_same_frequencies(target):
    curves = protocol_curves({"source": _measure(make_bodies(NUM_SLICES, seed=2))}, target)
    assert list(curves["kind"].unique()) == [NPS, "MTF, skin", "MTF, lung"]
    for _, of_kind in curves.groupby("kind"):
        source, wanted = (of_kind.loc[of_kind["method"] == name, "frequency_per_mm"].tolist() for name in ("source", "target"))
        assert source == wanted


def test_slices_without_a_body_have_no_distance(target):
    air = _measure(np.full((2, 96, 96), -1000, np.float32))
    assert all(np.isnan(value) for value in protocol_distance(air, target).values())
    assert protocol_curves({"source": air}, air).empty
    assert set(protocol_curves({"source": air}, target)["method"]) == {"target"}
