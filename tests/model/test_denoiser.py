"""The denoiser: one network for all levels, silent until it is trained."""

import pytest
import torch

from ltdiff.model.config import DenoiserConfig
from ltdiff.model.denoiser import Denoiser

LATENT_CHANNELS = (2, 3, 1)
CONFIG = DenoiserConfig(channels=(4, 6, 8), num_blocks=1, embedding_size=8)


def _latents(seed, size=16):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, size // 2**i, size // 2**i, generator=generator) for i, c in enumerate(LATENT_CHANNELS)]


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_untrained_it_returns_zeros_of_each_level_s_shape(num_blocks):
    denoiser = Denoiser(LATENT_CHANNELS, DenoiserConfig(channels=(4, 6, 8), num_blocks=num_blocks, embedding_size=8))
    z_t = _latents(0)
    for output, z in zip(denoiser(z_t, _latents(1), torch.tensor([0.1, 1.0])), z_t, strict=True):
        assert torch.equal(output, torch.zeros_like(z))


def test_every_output_depends_on_noisy_latents_source_and_time(model):
    z_t, source, t = _latents(0), _latents(1), torch.tensor([0.1, 1.0])
    outputs = model.denoise(z_t, source, t)
    for changed in (
        model.denoise([z + 1 for z in z_t], source, t),
        model.denoise(z_t, [z + 1 for z in source], t),
        model.denoise(z_t, source, t / 2),
    ):
        assert all(not torch.allclose(a, b) for a, b in zip(outputs, changed, strict=True))


def test_the_finest_output_depends_on_every_level(model):
    z_t = [z.requires_grad_() for z in _latents(0)]
    source = [z.requires_grad_() for z in _latents(1)]
    finest = model.denoise(z_t, source, torch.tensor([0.1, 1.0]))[0]
    gradients = torch.autograd.grad(finest.square().sum(), [*z_t, *source])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_samples_of_a_batch_do_not_mix(model):
    z_t, source, t = _latents(0), _latents(1), torch.tensor([0.1, 1.0])
    alone = model.denoise([z[1:] for z in z_t], [z[1:] for z in source], t[1:])
    for together, single in zip(model.denoise(z_t, source, t), alone, strict=True):
        torch.testing.assert_close(together[1:], single)


def test_another_number_of_levels_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 6, 8\) .* 2 levels"):
        Denoiser((2, 2), CONFIG)


@pytest.mark.parametrize("bad", [{"channels": ()}, {"num_blocks": 0}, {"embedding_size": 1}, {"channels": (4, 0, 8)}])
def test_shapes_that_fit_no_network_are_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} .*got"):
        DenoiserConfig(**bad)
