"""Several kernels in one network, without pairs, in the manner of the multipath cycleGAN (arXiv 2505.22568).

Each kernel has an encoder and a decoder of its own, and all meet in one shared network between them; each has a discriminator.
Every step draws two kernels and trains both directions between them with the terms of `cycle_loss`. A reimplementation: the
paths are light, the shared part is the U-Net of the other adversarial methods, and a decoder adds a change to the image.

A slice goes in by the path of its kernel. Where there are several source kernels, it is the one whose training slices have the
nearest texture: a method is not told the kernel of what it standardizes.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.batch_loader import TARGET, Draw, by_kernel
from ltdiff.data.manifest import evenly_spaced, read_hu
from ltdiff.data.network_inputs import to_network
from ltdiff.methods.adversarial import (
    SCALE,
    SIZE_DIVISOR,
    Discriminator,
    FeatureUNet,
    enter_features,
    leave_features,
    start_with_zeros,
)
from ltdiff.methods.cyclegan import CHANNELS, LEARNING_RATES, cycle_loss
from ltdiff.methods.image_network import ImageNetwork
from ltdiff.methods.protocol import FitError
from ltdiff.methods.texture_distance import TissueTexture, mean_texture, measure_texture, texture_distance
from ltdiff.training.config import TrainingConfig

MAX_SLICES = 16
"""Of a kernel, whose texture is measured."""


class Multipath(nn.Module):
    """A path in and a path out for each protocol, around one shared network; see `Translator`."""

    def __init__(self, protocols: Sequence[str] = ("source 0", TARGET)) -> None:
        super().__init__()
        self.encoders, self.decoders, self.discriminators = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.shared = FeatureUNet(CHANNELS)
        for name in protocols:
            decoder = leave_features(CHANNELS)
            start_with_zeros(decoder)
            self.encoders[name], self.decoders[name] = enter_features(CHANNELS), decoder
            self.discriminators[name] = Discriminator(1, CHANNELS)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the source protocols, and of the target."""
        return tuple(self.encoders)

    def convert(self, x: Tensor, *, start: str, goal: str) -> Tensor:
        """Image (B, 1, H, W) in network units of the protocol `start` → as if of the protocol `goal`."""
        latent = self.shared(self.encoders[start](functional.pixel_unshuffle(x, SCALE)))
        return x + functional.pixel_shuffle(self.decoders[goal](latent), SCALE)


class MultipathMethod(ImageNetwork):
    """In by the path of the source kernel, out by that of the target."""

    make_network = Multipath
    phase_name, loss = "adversarial", staticmethod(cycle_loss)
    draw: Draw = "kernels"
    uses_kernel_match = False
    learning_rates = LEARNING_RATES
    size_divisor = SIZE_DIVISOR

    def __init__(self, training: TrainingConfig) -> None:
        super().__init__(training)
        self.textures: dict[str, TissueTexture] = {}
        """Of the source protocols, where there are several."""

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        rows = by_kernel(manifest)
        if tuple(rows) != self.network.protocols:
            torch.manual_seed(self.training.seed)
            self.network = Multipath(tuple(rows))
        super().fit(manifest, folder=folder)
        sources = [name for name in rows if name != TARGET]
        self.textures = {name: _texture_of(rows[name]) for name in sources} if len(sources) > 1 else {}

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.network.convert(x, start=self.find_path(x), goal=TARGET)

    def find_path(self, x: Tensor) -> str:
        """Name of the source protocol whose texture is nearest to that of an image (1, 1, H, W)."""
        if not self.textures:
            return self.network.protocols[0]
        texture = measure_texture(x.cpu())
        distances = {name: float(texture_distance(texture, of_path)) for name, of_path in self.textures.items()}
        return min(distances, key=lambda name: distances[name])


def _texture_of(rows: pd.DataFrame) -> TissueTexture:
    """Of the slices that train, spread evenly; those that cannot be read are named by the training."""
    training = rows[rows["split"] == "train"].drop_duplicates(["path", "slice_index"]).to_dict("records")
    textures = []
    for number in evenly_spaced(len(training), at_most=MAX_SLICES):
        with suppress(ValueError):
            textures.append(measure_texture(to_network(torch.from_numpy(read_hu(training[number]))[None, None].float())))
    if not textures:
        raise FitError(f"no slice of the source kernel {training[0]['kernel']!r} can be read")
    return mean_texture(textures)
