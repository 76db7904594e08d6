"""UNet++ encoder and decoder with one spatial latent per level (Zhou 2018).

The encoder maps an image to latents z_0 … z_{L−1}. Level i lives at 1/(scale·2^i) of the image's resolution: `scale` pixels
are folded into channels first (a lossless rearrangement that makes everything scale² cheaper). The decoder makes X[i, 0]
from the latent of level i, never from encoder features, so whatever reaches the image went through the latents. With
`image_latent` a part of the finest latent is the image, folded, to which the full decoder adds (what an
autoencoder cannot hold must not be lost from a patient's image); the other heads learn to do without. The nested pathways
are X[i, j] = H([X[i, 0] … X[i, j−1], U(X[i+1, j−1])]), with an image head on every X[0, j], j ≥ 1.
"""

from itertools import pairwise

from torch import Tensor, cat, nn
from torch.nn import functional

from ltdiff.model.blocks import ConvBlock, Down, PreciseConv2d, Up
from ltdiff.model.config import AutoencoderConfig
from ltdiff.model.latent import Latents
from ltdiff.model.refinement import PixelRefinement


class Encoder(nn.Module):
    """E: image → latents; X[i, 0] = H(X[i−1, 0]) as in UNet++, each projected to its latent."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.scale = config.scale
        channels = config.channels
        self.stem = ConvBlock(config.scale**2, channels[0], precise=True)
        self.down = nn.ModuleList(Down(a, b) for a, b in pairwise(channels))
        self.blocks = nn.ModuleList(ConvBlock(c, c) for c in channels[1:])
        self.image_latent = config.image_latent
        learned = (config.latent_channels[0] - config.num_image_channels, *config.latent_channels[1:])
        self.project = nn.ModuleList(
            PreciseConv2d(c, z, kernel_size=1) if z else _Nothing() for c, z in zip(channels, learned, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Latents, list[Tensor]]:
        """Image (B, 1, H, W) → latents and features, (B, C_i, H/(scale·2^i), W/(scale·2^i)) for each level i."""
        folded = functional.pixel_unshuffle(x, self.scale)
        features = [self.stem(folded)]
        for down, block in zip(self.down, self.blocks, strict=True):
            features.append(block(down(features[-1])))
        latents = [project(f) for project, f in zip(self.project, features, strict=True)]
        if self.image_latent:
            latents[0] = cat([folded.float(), latents[0]], dim=1)
        return latents, features


class _Nothing(nn.Module):
    """No channels: (B, C, H, W) → (B, 0, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :0].float()


class Decoder(nn.Module):
    """D: latents → images, one for every supervised node X[0, j]; the last is the full decoder's."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.num_levels = config.num_levels
        self.encoder_skips = config.encoder_skips
        channels = config.channels
        self.nodes = nn.ModuleDict()
        self.up = nn.ModuleDict()
        for i, (c, z) in enumerate(zip(channels, config.latent_channels, strict=True)):
            self.nodes[f"{i},0"] = ConvBlock(z + (c if config.encoder_skips else 0), c)
        for j in range(1, config.num_levels):
            for i in range(config.num_levels - j):
                self.up[f"{i},{j}"] = Up(channels[i + 1], channels[i])
                self.nodes[f"{i},{j}"] = ConvBlock((j + 1) * channels[i], channels[i])
        self.heads = nn.ModuleList(
            PreciseConv2d(channels[0], config.scale**2, kernel_size=3, padding=1) for _ in range(1, config.num_levels)
        )
        self.num_image_channels = config.num_image_channels
        if config.image_latent:
            nn.init.zeros_(self.heads[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.heads[-1].bias)  # type: ignore[arg-type]
        self.refinement = (
            PixelRefinement(channels[0], config.scale, config.refinement_channels) if config.refinement_channels else None
        )

    def forward(
        self,
        latents: Latents,
        features: list[Tensor] | None = None,
        *,
        position_mm: Tensor | None = None,
        depth: int | None = None,
    ) -> list[Tensor]:
        """Latents (B, C_i, …) → images (B, 1, H, W), one per head X[0, 1] … X[0, depth].

        `position_mm` (B, 2, H, W) is that of every pixel (data/position); None puts all of them in the middle. `features` are
        the encoder's, for `encoder_skips` only. A `depth` below the full one, L − 1, prunes the decoder (Zhou 2018): nodes
        that only deeper heads need are not computed.
        """
        depth = self.num_levels - 1 if depth is None else depth
        x: dict[tuple[int, int], Tensor] = {}
        for i, z in enumerate(latents[: depth + 1]):
            inputs = cat([z, features[i]], dim=1) if self.encoder_skips and features is not None else z
            x[i, 0] = self.nodes[f"{i},0"](inputs)
        for j in range(1, depth + 1):
            for i in range(depth + 1 - j):
                above = self.up[f"{i},{j}"](x[i + 1, j - 1])
                x[i, j] = self.nodes[f"{i},{j}"](cat([x[i, k] for k in range(j)] + [above], dim=1))
        outputs = [self.heads[j - 1](x[0, j]) for j in range(1, depth + 1)]
        if self.num_image_channels and depth == self.num_levels - 1:
            outputs[-1] = outputs[-1] + latents[0][:, : self.num_image_channels]
        images = [functional.pixel_shuffle(output, self.scale) for output in outputs]
        if self.refinement is not None and depth == self.num_levels - 1:
            images[-1] = self.refinement(images[-1], x[0, depth], position_mm)
        return images
