"""The training loop's view of its surroundings: its rank among the workers, where to report, and its batches. Without Ray."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from ltdiff.data.batch_loader import SEED_STEP, Loader, make_batch_loader
from ltdiff.data.patches import fit_in_memory
from ltdiff.data.slice_cache import SliceCache
from ltdiff.training.phase import Batch, PhaseTask

NUM_VALIDATION_PATCHES = 64
"""Those of each worker; a validation loss is the mean over all workers."""

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

    `must_save` tells the first worker after a step that a checkpoint is wanted now: the run, or a node, is about to be ended.
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


def make_loaders(
    manifest: pd.DataFrame, task: PhaseTask, *, keep_slices: bool | None = None, number: int = 0
) -> dict[str, Loader]:
    """What a phase is trained and validated with. Slices that fit in memory are kept there, unless `keep_slices` is given.

    Loaders of another `number` draw other places of the same slices.
    """
    cache = SliceCache.of(manifest, match=task.match_kernel.digest)
    return {
        split: make_batch_loader(
            manifest,
            draw=task.draw,
            split=split,
            patch_size=task.config.patch_size,
            seed=task.config.seed + number * SEED_STEP,
            match_kernel=task.match_kernel,
            make_source=task.make_source,
            keep_slices=split == "val" or (fit_in_memory(manifest) if keep_slices is None else keep_slices),
            cache=cache,
        )
        for split in ("train", "val")
    }


class BatchSource:
    """Batches for `loop.train`, on the device of the `context`. Slices that fit in memory are read once, others decoded once."""

    def __init__(self, loaders: Mapping[str, Loader], task: PhaseTask, context: WorkerContext) -> None:
        """`loaders` are those of the splits `train` and `val` (see `make_loaders`)."""
        self.loaders, self.context = loaders, context
        self.num_steps = task.num_steps or sys.maxsize
        self.batch_size = task.config.batch_size_of(task.name)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches from `first_step` to the last step; the next is made while one is used.

        By one thread: with a second team of OpenMP threads in the process, those of the training would no longer wait awake
        for their next turn, and every step would take half as long again.
        """
        self.loaders["train"].fill()
        self.keep_validation()
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            coming = pool.submit(self._load, "train", first_step)
            for step in range(first_step + 1, self.num_steps + 1):
                batch = coming.result()
                coming = pool.submit(self._load, "train", step)
                yield batch

    def keep_validation(self) -> None:
        """Read the slices that validate: the clock starts after the first batch, and reading is no training."""
        deque(self.validation(), maxlen=0)

    def validation(self) -> Iterator[Batch]:
        """Yield this worker's validation batches: the same few unaugmented patches every time."""
        first = self.context.rank * NUM_VALIDATION_PATCHES
        samples = np.arange(first, first + NUM_VALIDATION_PATCHES)
        return (self._read("val", samples[i : i + self.batch_size]) for i in range(0, len(samples), self.batch_size))

    def sample(self, num_patches: int) -> Batch:
        """The first patches of the training, the same ones for every worker."""
        return self._read("train", np.arange(num_patches))

    def _load(self, split: str, step: int) -> Batch:
        return self._read(split, np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def _read(self, split: str, samples: NDArray[np.int64]) -> Batch:
        patches = self.loaders[split]({"id": samples})
        return {name: torch.from_numpy(images).to(self.context.device) for name, images in patches.items()}
