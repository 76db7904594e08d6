"""Both processes: marginals, posteriors and starts against their formulas, exactly, in float64.

add_noise, step and start are affine in their noise, so eps = 0 gives the mean and the difference to eps = 1 the spread.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.diffusion.config import DiffusionConfig, ScheduleConfig
from ltdiff.diffusion.process import DDPM, Bridge, make_process

KAPPA = 0.3
Z_0, SOURCE = 1.7, -0.6
COSINE = ScheduleConfig(family="cosine")
PROCESSES = {
    "bridge": DiffusionConfig(kappa=KAPPA),
    "ddpm": DiffusionConfig(process="ddpm"),
    "cosine": DiffusionConfig(process="ddpm", schedule=COSINE, start_timestep=900),
    "printed": DiffusionConfig(process="ddpm", paper_start=True),
}
every_process = pytest.mark.parametrize("process", [make_process(c) for c in PROCESSES.values()], ids=PROCESSES)


def _value(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def _time(process, fraction):
    """A time in (0, t_max]: a whole one for the chain."""
    t = fraction * process.t_max
    return torch.tensor([t if isinstance(process, Bridge) else max(1.0, round(t))], dtype=torch.float64)


def _mean_and_spread(draw):
    mean = draw(_value(0.0)).item()
    return mean, draw(_value(1.0)).item() - mean


def _marginal(process, t):
    return _mean_and_spread(lambda eps: process.add_noise(_value(Z_0), source=_value(SOURCE), t=t, eps=eps))


def _expected_marginal(process, t):
    t = t.item()
    if isinstance(process, Bridge):
        return (1 - t) * Z_0 + t * SOURCE, KAPPA * math.sqrt(t)
    alpha_bar = math.prod(1 - beta for beta in process.schedule.betas[: int(t) + 1].tolist())
    return math.sqrt(alpha_bar) * Z_0, math.sqrt(1 - alpha_bar)


def _step(process, t, s):
    """(weight of z_t, rest of the mean, spread) of one step from t to s with the true z_0."""

    def draw(eps, z_t=0.0):
        return process.step(_value(z_t), z_0=_value(Z_0), t=t, s=s, eps=eps)

    rest, spread = _mean_and_spread(draw)
    return draw(_value(0.0), 1.0).item() - rest, rest, spread


fractions = st.floats(0.01, 1)


@every_process
@given(fraction=fractions)
def test_marginal(process, fraction):
    t = _time(process, fraction)
    assert _marginal(process, t) == pytest.approx(_expected_marginal(process, t), rel=1e-9, abs=1e-9)


@every_process
@given(fraction=fractions, rest=st.floats(0.01, 0.99))
def test_a_step_after_the_marginal_gives_the_earlier_marginal(process, fraction, rest):
    t = _time(process, fraction)
    s = (t * rest) if isinstance(process, Bridge) else (t * rest).floor()
    mean_t, spread_t = _marginal(process, t)
    of_zt, mean, spread = _step(process, t, s)
    assert mean + of_zt * mean_t == pytest.approx(_marginal(process, s)[0], rel=1e-6, abs=1e-9)
    assert math.hypot(spread, of_zt * spread_t) == pytest.approx(_marginal(process, s)[1], rel=1e-6, abs=1e-9)


@every_process
@given(fraction=st.floats(0.1, 1), first=st.floats(0.2, 0.9), second=st.floats(0.2, 0.9))
def test_two_steps_are_one_longer_step(process, fraction, first, second):
    t = _time(process, fraction)
    u, s = t * first, t * first * second
    if isinstance(process, DDPM):
        u, s = u.ceil(), s.floor()
    if not t > u > s:
        return
    (of_zt, mean_1, spread_1), (of_zu, mean_2, spread_2) = _step(process, t, u), _step(process, u, s)
    composed = of_zu * of_zt, mean_2 + of_zu * mean_1, math.hypot(spread_2, of_zu * spread_1)
    assert composed == pytest.approx(_step(process, t, s), rel=1e-6, abs=1e-9)


@every_process
@pytest.mark.parametrize("fraction", [0.01, 0.3, 1.0])
def test_the_step_to_zero_is_z0(process, fraction):
    z_0, z_t, eps = torch.randn(3, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()
    t = _time(process, fraction).expand(2)
    torch.testing.assert_close(process.step(z_t, z_0=z_0, t=t, s=torch.zeros(2), eps=eps), z_0)


@every_process
@given(fraction=fractions)
def test_a_perfect_network_finds_z0(process, fraction):
    t = _time(process, fraction)
    z_0, source, eps = _value(Z_0), _value(SOURCE), _value(0.37)
    z_t = process.add_noise(z_0, source=source, t=t, eps=eps)
    output = process.network_target(z_0, source=source, eps=eps)
    torch.testing.assert_close(process.predict_z0(output, z_t=z_t, source=source, t=t), z_0)


def test_times_of_each_sample_are_its_own():
    process = make_process(PROCESSES["ddpm"])
    z_0, source, eps = torch.randn(3, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    t = torch.tensor([1, 20, 300, 400])
    together = process.add_noise(z_0, source=source, t=t, eps=eps)
    alone = [process.add_noise(z_0[i : i + 1], source=source[i : i + 1], t=t[i : i + 1], eps=eps[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_starts():
    bridge, ddpm, printed = (make_process(PROCESSES[name]) for name in ("bridge", "ddpm", "printed"))
    alpha_bar = ddpm.schedule.alphas_cumprod[400].item()
    assert (ddpm.t_max, printed.t_max, bridge.t_max) == (400, 1000, 1)
    for process, mean, spread in (
        (bridge, SOURCE, KAPPA),
        (ddpm, math.sqrt(alpha_bar) * SOURCE, math.sqrt(1 - alpha_bar)),
        (printed, SOURCE, 1.0),  # Z_A + η: not the chain's marginal at T, but what the paper prints
    ):
        found = _mean_and_spread(lambda eps, process=process: process.start(_value(SOURCE), eps=eps))
        assert found == pytest.approx((mean, spread))


@every_process
@given(num_steps=st.integers(1, 400))
def test_time_grid(process, num_steps):
    grid = process.time_grid(num_steps)
    assert len(grid) == num_steps + 1
    assert (grid[0], grid[-1]) == (process.t_max, 0)
    assert (grid.diff() < 0).all()
    if isinstance(process, DDPM):
        assert torch.equal(grid, grid.round())


def test_more_steps_than_the_chain_has_are_refused():
    with pytest.raises(ValueError, match=r"401 .* 400"):
        make_process(PROCESSES["ddpm"]).time_grid(401)


@every_process
def test_training_times_cover_what_the_sampler_visits(process):
    t = process.sample_times(20_000, torch.Generator().manual_seed(0))
    assert t.shape == (20_000,)
    assert 0 < t.min() <= 0.01 * process.t_max
    assert 0.99 * process.t_max <= t.max() <= process.t_max
    endpoint_fraction = (t == 1).double().mean().item() if process.t_max == 1 else 0
    assert t.double().mean().item() == pytest.approx(endpoint_fraction + (1 - endpoint_fraction) * process.t_max / 2, rel=0.02)
    unit = process.unit_time(t)
    assert 0 < unit.min() <= unit.max() <= 1


@pytest.mark.parametrize(("settings", "num_steps"), [({}, 1), ({"process": "ddpm"}, 50), ({"num_inference_steps": 7}, 7)])
def test_each_process_has_its_default_number_of_steps(settings, num_steps):
    assert DiffusionConfig(**settings).num_steps == num_steps


@pytest.mark.parametrize("endpoint_fraction", [0.0, 0.3, 1.0])
def test_a_share_of_the_training_times_is_the_sampler_s_start(endpoint_fraction):
    process = make_process(DiffusionConfig(endpoint_fraction=endpoint_fraction))
    t = process.sample_times(20_000, torch.Generator().manual_seed(0))
    assert (t == 1).double().mean().item() == pytest.approx(endpoint_fraction, abs=0.02)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"kappa": -0.1}, "kappa must not be negative, got -0.1"),
        ({"start_timestep": 0}, "start_timestep"),
        ({"start_timestep": 101, "schedule": ScheduleConfig(num_train_timesteps=100)}, r"1…100, got 101"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
    ],
)
def test_bad_settings_are_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        DiffusionConfig(**bad)
