"""A residual CNN on top of the linear kernel match: what most of the kernel-conversion papers train (Lee 2019, Choe 2019).

About half a million parameters at half resolution (a 2×2 block of pixels is folded into channels), trained with a pixel loss.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.slice_pairs import has_validation_pairs
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.method import Method
from ltdiff.methods.image_network import ImageNetwork
from ltdiff.model.blocks import PreciseConv2d, ResidualBlock
from ltdiff.training.losses import charbonnier
from ltdiff.training.phase import Batch, BatchNoise, to_input
from ltdiff.uncertainty.fit_residual import fit_sampled

SCALE = 2


class ResidualCNN(nn.Module):
    """x + f(x), f zero before training."""

    def __init__(self, *, channels: int = 64, num_blocks: int = 7) -> None:
        super().__init__()
        self.enter = PreciseConv2d(SCALE**2, channels, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(num_blocks)))
        self.leave = PreciseConv2d(channels, SCALE**2, kernel_size=3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Ã (B, 1, H, W) → A' in network units; H and W even."""
        features = self.blocks(self.enter(functional.pixel_unshuffle(x, SCALE)))
        return x + functional.pixel_shuffle(self.leave(features), SCALE)


def pixel_loss(model: nn.Module, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
    """Loss of a network that takes and gives an image, on pairs."""
    source, target = (to_input(batch[name]) for name in ("source", "target"))
    return {"loss": charbonnier(model(source), target)}


class ResidualCNNMethod(ImageNetwork):
    """Kernel match, then the network."""

    make_network, loss = ResidualCNN, staticmethod(pixel_loss)
    size_divisor = SCALE

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        super().fit(manifest, folder=folder)
        self.sample = fit_sampled(self, manifest, range_hu=self.range_hu) if has_validation_pairs(manifest) else None

    @override
    def variants(self) -> Mapping[str, Method]:
        """Return a sample, beside which a sample of LTDiff++ shows whether it is any better."""
        return {} if self.sample is None else {"_sample": self.sample}

    @override
    def expectations(self) -> Mapping[str, Expectation]:
        """Return that of its samples."""
        return {} if self.sample is None else {"_expected": Expectation(self.sample)}
