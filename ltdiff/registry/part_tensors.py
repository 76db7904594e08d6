"""What goes into a registered part of a model and comes out, by name: for its signature, and for the program that runs it.

Level i of the latents is called NAME_i, the finest first. `x` is an image in network units (data/network_inputs).

encoder   x → latent_i, scaled as the denoiser takes them; mean_i and std_i: raw_i = latent_i · std_i + mean_i; feature_i
denoiser  z_t_i, source_i, t → output_i
decoder   raw_i, spacing_mm → x; of models with `encoder_skips` it also takes feature_i
"""

from collections.abc import Sequence
from typing import NamedTuple

from ltdiff.model.config import ModelConfig

Shape = tuple[int, ...]
IMAGE: Shape = (-1, 1, -1, -1)


class PartTensors(NamedTuple):
    """Shapes of the float32 tensors by name; −1 is any size."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def part_tensors(part: str, config: ModelConfig) -> PartTensors:
    """Of the encoder, the denoiser or the decoder of a model with this configuration."""
    autoencoder = config.autoencoder
    z = autoencoder.latent_channels
    features = _levels("feature", autoencoder.channels)
    if part == "encoder":
        moments: dict[str, Shape] = {f"{name}_{i}": (1, c, 1, 1) for name in ("mean", "std") for i, c in enumerate(z)}
        return PartTensors({"x": IMAGE}, _levels("latent", z) | moments | features)
    if part == "denoiser":
        return PartTensors(_levels("z_t", z) | _levels("source", z) | {"t": (-1,)}, _levels("output", z))
    skips = features if autoencoder.encoder_skips else {}
    return PartTensors(_levels("raw", z) | skips | {"spacing_mm": (-1, 2)}, {"x": IMAGE})


def _levels(name: str, channels: Sequence[int]) -> dict[str, Shape]:
    return {f"{name}_{i}": (-1, c, -1, -1) for i, c in enumerate(channels)}
