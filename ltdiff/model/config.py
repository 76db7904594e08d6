"""Settings of the networks."""

from dataclasses import dataclass, field
from typing import Literal, get_args

Precision = Literal["auto", "bf16", "fp32"]
"""Arithmetic of the networks: `auto` is bf16 where the device has instructions for it, else fp32."""
Output = Literal["mean", "sample", "match"]
"""Kind of a standardized image: A' itself (mean), A' plus a draw of residual noise (sample), or the kernel match Ã alone."""
OUTPUTS: tuple[Output, ...] = get_args(Output)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the encoder and the decoder.

    Args:
        scale: pixels per side that are folded into channels before the first level.
        channels: feature channels of each level, finest first.
        latent_channels: latent channels of each level, finest first.
        encoder_skips: feed the encoder's features to the decoder too (the paper's ablation; the source then bypasses
            the diffusion).
        image_latent: the first scale² channels of the finest latent are the image itself, folded, and the full decoder adds
            what it finds to them: nothing is lost on the way, and nothing has to be learned before it is so.
        refinement_channels: channels of the decoder's last layers, which work at the image's own resolution; 0 leaves them out.
    """

    scale: int = 2
    channels: tuple[int, ...] = (32, 48, 64)
    latent_channels: tuple[int, ...] = (8, 8, 8)
    encoder_skips: bool = False
    image_latent: bool = True
    refinement_channels: int = 16

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.latent_channels) or len(self.channels) < 2:
            raise ValueError(
                f"channels {self.channels} and latent_channels {self.latent_channels} must both name the same "
                "number of levels, at least 2"
            )
        if min(self.channels + self.latent_channels) < 1:
            raise ValueError(
                f"channels and latent_channels must all be at least 1, got {self.channels} and {self.latent_channels}"
            )
        if self.scale < 1:
            raise ValueError(f"scale must be at least 1, got {self.scale}")
        if self.refinement_channels < 0:
            raise ValueError(f"refinement_channels must not be negative, got {self.refinement_channels}")
        if self.image_latent and self.latent_channels[0] < self.scale**2:
            raise ValueError(
                f"an image_latent needs {self.scale**2} channels or more in the finest latent, "
                f"got latent_channels {self.latent_channels}"
            )

    @property
    def num_levels(self) -> int:
        """Number of latent levels L."""
        return len(self.channels)

    @property
    def num_image_channels(self) -> int:
        """Channels of the finest latent that are the image."""
        return self.scale**2 if self.image_latent else 0

    @property
    def size_divisor(self) -> int:
        """Image sides must be multiples of this."""
        return self.scale * 2 ** (self.num_levels - 1)


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the denoiser.

    Args:
        channels: feature channels of each latent level, finest first.
        num_blocks: residual blocks per level on the way down, and on the way up.
        embedding_size: size of the time embedding.
    """

    channels: tuple[int, ...] = (48, 64, 96)
    num_blocks: int = 2
    embedding_size: int = 64

    def __post_init__(self) -> None:
        if min(self.channels, default=0) < 1:
            raise ValueError(f"denoiser channels must all be at least 1, got {self.channels}")
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {self.num_blocks}")
        if self.embedding_size < 2:
            raise ValueError(f"embedding_size must be at least 2, got {self.embedding_size}")


@dataclass(frozen=True)
class ResidualFlowConfig:
    """Shape of the diffusion of what the mean leaves over (model/residual_flow).

    Args:
        channels: feature channels at half the image's resolution.
        num_blocks: residual blocks.
        embedding_size: size of the time embedding.
    """

    channels: int = 36
    num_blocks: int = 3
    embedding_size: int = 32

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("num_blocks", 1), ("embedding_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"residual_flow.{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shapes of the networks.

    Args:
        kernel_match: start from the linear kernel match Ã = h∗A instead of A.
        autoencoder: encoder and decoder.
        denoiser: the network of the diffusion.
        residual_flow: the network of the diffusion of what the mean leaves over.
    """

    kernel_match: bool = True
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    residual_flow: ResidualFlowConfig = field(default_factory=ResidualFlowConfig)
