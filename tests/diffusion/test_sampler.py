"""Samplers with the exact denoiser of a Gaussian, z_0 ~ N(0, σ²), against the closed-form recursion of their variance.

The denoiser is linear, E[z_0 | z_t] = g_t·z_t, so one step is z_s = (a·g_t + b)·z_t + c·ε with the coefficients a, b, c of
the posterior, and Var z_s = (a·g_t + b)²·Var z_t + c². All coefficients are written out here once more.
"""

import math
from itertools import pairwise

import pytest
import torch

from ltdiff.diffusion.config import DiffusionConfig, ScheduleConfig
from ltdiff.diffusion.process import make_process
from ltdiff.diffusion.sampler import Sampler

NUM_VALUES = 30_000  # the standard error of a standard deviation is 0.4 %
SIGMA = 1.0


def _linear_alphas_cumprod():
    values = [1.0]
    for t in range(1000):
        values.append(values[-1] * (1 - (1e-4 + (0.02 - 1e-4) * t / 999)))
    return values


class _Chain:
    """The chain's formulas for N(0, σ²)."""

    config = DiffusionConfig(process="ddpm", start_timestep=1000)
    alphas_cumprod = _linear_alphas_cumprod()

    def gain(self, t):
        alpha_bar = self.alphas_cumprod[t]
        return math.sqrt(alpha_bar) * SIGMA**2 / (alpha_bar * SIGMA**2 + 1 - alpha_bar)

    def coefficients(self, t, s):
        alpha_bar_t, alpha_bar_s = self.alphas_cumprod[t], self.alphas_cumprod[s]
        beta = 1 - alpha_bar_t / alpha_bar_s
        of_z0 = math.sqrt(alpha_bar_s) * beta / (1 - alpha_bar_t)
        of_zt = math.sqrt(1 - beta) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        return of_z0, of_zt, math.sqrt(beta * (1 - alpha_bar_s) / (1 - alpha_bar_t))

    def times(self, num_steps):
        return [round(1000 * (num_steps - k) / num_steps) for k in range(num_steps + 1)]

    def start_variance(self):
        return 1 - self.alphas_cumprod[1000]

    def denoise(self, z_t, t):
        t = round(1000 * t[0].item())
        alpha_bar = self.alphas_cumprod[t]
        return [(z - math.sqrt(alpha_bar) * self.gain(t) * z) / math.sqrt(1 - alpha_bar) for z in z_t]


class _Bridge:
    """The bridge's formulas for N(0, σ²) and a source of zeros."""

    def __init__(self, kappa):
        self.kappa = kappa
        self.config = DiffusionConfig(kappa=kappa)

    def gain(self, t):
        return (1 - t) * SIGMA**2 / ((1 - t) ** 2 * SIGMA**2 + self.kappa**2 * t)

    def coefficients(self, t, s):
        return 1 - s / t, s / t, self.kappa * math.sqrt(s * (1 - s / t))

    def times(self, num_steps):
        return [(num_steps - k) / num_steps for k in range(num_steps + 1)]

    def start_variance(self):
        return self.kappa**2

    def denoise(self, z_t, t):
        return [self.gain(t[0].item()) * z for z in z_t]


def _expected_spread(formulas, times):
    variance = formulas.start_variance()
    for t, s in pairwise(times):
        of_z0, of_zt, spread = formulas.coefficients(t, s)
        variance = (of_z0 * formulas.gain(t) + of_zt) ** 2 * variance + spread**2
    return math.sqrt(variance)


def _sample_spread(sampler, formulas, seed=0):
    source = [torch.zeros(1, 1, 1, NUM_VALUES)]
    (z,) = sampler.sample(formulas.denoise, source, generator=torch.Generator().manual_seed(seed))
    assert abs(z.mean().item()) <= 5 * z.std().item() / math.sqrt(NUM_VALUES)
    return z.std().item()


@pytest.mark.parametrize("formulas", [_Chain(), _Bridge(0.3), _Bridge(1.0)], ids=["ddpm", "bridge", "wide bridge"])
@pytest.mark.parametrize("num_steps", [50, 10, 4, 1])
def test_spread_follows_the_recursion(formulas, num_steps):
    sampler = Sampler(make_process(formulas.config), num_steps=num_steps)
    expected = _expected_spread(formulas, formulas.times(num_steps))
    assert _sample_spread(sampler, formulas) == pytest.approx(expected, rel=0.015, abs=1e-6)


