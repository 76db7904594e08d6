"""The diffusion of what the mean leaves over: from stationary Gaussian noise to residuals that look like those of real pairs.

r = (B − A')/σ is the whitened residual (see residual_noise), n Gaussian noise with its spectrum. The path between them is an arc,
r_t = cos θ·r + sin θ·n with θ = t·π/2, and the network gives its velocity cos θ·n − sin θ·r: flow matching (Lipman 2023; the arc
is that of Lu 2024) on the residual of a mean, as in residual-corrective diffusion (Mardani 2023). Were r Gaussian noise as well,
the best velocity would be zero, and a network that gives zeros draws n itself: it learns what is not Gaussian, and nothing else.
"""

import math

import torch
from torch import Tensor, cat, nn
from torch.nn import functional

from ltdiff.model.blocks import PreciseConv2d, ResidualBlock, TimeEmbedding
from ltdiff.model.config import ResidualFlowConfig

SCALE = 2
"""Pixels per side that are folded into channels."""
MEAN_PX = 9
"""Side of the square whose mean is taken from A', so that its texture shows."""
HU_SCALE = 500.0
NUM_CONDITIONS = 4
MAX_RESIDUAL = 10.0
"""In σ: a metal pixel in the wrong place must not steer a step."""


class ResidualFlow(nn.Module):
    """(r_t, condition, t) → velocity of r_t on its arc, at the image's resolution: a factor of r_t, and a change.

    Where residuals are larger or smaller than σ says, the best velocity is a factor of r_t: given one, a network finds the tails
    of the residuals in a minute (docs/notes/uncertainty.md).
    """

    def __init__(self, config: ResidualFlowConfig) -> None:
        super().__init__()
        channels, size = config.channels, config.embedding_size
        self.embed = TimeEmbedding(size)
        self.enter = PreciseConv2d((1 + NUM_CONDITIONS) * SCALE**2, channels, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(channels, embedding_size=size) for _ in range(config.num_blocks))
        self.leave = PreciseConv2d(channels, 2 * SCALE**2, kernel_size=3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, r_t: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """r_t (B, 1, H, W), condition (B, NUM_CONDITIONS, H, W), t (B,) in [0, 1] → (B, 1, H, W), float32."""
        height, width = r_t.shape[-2:]
        x = cat([r_t, condition], dim=1)
        x = functional.pad(x, (0, -width % SCALE, 0, -height % SCALE), mode="replicate")
        embedding = self.embed(t)
        x = self.enter(functional.pixel_unshuffle(x, SCALE).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x, embedding)
        left = functional.pixel_shuffle(self.leave(functional.silu(x)), SCALE)[..., :height, :width]
        factor, change = left.chunk(2, dim=1)
        return factor * r_t + change

    @torch.no_grad()
    def draw(self, noise: Tensor, condition: Tensor, *, num_steps: int) -> Tensor:
        """r (B, 1, H, W) of noise n (B, 1, H, W), by Euler steps of equal length."""
        r_t, angle = noise, math.pi / 2 / num_steps
        for step in range(num_steps):
            t = torch.full((len(noise),), 1 - step / num_steps, device=noise.device)
            r_t = r_t - angle * self(r_t, condition, t)
        return r_t

    @torch.no_grad()
    def expect(self, condition: Tensor) -> Tensor:
        """The mean of r (B, 1, H, W): minus the velocity at t = 1, where r_t is noise alone, whatever the noise; so without any.

        Its size needs a gain (`FlowUse.mean_gain`): a network that has always seen noise gives less without.
        """
        start = torch.ones(len(condition), device=condition.device)
        return -self(torch.zeros_like(condition[:, :1]), condition, start)


def on_arc(residual: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """r_t and its velocity, (B, 1, H, W) each, at the times t (B,) in [0, 1]."""
    angle = (t * math.pi / 2)[:, None, None, None]
    cos, sin = angle.cos(), angle.sin()
    return cos * residual + sin * noise, cos * noise - sin * residual


def flow_condition(mean_hu: Tensor, sigma_hu: Tensor, matched_hu: Tensor) -> Tensor:
    """What the flow knows of a pixel: A', its texture, what the networks changed, and σ; (B, 1, H, W) each → (B, 4, H, W)."""
    smooth = functional.avg_pool2d(mean_hu, MEAN_PX, stride=1, padding=MEAN_PX // 2, count_include_pad=False)
    texture, change = (((mean_hu - other) / sigma_hu).clamp(-MAX_RESIDUAL, MAX_RESIDUAL) for other in (smooth, matched_hu))
    return cat([mean_hu / HU_SCALE, texture, change, sigma_hu.log()], dim=1)
