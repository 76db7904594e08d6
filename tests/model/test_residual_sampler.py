"""Draws around A': Gaussian without a flow, and with one the spectrum of real residuals."""

import copy

import numpy as np
import pytest
import torch
from tiny_run import tiny_settings

from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.residual_model import FlowUse, ResidualModel
from ltdiff.model.residual_noise import apply_gain, fit_flow_gain, fit_residual_noise
from ltdiff.model.residual_sampler import ResidualSampler

RANGE_HU = (-1024.0, 3071.0)


@pytest.fixture(scope="module")
def mean():
    return np.random.default_rng(1).normal(0, 100, (64, 64)).round().astype(np.float32)


@pytest.fixture(scope="module")
def noise(mean):
    random = np.random.default_rng(0)
    return fit_residual_noise([mean], [mean + random.normal(0, 20, mean.shape).astype(np.float32)], range_hu=RANGE_HU)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LTDiff(tiny_settings().model).eval()


@pytest.fixture(scope="module")
def sampler(noise, model):
    """Of a flow that is not trained."""
    return ResidualSampler(ResidualModel(noise, FlowUse(noise, gain=(1.0,) * 24)), model, "fp32")


@pytest.fixture(scope="module")
def trained(model):
    """The model with a flow whose residuals are neither 0 nor what it starts from."""
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    torch.nn.init.normal_(other.residual_flow.leave.weight, std=0.05)
    return other


@pytest.mark.parametrize("flow", [False, True])
def test_without_a_gain_the_noise_is_gaussian_round_the_mean(mean, noise, model, flow):
    drawn = ResidualSampler(ResidualModel(noise, FlowUse(noise) if flow else None), model).draw(mean, mean, seed=3, number=7)
    np.testing.assert_array_equal(drawn, noise.draw(mean, seed=3, number=7))


def test_an_untrained_flow_of_gain_one_draws_what_its_noise_does(mean, noise, sampler):
    drawn = sampler.draw(mean, mean, seed=3, number=7)
    np.testing.assert_allclose(drawn, noise.draw(mean, seed=3, number=7), atol=1)


def test_a_draw_is_a_function_of_seed_and_number(mean, sampler):
    first, again, seed, number = (sampler.draw(mean, mean, seed=s, number=n) for s, n in ((0, 1), (0, 1), (1, 1), (0, 2)))
    np.testing.assert_array_equal(first, again)
    assert (first != seed).any()
    assert (first != number).any()


def test_draws_are_those_of_one_at_a_time_however_many_workers(mean, sampler):
    means, matched = [mean, mean + 1], [mean, mean - 3]
    one, two = (list(sampler.draws(means, matched, numbers=[4, 5], num=2, num_workers=workers)) for workers in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[1][1], sampler.draw(means[1], matched[1], seed=1, number=5))


def test_clipped_pixels_stay(noise, trained):
    air = np.full((64, 64), -1024, np.float32)
    sampler = ResidualSampler(ResidualModel(noise, FlowUse(noise, mean_gain=(1.0,) * 24, gain=(1.0,) * 24)), trained)
    np.testing.assert_array_equal(sampler.draw(air, air, seed=0, number=0), air)
    np.testing.assert_array_equal(sampler.mean(air, air), air)


def test_the_mean_is_corrected_where_that_is_of_use_and_gaussian_noise_is_round_it(mean, noise, trained):
    kept, corrected = (ResidualSampler(ResidualModel(noise, FlowUse(noise, gain)), trained, "fp32") for gain in ((), (0.8,) * 24))
    np.testing.assert_array_equal(kept.mean(mean, mean), mean)
    found = corrected.mean(mean, mean)
    expected = 0.8 * noise.whitening(mean) * corrected.expect_whitened(mean, mean)
    assert np.abs(expected).mean() > 1
    np.testing.assert_allclose(found, mean + expected, atol=0.51)
    np.testing.assert_array_equal(corrected.draw(mean, mean, seed=1, number=2), noise.draw(found, seed=1, number=2))


def test_the_gain_gives_what_is_drawn_the_spectrum_of_the_residuals(noise):
    random = np.random.default_rng(0)
    drawn = [random.normal(0, 0.5, (128, 128)) for _ in range(4)]
    real = [noise.texture(random.standard_normal((128, 128))) * 1.1 for _ in range(4)]
    gain = fit_flow_gain(real, drawn)
    corrected = [apply_gain(one, np.asarray(gain)) for one in drawn]
    again = np.array(fit_flow_gain(real, corrected))
    assert np.var(corrected) == pytest.approx(np.var(real), rel=0.05)
    np.testing.assert_allclose(again, 1, atol=0.15)
