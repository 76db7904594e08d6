"""DiffusionCT, reimplemented after arXiv 2301.08815 and 2310.05237: a U-Net encoder–decoder and a DDPM on its latent.

Phase 1 trains the encoder–decoder on all images; phase 2 trains a DDPM that leads the latent of A to the latent of B; the
result is decoded directly. As published there is no kernel match and there are no skips past the latent. What the papers
leave open (sizes, schedule) is chosen so that it trains on the same machine in the same time as LTDiff++.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.diffusion.process import DDPM
from ltdiff.diffusion.sampler import Sampler
from ltdiff.methods.image_network import ImageNetwork, NetworkPhase, PhaseSchedule
from ltdiff.model.blocks import ConvBlock, Down, PreciseConv2d, Up
from ltdiff.model.config import DenoiserConfig
from ltdiff.model.denoiser import Denoiser
from ltdiff.model.latent import LatentScaling
from ltdiff.training.losses import charbonnier
from ltdiff.training.phase import Batch, BatchNoise, to_input

SCALE = 2
CHANNELS = (32, 64)
LATENT_CHANNELS = 16
"""At a quarter of the resolution: one latent value per pixel."""
NUM_INFERENCE_STEPS = 20


class DiffusionCT(nn.Module):
    """Encoder, decoder and the denoiser of one latent (B, 16, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        fine, coarse = CHANNELS
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(SCALE),
            ConvBlock(SCALE**2, fine, precise=True),
            Down(fine, coarse),
            ConvBlock(coarse, coarse),
            PreciseConv2d(coarse, LATENT_CHANNELS, kernel_size=1),
        )
        self.scaling = LatentScaling((LATENT_CHANNELS,))
        self.decoder = nn.Sequential(
            ConvBlock(LATENT_CHANNELS, coarse),
            Up(coarse, fine),
            ConvBlock(fine, fine),
            PreciseConv2d(fine, SCALE**2, kernel_size=3, padding=1),
            nn.PixelShuffle(SCALE),
        )
        self.denoiser = Denoiser((LATENT_CHANNELS,), DenoiserConfig(channels=(96,), num_blocks=5))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Image (B, 1, H, W) → its scaled latent."""
        return self.scaling.apply_scaling([self.encoder(x)])

    def decode(self, latent: list[Tensor]) -> Tensor:
        """Scaled latent → image (B, 1, H, W)."""
        return self.decoder(self.scaling.inverse(latent)[0])


def reconstruction_loss(model: DiffusionCT, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
    """Phase 1: reconstruct every image."""
    x = to_input(batch["image"])
    latent = model.encoder(x)
    if model.training:
        model.scaling.track([latent])
    return {"loss": charbonnier(model.decoder(latent), x)}


def latent_noise_loss(model: DiffusionCT, batch: Batch, noise: BatchNoise, *, process: DDPM) -> dict[str, Tensor]:
    """Phase 2: denoise the latent of B beside that of A."""
    with torch.no_grad():
        (source,), (target,) = (model.encode(to_input(batch[name])) for name in ("source", "target"))
    t, eps = noise.times(process), noise.like(target)
    z_t = process.add_noise(target, source=source, t=t, eps=eps)
    (predicted,) = model.denoiser([z_t], [source], process.unit_time(t).to(z_t.device))
    return {"loss": functional.mse_loss(predicted.float(), eps)}


class DiffusionCTMethod(ImageNetwork):
    """Encode, sample the target's latent, decode."""

    make_network = DiffusionCT
    process = DDPM(DiffusionConfig(process="ddpm"))
    uses_kernel_match = False
    size_divisor = 2 * SCALE

    @override
    def schedules(self) -> list[PhaseSchedule]:
        phase = partial(NetworkPhase, self.network)
        reconstruct = partial(phase, reconstruction_loss, parts=("encoder", "scaling", "decoder"))
        denoise = partial(phase, partial(latent_noise_loss, process=self.process), parts=("denoiser",))
        return [PhaseSchedule("autoencoder", 0.4, reconstruct, draw="images"), PhaseSchedule("ddpm", 0.6, denoise)]

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        source = self.network.encode(x)
        sampler = Sampler(self.process, num_steps=NUM_INFERENCE_STEPS)
        latent = sampler.sample(lambda z_t, t: self.network.denoiser(z_t, source, t.to(x.device)), source, generator=generator)
        return self.network.decode(latent)
