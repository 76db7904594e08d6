"""What the training loop knows of the outside: who it is among the workers, and where to report. Not Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

Report = Callable[[dict[str, float], Path | None], None]
"""(metrics, folder of a new checkpoint or None)"""


@dataclass(frozen=True)
class WorkerContext:
    """One worker of `world_size`; `wrap` makes a module average its gradients over all of them."""

    rank: int
    world_size: int
    device: torch.device
    report: Report
    wrap: Callable[[nn.Module], nn.Module]


def local_device() -> torch.device:
    """What a single process computes on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def local_context(report: Report) -> WorkerContext:
    """The only worker, in this process."""
    return WorkerContext(rank=0, world_size=1, device=local_device(), report=report, wrap=lambda module: module)
