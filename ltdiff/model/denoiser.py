"""The denoiser: one UNet on the finest latent grid that serves all levels. It knows no noise schedule."""

from itertools import pairwise

from torch import Tensor, cat, nn

from ltdiff.model.blocks import Down, ResidualBlock, TimeEmbedding, Up
from ltdiff.model.config import DenoiserConfig
from ltdiff.model.latent import Latents


class Denoiser(nn.Module):
    """(z_t, z_A, t) → output for every level; level i enters and leaves at its own resolution.

    The output layers start at zero: an untrained bridge proposes the source unchanged.
    """

    def __init__(self, latent_channels: tuple[int, ...], config: DenoiserConfig) -> None:
        super().__init__()
        if len(latent_channels) != len(config.channels):
            raise ValueError(
                f"denoiser channels {config.channels} must name one number for each of {len(latent_channels)} levels"
            )
        channels, size = config.channels, config.embedding_size
        self.embed = TimeEmbedding(size)
        self.enter = nn.ModuleList(
            nn.Conv2d(2 * z, c, kernel_size=3, padding=1) for z, c in zip(latent_channels, channels, strict=True)
        )
        self.down = nn.ModuleList(Down(a, b) for a, b in pairwise(channels))
        self.up = nn.ModuleList(Up(b, a) for a, b in pairwise(channels))
        self.encode = nn.ModuleList(_Blocks(c, config.num_blocks, size) for c in channels)
        self.decode = nn.ModuleList(_Blocks(c, config.num_blocks, size) for c in channels[:-1])
        self.leave = nn.ModuleList(
            nn.Conv2d(c, z, kernel_size=3, padding=1) for z, c in zip(latent_channels, channels, strict=True)
        )
        for layer in self.leave:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, z_t: Latents, source: Latents, t: Tensor) -> Latents:
        """z_t and source (B, C_i, H_i, W_i) per level, t (B,) in [0, 1] → output (B, C_i, H_i, W_i) per level."""
        embedding = self.embed(t)
        skips: list[Tensor] = []
        for i, enter in enumerate(self.enter):
            x = enter(cat([z_t[i], source[i]], dim=1))
            if i > 0:
                x = x + self.down[i - 1](skips[-1])
            skips.append(self.encode[i](x, embedding))
        outputs = [self.leave[-1](skips[-1])]
        x = skips[-1]
        for i in reversed(range(len(skips) - 1)):
            x = self.decode[i](skips[i] + self.up[i](x), embedding)
            outputs.append(self.leave[i](x))
        return outputs[::-1]


class _Blocks(nn.Module):
    def __init__(self, channels: int, num_blocks: int, embedding_size: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels, embedding_size=embedding_size) for _ in range(num_blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x
