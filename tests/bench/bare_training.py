"""The training loop without Ray, one of torchrun's workers: `bare_training.py PAIRS START OUT NUM_WORKERS`.

A DataLoader with one process reads ahead, as plain PyTorch has it: the same patches in the same blocks as Ray Data's.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset

from ltdiff.data.manifest import read_manifest
from ltdiff.data.patches import PatchLoader, make_loader, samples_per_block
from ltdiff.data.stream import WorkerShard
from ltdiff.model.ltdiff import load_model
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, keep_checkpoint
from ltdiff.training.config import PhaseConfig, Settings
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.loop import train
from ltdiff.training.phase import Batch
from ltdiff.training.phases import PHASES
from ltdiff.training.run import METRICS_FILE
from ltdiff.training.worker_context import WorkerContext

PHASE = "joint"
NUM_STEPS = 40
GLOBAL_BATCH_SIZE = 8


def settings_for(num_workers: int) -> Settings:
    """The default networks and losses, for some steps of one phase; as many patches a step by any number of workers."""
    training = replace(
        Settings().training,
        autoencoder=PhaseConfig(0),
        ddpm=PhaseConfig(0),
        joint=PhaseConfig(NUM_STEPS),
        batch_size_per_worker=GLOBAL_BATCH_SIZE // num_workers,
        num_workers=num_workers,
        checkpoint_every_steps=NUM_STEPS // 2,
    )
    return replace(Settings(), training=training)


class Patches(IterableDataset[Batch]):
    """A worker's batches, in blocks of as many samples as Ray Data's."""

    def __init__(self, loader: PatchLoader, shard: WorkerShard) -> None:
        self.loader, self.shard = loader, shard

    def __iter__(self) -> Iterator[Batch]:
        size, per_block = self.shard.batch_size, samples_per_block(self.loader.patch_size)
        for numbers in np.split(np.arange(NUM_STEPS * size), range(per_block, NUM_STEPS * size, per_block)):
            block = self.loader({"id": self.shard.samples(numbers)})
            for first in range(0, len(numbers), size):
                yield {name: torch.from_numpy(patches[first : first + size]) for name, patches in block.items()}


def main(pairs: Path, start: Path, out: Path, num_workers: int) -> None:
    """Train, and leave in `out` what a phase on Ray leaves: its last checkpoint, and the metrics."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))
    distributed.init_process_group("gloo")
    rank, settings = distributed.get_rank(), settings_for(num_workers)
    model, _ = load_model(start)
    loader = make_loader(
        read_manifest(pairs),
        split="train",
        pairs=True,
        patch_size=settings.training.patch_size,
        seed=settings.training.seed,
        match_kernel=KernelMatcher(model.kernel_match),
    )
    shard = WorkerShard(settings.training.batch_size_per_worker, rank, num_workers)

    def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
        if checkpoint is not None:
            keep_checkpoint(checkpoint, among=out / CHECKPOINTS_FOLDER)
            (out / METRICS_FILE).write_text(json.dumps(metrics) + "\n")

    context = WorkerContext(
        rank=rank,
        world_size=num_workers,
        device=torch.device("cpu"),
        report=report,
        wrap=DistributedDataParallel if num_workers > 1 else lambda module: module,
    )
    train(
        PHASES[PHASE](model, settings),
        name=PHASE,
        config=settings.training,
        batches=lambda first_step: iter(DataLoader(Patches(loader, shard), batch_size=None, num_workers=1)),
        validation=lambda: iter(()),
        context=context,
    )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]), int(sys.argv[4]))
