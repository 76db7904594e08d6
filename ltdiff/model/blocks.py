"""Building blocks. None of them normalizes over space: statistics of a training patch are not those of a whole slice."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

RESIDUAL_GAIN = 0.1


class ConvBlock(nn.Module):
    """Fuse `in_channels` to `out_channels` by a 3×3 convolution, then refine with one residual block."""

    def __init__(self, in_channels: int, out_channels: int, *, precise: bool = False) -> None:
        super().__init__()
        convolution = PreciseConv2d if precise else nn.Conv2d
        self.fuse = convolution(in_channels, out_channels, kernel_size=3, padding=1)
        self.refine = ResidualBlock(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        return self.refine(self.fuse(x))


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), with an optional time embedding as scale and shift between the convolutions."""

    def __init__(self, channels: int, *, embedding_size: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.modulate = nn.Linear(embedding_size, 2 * channels) if embedding_size else None
        with torch.no_grad():
            self.second.weight.mul_(RESIDUAL_GAIN)  # starts near the identity, which stands in for normalization
            if self.modulate is not None:
                nn.init.zeros_(self.modulate.weight)
                nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, C, H, W), embedding (B, embedding_size) → (B, C, H, W)."""
        y = self.first(functional.silu(x))
        if self.modulate is not None and embedding is not None:
            scale, shift = self.modulate(embedding)[:, :, None, None].to(y.dtype).chunk(2, dim=1)
            y = torch.addcmul(y + shift, y, scale)
        return x + self.second(functional.silu(y))


class PreciseConv2d(nn.Conv2d):
    """A convolution that stays in float32 under bf16 autocast, for the few layers that touch the image or the latents.

    bf16 keeps 8 bits: at −850 HU its steps are 4 HU wide, as large as the texture that has to come out right.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W), float32."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Down(nn.Conv2d):
    """Halve the resolution by a strided convolution: (B, C, H, W) → (B, out_channels, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=2, stride=2)


class Up(nn.Module):
    """Double the resolution (U of the paper): 1×1 convolution, then bilinear interpolation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, 2H, 2W)."""
        return functional.interpolate(self.project(x), scale_factor=2, mode="bilinear", align_corners=False)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of a time in [0, 1] (Vaswani 2017, with Ho 2020's range), then a small MLP."""

    def __init__(self, size: int) -> None:
        super().__init__()
        half = size // 2
        self.frequencies: Tensor
        self.register_buffer("frequencies", 1000 * torch.exp(-math.log(10_000) * torch.arange(half) / half), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * half, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        """(B,) → (B, size)."""
        angles = t[:, None].float() * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