@pytest.mark.parametrize("formulas", [_Chain(), _Bridge(0.3)], ids=["ddpm", "bridge"])
def test_a_thousand_steps_give_the_true_spread(formulas):
    expected = _expected_spread(formulas, formulas.times(1000))
    assert expected == pytest.approx(SIGMA, rel=0.005)
    sampler = Sampler(make_process(formulas.config), num_steps=1000)
    assert _sample_spread(sampler, formulas) == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize(("num_calls", "spread"), [(50, 0.925), (10, 0.722), (4, 0.472)])
def test_few_steps_lose_spread_as_is_known(num_calls, spread):
    """The figures hold for a unit Gaussian and times evenly spaced from T to 1, as strided samplers that count from 0 take
    them: their last call only goes from 1 to 0."""
    formulas = _Chain()
    sampler = Sampler(make_process(formulas.config), num_steps=num_calls)
    sampler.times = torch.cat([torch.linspace(1000, 1, num_calls).round(), torch.zeros(1)])
    assert _expected_spread(formulas, [int(t) for t in sampler.times]) == pytest.approx(spread, abs=5e-4)
    assert _sample_spread(sampler, formulas) == pytest.approx(spread, rel=0.015)


@pytest.mark.parametrize(("num_steps", "spread"), [(50, 0.926), (10, 0.741), (4, 0.551), (1, 0.006)])
def test_spread_that_few_steps_of_the_chain_keep(num_steps, spread):
    """With evenly long steps down to 0 no call is spent on the last thousandth."""
    formulas = _Chain()
    assert _expected_spread(formulas, formulas.times(num_steps)) == pytest.approx(spread, abs=6e-4)


# --- what holds for any network ---------------------------------------------------------------------------------------

CONFIGS = {
    "bridge": DiffusionConfig(),
    "ddpm": DiffusionConfig(process="ddpm"),
    "printed": DiffusionConfig(
        process="ddpm", paper_start=True, schedule=ScheduleConfig(num_train_timesteps=100), start_timestep=40
    ),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def _latents(batch_size=2):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(batch_size, c, n, n, generator=generator) for c, n in ((3, 8), (2, 4))]


def _no_change(z_t, t):
    return [torch.zeros_like(z) for z in z_t]


def _some_network(z_t, t):
    return [torch.tanh(z) * (1 + t[:, None, None, None]) for z in z_t]


def _sample(config, *, denoise=_some_network, seed=0, source=None, num_steps=5):
    sampler = Sampler(make_process(config), num_steps=num_steps)
    return sampler.sample(denoise, source or _latents(), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 10, 50])
def test_an_untrained_bridge_returns_the_source(num_steps):
    source = _latents()
    for z, a in zip(_sample(DiffusionConfig(), denoise=_no_change, num_steps=num_steps), source, strict=True):
        assert torch.equal(z, a)


@every_config
def test_a_seed_fixes_the_draw(config):
    first, again, other = _sample(config), _sample(config), _sample(config, seed=1)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@every_config
def test_samples_of_a_batch_do_not_mix(config):
    changed = [torch.cat([z[:1], z[1:] + 1]) for z in _latents()]
    for a, b in zip(_sample(config), _sample(config, source=changed), strict=True):
        assert torch.equal(a[0], b[0])
        assert not torch.equal(a[1], b[1])


@every_config
def test_the_network_sees_every_time_once(config):
    seen = []

    def denoise(z_t, t):
        seen.append(t)
        return _no_change(z_t, t)

    _sample(config, denoise=denoise, num_steps=4)
    process = make_process(config)
    torch.testing.assert_close(torch.stack(seen)[:, 0], process.unit_time(process.time_grid(4)[:-1]))
    assert all(t.shape == (2,) for t in seen)


def test_the_printed_start_is_the_source_plus_unit_noise():
    seen = []

    def denoise(z_t, t):
        seen.extend(z_t)
        return _no_change(z_t, t)

    _sample(CONFIGS["printed"], denoise=denoise, num_steps=1, seed=7)
    generator = torch.Generator().manual_seed(7)
    for z, a in zip(seen, _latents(), strict=True):
        torch.testing.assert_close(z, a + torch.randn(a.shape, generator=generator))


def test_the_last_step_adds_no_noise():
    z_0 = _latents()
    process = make_process(CONFIGS["bridge"])
    source = [torch.zeros_like(z) for z in z_0]
    for z, expected in zip(_sample(CONFIGS["bridge"], denoise=lambda *_: z_0, source=source), z_0, strict=True):
        assert torch.equal(z, process.predict_z0(expected, z_t=z, source=torch.zeros_like(z), t=torch.ones(2)))
