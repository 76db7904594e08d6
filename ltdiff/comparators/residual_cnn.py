"""A residual CNN on top of the linear kernel match: what most of the kernel-conversion papers train (Lee 2019, Choe 2019).

About half a million parameters at half resolution (a 2×2 block of pixels is folded into channels), trained with a pixel loss.
It shares patches, augmentation, optimizer, moving average and loop with LTDiff++.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltdiff.data.intensity import to_hu, to_network
from ltdiff.data.stream import PatchLoader, make_items
from ltdiff.model.blocks import PreciseConv2d, ResidualBlock
from ltdiff.model.kernel_match import KernelMatch
from ltdiff.training.config import PhaseConfig, TrainingConfig
from ltdiff.training.context import local_context
from ltdiff.training.kernel_match import KernelMatcher, fit_kernel_match
from ltdiff.training.loop import train
from ltdiff.training.losses import charbonnier
from ltdiff.training.phases import Batch

logger = logging.getLogger(__name__)

SCALE = 2


@dataclass(frozen=True)
class ResidualCNNConfig:
    """Size and training of the network.

    Args:
        channels: feature channels.
        num_blocks: residual blocks of two 3×3 convolutions.
        phase: steps and learning rate.
        training: patches, batch size, precision, seed (its phases are not used).
    """

    channels: int = 64
    num_blocks: int = 7
    phase: PhaseConfig = field(default_factory=lambda: PhaseConfig(num_steps=1500))
    training: TrainingConfig = field(default_factory=TrainingConfig)


class ResidualCNN(nn.Module):
    """The network: x + f(x), f zero before training; and, for the training loop, the phase that trains it."""

    uses_pairs = True

    def __init__(self, config: ResidualCNNConfig) -> None:
        super().__init__()
        self.config = config.phase
        self.enter = PreciseConv2d(SCALE**2, config.channels, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.channels) for _ in range(config.num_blocks)))
        self.leave = PreciseConv2d(config.channels, SCALE**2, kernel_size=3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def correct(self, x: Tensor) -> Tensor:
        """Ã (B, 1, H, W) → A' in network units; H and W even."""
        features = self.blocks(self.enter(functional.pixel_unshuffle(x, SCALE)))
        return x + functional.pixel_shuffle(self.leave(features), SCALE)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """See `Phase`."""
        source, target = (to_network(batch[name].float())[:, None] for name in ("source", "target"))
        return {"loss": charbonnier(self.correct(source), target)}


class ResidualCNNMethod:
    """Kernel match, then the network."""

    def __init__(self, config: ResidualCNNConfig | None = None) -> None:
        self.config = config or ResidualCNNConfig()
        torch.manual_seed(self.config.training.seed)
        self.network = ResidualCNN(self.config)
        self.kernel_match = KernelMatch()

    def fit(self, manifest: pd.DataFrame) -> None:
        """See `Comparator`."""
        self.kernel_match = fit_kernel_match(manifest)
        trained = train(
            self.network,
            name="residual_cnn",
            config=self.config.training,
            batches=lambda first: self._batches(manifest, "train", first, self.config.phase.num_steps),
            validation=lambda: self._batches(manifest, "val", 0, 4),
            context=local_context(_log_metrics),
        )
        assert isinstance(trained, ResidualCNN)
        self.network = trained.eval()

    @torch.inference_mode()
    def standardize(
        self, hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, first_slice: int = 0
    ) -> NDArray[np.float32]:
        """See `Comparator`."""
        low, high = (float(v) for v in self.kernel_match.range_hu)
        matched = to_network(self.kernel_match(torch.from_numpy(hu), spacing_mm))[:, None]
        height, width = matched.shape[-2:]
        padded = functional.pad(matched, (0, width % SCALE, 0, height % SCALE), mode="replicate")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.training.precision == "bf16"):
            corrected = self.network.correct(padded)[..., :height, :width]
        result: NDArray[np.float32] = to_hu(corrected)[:, 0].round().clamp(low, high).numpy()
        return result

    def _batches(self, manifest: pd.DataFrame, split: str, first_step: int, num_steps: int) -> Iterator[Batch]:
        if not (manifest.loc[manifest["pair_id"].notna(), "split"] == split).any():
            return  # a manifest may have no validation rows
        training = self.config.training
        matcher = KernelMatcher(self.kernel_match)
        items = make_items(manifest, split=split, pairs=True)
        loader = PatchLoader(items, training.patch_size, training.seed, matcher, augment=split == "train")
        for step in range(first_step, num_steps):
            visits = np.arange(step * training.batch_size_per_worker, (step + 1) * training.batch_size_per_worker)
            yield {name: torch.from_numpy(patches) for name, patches in loader({"id": visits}).items()}


def _log_metrics(metrics: dict[str, float], checkpoint: Path | None) -> None:
    logger.info("residual_cnn: %s", ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
