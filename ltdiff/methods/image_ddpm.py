"""A conditional diffusion model on images: a UNet denoises B with the linear match Ã beside it (Saharia 2022, "SR3" style).

At half resolution (2×2 pixels folded into channels). Sampling starts from the noised Ã at two fifths of the chain, which is
both faster and better than from pure noise; `NUM_INFERENCE_STEPS` strided steps.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.diffusion.process import DDPM
from ltdiff.diffusion.sampler import Sampler
from ltdiff.methods.image_network import ImageNetwork
from ltdiff.model.blocks import Down, PreciseConv2d, ResidualBlock, TimeEmbedding, Up
from ltdiff.training.phase import Batch, BatchNoise, to_input

SCALE = 2
CHANNELS = (48, 64, 96)
EMBEDDING_SIZE = 64
NUM_INFERENCE_STEPS = 20


class ConditionalUNet(nn.Module):
    """(x_t, Ã, t) → ε, on folded images (B, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.embed = TimeEmbedding(EMBEDDING_SIZE)
        self.enter = PreciseConv2d(2 * SCALE**2, fine, kernel_size=3, padding=1)
        self.down = nn.ModuleList([Down(fine, middle), Down(middle, coarse)])
        self.up = nn.ModuleList([Up(coarse, middle), Up(middle, fine)])
        self.blocks = nn.ModuleList(
            ResidualBlock(c, embedding_size=EMBEDDING_SIZE) for c in (fine, middle, coarse, coarse, middle, fine)
        )
        self.leave = PreciseConv2d(fine, SCALE**2, kernel_size=3, padding=1)

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """x_t and condition (B, 4, H, W), t (B,) in [0, 1] → ε (B, 4, H, W)."""
        e = self.embed(t)
        fine = self.blocks[0](self.enter(torch.cat([x_t, condition], dim=1)), e)
        middle = self.blocks[1](self.down[0](fine), e)
        x = self.blocks[3](self.blocks[2](self.down[1](middle), e), e)
        x = self.blocks[4](middle + self.up[0](x), e)
        x = self.blocks[5](fine + self.up[1](x), e)
        return self.leave(x)


def noise_loss(model: ConditionalUNet, batch: Batch, noise: BatchNoise, *, process: DDPM) -> dict[str, Tensor]:
    """Noise B to a random time and predict the noise."""
    source, target = (functional.pixel_unshuffle(to_input(batch[name]), SCALE) for name in ("source", "target"))
    t, eps = noise.times(process), noise.like(target)
    x_t = process.add_noise(target, source=source, t=t, eps=eps)
    predicted = model(x_t, source, process.unit_time(t).to(x_t.device))
    return {"loss": functional.mse_loss(predicted.float(), eps)}


class ImageDDPMMethod(ImageNetwork):
    """Kernel match, then ancestral sampling of the image."""

    make_network = ConditionalUNet
    process = DDPM(DiffusionConfig(process="ddpm"))
    phase_name, loss = "ddpm", partial(noise_loss, process=process)
    size_divisor = 4 * SCALE

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        condition = functional.pixel_unshuffle(x, SCALE)
        sampler = Sampler(self.process, num_steps=NUM_INFERENCE_STEPS)
        (image,) = sampler.sample(
            lambda x_t, t: [self.network(x_t[0], condition, t.to(x.device))], [condition], generator=generator
        )
        return functional.pixel_shuffle(image, SCALE)
