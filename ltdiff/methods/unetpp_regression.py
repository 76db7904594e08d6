"""The encoder–decoder alone: UNet++ as a regression network, with and without encoder skips (the paper's ablations).

Encoder and decoder of the paper's kind with the sizes of LTDiff++'s and its deep supervision; no diffusion, no image among the
latents, and no last layers at full resolution. Given its best chance: it starts from the linear match and predicts a residual,
which printed versions do not.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from ltdiff.methods.image_network import ImageNetwork
from ltdiff.model.config import AutoencoderConfig
from ltdiff.model.unetpp import Decoder, Encoder
from ltdiff.training.config import LossConfig
from ltdiff.training.losses import charbonnier, supervise
from ltdiff.training.phase import Batch, BatchNoise, to_input


class UNetPP(nn.Module):
    """x + D(E(x)), zero before training."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        for head in self.decoder.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Ã (B, 1, H, W) → A' of every head in network units, the full decoder's last."""
        latents, features = self.encoder(x)
        return [x + head for head in self.decoder(latents, features)]


def supervised_loss(model: UNetPP, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
    """Pixel loss of every head, on pairs."""
    heads = model(to_input(batch["source"]))
    return {"loss": supervise(charbonnier, heads, to_input(batch["target"]), LossConfig().supervision_weights)}


class UNetPPMethod(ImageNetwork):
    """Kernel match, then the network."""

    config = AutoencoderConfig(encoder_skips=True, image_latent=False, refinement_channels=0)
    loss = staticmethod(supervised_loss)
    size_divisor = config.size_divisor

    @override
    @classmethod
    def make_network(cls) -> UNetPP:
        return UNetPP(cls.config)

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.network(x)[-1]


class UNetPPWithoutSkips(UNetPPMethod):
    """Without skips from encoder to decoder."""

    config = replace(UNetPPMethod.config, encoder_skips=False)
