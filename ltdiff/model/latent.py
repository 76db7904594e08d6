"""Raw latents (the encoder's) and scaled ones (the diffusion's): whitening beside its inverse."""

import torch
from torch import Tensor, nn

Latents = list[Tensor]
"""One tensor (B, C_i, H_i, W_i) per level, finest first."""


class LatentScaling(nn.Module):
    """Per-channel standardization of every level; mean and variance are tracked while the autoencoder trains."""

    MOMENTUM = 0.05
    EPSILON = 1e-6

    def __init__(self, latent_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.num_levels = len(latent_channels)
        for i, c in enumerate(latent_channels):
            self.register_buffer(f"mean_{i}", torch.zeros(1, c, 1, 1))
            self.register_buffer(f"variance_{i}", torch.ones(1, c, 1, 1))

    @torch.no_grad()
    def track(self, latents: Latents) -> None:
        """Move the running moments towards those of a batch of raw latents; the first batch replaces what they begin with.

        A variance of 1 is so far above real ones (0.0005 on the coarsest level) that a short phase would not forget it.
        """
        for i, z in enumerate(latents):
            variance, mean = torch.var_mean(z.float(), dim=(0, 2, 3), keepdim=True, correction=0)
            is_first = (self.get_buffer(f"variance_{i}") == 1).all()
            weight = torch.where(is_first, 1.0, self.MOMENTUM)  # on the device: a GPU need not be waited for
            self.get_buffer(f"mean_{i}").lerp_(mean, weight)
            self.get_buffer(f"variance_{i}").lerp_(variance, weight)

    def apply_scaling(self, latents: Latents) -> Latents:
        """Raw → scaled: zero mean, unit variance per channel, in float32."""
        return [(z.float() - mean) / std for z, (mean, std) in zip(latents, self.moments(), strict=True)]

    def inverse(self, latents: Latents) -> Latents:
        """Scaled → raw."""
        return [z * std + mean for z, (mean, std) in zip(latents, self.moments(), strict=True)]

    def moments(self) -> list[tuple[Tensor, Tensor]]:
        """Mean and standard deviation (1, C_i, 1, 1) of every level: raw = scaled · sd + mean."""
        return [
            (self.get_buffer(f"mean_{i}"), (self.get_buffer(f"variance_{i}") + self.EPSILON).sqrt())
            for i in range(self.num_levels)
        ]
