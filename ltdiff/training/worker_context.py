"""The training loop's view of its surroundings: its rank among the workers, and where to report. Without Ray."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

Report = Callable[[dict[str, float], Path | None], None]
"""(metrics, folder of a new checkpoint or None)"""
Score = Callable[[str, nn.Module], dict[str, float]]
"""(name of the phase, the phase with averaged weights) → figures that are reported beside the losses"""


def no_score(name: str, phase: nn.Module) -> dict[str, float]:
    """Return no figures: the losses are enough."""
    return {}


@dataclass(frozen=True)
class WorkerContext:
    """One worker of `world_size`.

    `wrap` makes a module average its gradients over all workers, except inside `no_sync`; `mean` averages numbers over them.

    `must_save` tells the first worker after every step that a checkpoint is wanted now, because the run is about to be ended.
    `score` measures the model at every other checkpoint, on the first worker.
    """

    rank: int
    world_size: int
    device: torch.device
    report: Report
    wrap: Callable[[nn.Module], nn.Module]
    no_sync: Callable[[nn.Module], AbstractContextManager[None]] = lambda module: nullcontext()
    mean: Callable[[dict[str, float]], dict[str, float]] = dict
    must_save: Callable[[], bool] = lambda: False
    score: Score = no_score


def local_device() -> torch.device:
    """Return the device of a single process: its GPU, or else its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def local_context(report: Report) -> WorkerContext:
    """Make the context of the only worker, in this process."""
    return WorkerContext(rank=0, world_size=1, device=local_device(), report=report, wrap=lambda module: module)
