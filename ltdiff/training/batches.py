"""The batches of a phase, made in this process: patches of the training slices, and the same few of the validation slices."""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch

from ltdiff.data.patches import fit_in_memory, make_loader
from ltdiff.training.phases import Batch, PhaseTask
from ltdiff.training.worker_context import WorkerContext

NUM_VALIDATION_BATCHES = 8
"""Batches per worker; a validation loss is their mean."""


class BatchSource:
    """Batches for `loop.train`, on the device of the `context`. Slices that fit in memory are read once."""

    def __init__(
        self, manifest: pd.DataFrame, task: PhaseTask, context: WorkerContext, *, keep_slices: bool | None = None
    ) -> None:
        self.context = context
        self.num_steps = task.num_steps or sys.maxsize
        self.batch_size = task.config.batch_size_per_worker
        self.loaders = {
            split: make_loader(
                manifest,
                split=split,
                pairs=task.pairs,
                patch_size=task.config.patch_size,
                seed=task.config.seed,
                match_kernel=task.match_kernel,
                keep_slices=split == "val" or (fit_in_memory(manifest) if keep_slices is None else keep_slices),
            )
            for split in ("train", "val")
        }

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
        if self.context.rank == 0:
            deque(self.validation(), maxlen=0)

    def validation(self) -> Iterator[Batch]:
        """Yield the validation batches: the same few unaugmented patches every time."""
        return (self._load("val", step) for step in range(NUM_VALIDATION_BATCHES * self.context.world_size))

    def _load(self, split: str, step: int) -> Batch:
        patches = self.loaders[split]({"id": np.arange(step * self.batch_size, (step + 1) * self.batch_size)})
        return {name: torch.from_numpy(images).to(self.context.device) for name, images in patches.items()}
