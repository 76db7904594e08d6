"""What a phase of a training is: a module whose forward gives the losses of a batch, and the task of training it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from ltdiff.data.batch_loader import Draw
from ltdiff.data.network_inputs import to_network
from ltdiff.data.patches import MakeSource
from ltdiff.diffusion.process import Process
from ltdiff.training.config import PhaseConfig, TrainingConfig
from ltdiff.training.fit_kernel_match import KernelMatcher

Network = TypeVar("Network", bound=nn.Module)
Batch = Mapping[str, Tensor]
"""Patches (B, H, W), int16. In HU: `image` in phase 1, `source` (kernel-matched) and `target` in phases 2 to 4. In mm: `y_mm`
and `x_mm`, the place of each pixel. Where protocols are drawn independently of each other (data/batch_loader): those of each."""


class BatchNoise:
    """Noise and diffusion times of a batch, a function of the seed and of each patch's number in the whole training.

    So those of a patch are the same however a batch is shared among workers or parts.
    """

    def __init__(self, seed: int, patches: Iterable[int]) -> None:
        self.generators = [torch.Generator().manual_seed((seed * 1_000_003 + patch) % 2**63) for patch in patches]

    def like(self, z: Tensor) -> Tensor:
        """Standard normal, of the shape (B, …) and on the device of `z`."""
        return torch.stack([torch.randn(z.shape[1:], generator=generator) for generator in self.generators]).to(z.device)

    def times(self, process: Process) -> Tensor:
        """One of the process's training times for each patch (B,)."""
        return torch.cat([process.sample_times(1, generator) for generator in self.generators])

    def uniform(self) -> Tensor:
        """A number in [0, 1) for each patch (B,)."""
        return torch.cat([torch.rand(1, generator=generator) for generator in self.generators])


class Phase(nn.Module):
    """What the training loop trains."""

    config: PhaseConfig
    uses_pairs = True
    tracks_batches = False
    """Whether a forward pass changes more than gradients, in the order of the batches."""

    num_uses = 1
    """Steps that are taken with each batch of the data stream."""

    def prepare(self, sample: Callable[[int], Batch]) -> None:
        """Fit what the phase needs to the first so many training patches, the same ones for every worker."""

    def feed(self, batch: Batch) -> Iterator[Batch]:
        """What is trained on, step by step, of a batch of the data stream: `num_uses` batches."""
        yield batch

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        """Losses by name; `loss` is the one that is minimized."""
        raise NotImplementedError


@dataclass(frozen=True)
class PhaseTask:
    """A phase of `network` that is to be trained in its folder for so many steps or minutes.

    `make` makes the phase for a learning rate.
    """

    name: str
    network: nn.Module
    make: Callable[[float], Phase]
    draw: Draw
    match_kernel: KernelMatcher
    make_source: MakeSource | None
    config: TrainingConfig
    folder: Path
    learning_rates: tuple[float, ...]
    minutes: float | None = None
    num_steps: int | None = None


def train_only(model: Network, *parts: str) -> Network:
    """Freeze a network except for these parts; "" stands for the whole network."""
    model.requires_grad_(False)
    for part in parts:
        model.get_submodule(part).requires_grad_(True)
    return model


def to_input(hu: Tensor) -> Tensor:
    """Patches in HU (B, H, W) → (B, 1, H, W) in network units."""
    return to_network(hu.float())[:, None].contiguous(memory_format=torch.channels_last)


def to_position_mm(batch: Batch) -> Tensor:
    """Places of the patches' pixels (B, 2, H, W) in mm."""
    return torch.stack([batch["y_mm"], batch["x_mm"]], dim=1).float().contiguous(memory_format=torch.channels_last)
