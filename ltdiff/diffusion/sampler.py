"""The sampler: from the source's latents to a draw of the standardized ones, whatever the process and the network."""

from collections.abc import Callable

import torch
from torch import Tensor

from ltdiff.diffusion.process import Process

Latents = list[Tensor]
Denoise = Callable[[Latents, Tensor], Latents]
"""(z_t of every level, t scaled to [0, 1] (B,)) → the network's output for every level, conditioned on the source."""


class Sampler:
    """Ancestral sampling in `num_steps` steps; a latent is a list of tensors (B, C_i, H_i, W_i), one per level."""

    def __init__(self, process: Process, *, num_steps: int) -> None:
        self.process = process
        self.times = process.time_grid(num_steps)

    def sample(self, denoise: Denoise, source: Latents, *, generator: torch.Generator) -> Latents:
        """Draw z_0 given the source's latents; the draw is a function of the generator's seed."""
        z_t = [self.process.start(level, eps=_noise_like(level, generator)) for level in source]
        for t, s in zip(self.times[:-1], self.times[1:], strict=True):
            z_t = self.step(denoise, z_t, source, t=t, s=s, generator=generator)
        return z_t

    def step(
        self, denoise: Denoise, z_t: Latents, source: Latents, *, t: Tensor, s: Tensor, generator: torch.Generator
    ) -> Latents:
        """One step z_t → z_s: estimate Ẑ_0, then draw from the posterior q(z_s | z_t, Ẑ_0)."""
        batch_size = z_t[0].shape[0]
        t, s = t.expand(batch_size), s.expand(batch_size)
        outputs = denoise(z_t, self.process.unit_time(t))
        z_0 = [
            self.process.predict_z0(output.to(z.dtype), z_t=z, source=condition, t=t)
            for z, output, condition in zip(z_t, outputs, source, strict=True)
        ]
        if s[0] == 0:
            return z_0
        return [
            self.process.step(z, z_0=estimate, t=t, s=s, eps=_noise_like(z, generator))
            for z, estimate in zip(z_t, z_0, strict=True)
        ]


def _noise_like(z: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU so that a seed gives the same noise on every device.
    return torch.randn(z.shape, generator=generator, dtype=torch.float32).to(device=z.device, dtype=z.dtype)
