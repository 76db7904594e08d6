"""Random numbers of a batch, patch by patch: those of a patch are the same however a batch is shared among workers or parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ltdiff.diffusion.process import Process


class BatchNoise:
    """Noise and diffusion times of a batch, a function of the seed and of each patch's number in the whole training."""

    def __init__(self, seed: int, patches: Iterable[int]) -> None:
        self.generators = [torch.Generator().manual_seed((seed * 1_000_003 + patch) % 2**63) for patch in patches]

    def like(self, z: Tensor) -> Tensor:
        """Standard normal, of the shape (B, …) and on the device of `z`."""
        return torch.stack([torch.randn(z.shape[1:], generator=generator) for generator in self.generators]).to(
            z.device
        )

    def times(self, process: Process) -> Tensor:
        """One of the process's training times for each patch (B,)."""
        return torch.cat([process.sample_times(1, generator) for generator in self.generators])
