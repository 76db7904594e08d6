"""The noise schedule against its closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltdiff.diffusion.config import ScheduleConfig
from ltdiff.diffusion.process import Schedule


def test_linear_betas_and_their_product():
    schedule = Schedule(ScheduleConfig(beta_1=1e-4, beta_T=0.02, num_train_timesteps=1000))
    betas = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    expected = [math.prod(1 - beta for beta in betas[:t]) for t in range(0, 1001, 50)]
    np.testing.assert_allclose(schedule.betas, [0, *betas], rtol=1e-12)
    np.testing.assert_allclose(schedule.alphas_cumprod[::50], expected, rtol=1e-12)
    assert schedule.alphas_cumprod[1000] == pytest.approx(4.0358e-5, rel=1e-4)  # Ho 2020's chain


def test_cosine_alphas_cumprod():
    """Nichol 2021, eq. 17: ᾱ_t = f(t)/f(0); its last β would be 1 and is capped at 0.999."""
    schedule = Schedule(ScheduleConfig(family="cosine", num_train_timesteps=500))
    f = [math.cos((t / 500 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(501)]
    np.testing.assert_allclose(schedule.alphas_cumprod[:500], np.array(f[:500]) / f[0], rtol=1e-9)
    assert schedule.betas[500] == 0.999


@given(family=st.sampled_from(["linear", "cosine"]), num_train_timesteps=st.integers(1, 400))
def test_noise_only_grows(family, num_train_timesteps):
    schedule = Schedule(ScheduleConfig(family=family, num_train_timesteps=num_train_timesteps))
    assert len(schedule.betas) == len(schedule.alphas_cumprod) == num_train_timesteps + 1
    assert schedule.alphas_cumprod[0] == 1
    assert (schedule.alphas_cumprod.diff() < 0).all()
    assert schedule.alphas_cumprod[-1] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [torch.tensor([0, 7, 1000]), torch.tensor([0.0, 7.0, 1000.0])])
def test_at_gives_one_value_per_sample(dtype, times):
    schedule = Schedule(ScheduleConfig())
    values = schedule.at(times, torch.zeros(3, 2, 4, 4, dtype=dtype))
    assert values.shape == (3, 1, 1, 1)
    assert values.dtype == dtype
    torch.testing.assert_close(values.flatten().double(), schedule.alphas_cumprod[[0, 7, 1000]], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"beta_1": 0.0}, "beta_1"),
        ({"beta_1": 0.03}, "0.03"),
        ({"beta_T": 1.0}, "beta_T"),
        ({"beta_T": math.nan}, "nan"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
    ],
)
def test_what_is_no_schedule_is_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        ScheduleConfig(**bad)
