"""Latent scaling: whitening and its inverse."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.model.latent import LatentScaling


def _latents(mean=3.0, std=0.2, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [mean + std * torch.randn(4, c, n, n, generator=generator) for c, n in ((2, 16), (3, 8))]


@settings(max_examples=20)
@given(mean=st.floats(-100, 100), std=st.floats(1e-3, 100))
def test_round_trip(mean, std):
    scaling = LatentScaling((2, 3))
    for step in range(3):
        scaling.track(_latents(mean, std, seed=step))
    raw = _latents(mean, std, seed=9)
    for there_and_back, z in zip(scaling.inverse(scaling.apply_scaling(raw)), raw, strict=True):
        torch.testing.assert_close(there_and_back, z, rtol=1e-5, atol=1e-4)


def test_untracked_scaling_changes_next_to_nothing():
    for scaled, z in zip(LatentScaling((2, 3)).apply_scaling(_latents()), _latents(), strict=True):
        torch.testing.assert_close(scaled, z, rtol=1e-5, atol=1e-5)


def test_tracked_latents_come_out_white():
    """After a few batches, also where the latents are small, as the coarse levels' are."""
    scaling = LatentScaling((2, 3))
    for step in range(5):
        scaling.track(_latents(mean=0.5, std=0.02, seed=step))
    for z in scaling.apply_scaling(_latents(mean=0.5, std=0.02, seed=1000)):
        torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(z.shape[1]), rtol=0, atol=0.25)
        torch.testing.assert_close(z.std(dim=(0, 2, 3)), torch.ones(z.shape[1]), rtol=0.2, atol=0)


def test_moments_are_state_without_gradient():
    scaling = LatentScaling((2, 3))
    assert set(scaling.state_dict()) == {"mean_0", "variance_0", "mean_1", "variance_1"}
    assert not list(scaling.parameters())
    assert all(z.dtype == torch.float32 for z in scaling.apply_scaling([z.bfloat16() for z in _latents()]))
