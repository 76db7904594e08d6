"""What each worker of Ray Train does: the pending phases of a run in order, on its shard of the batches."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch.nn.parallel import DistributedDataParallel

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.data.patches import fit_in_memory, make_loader
from ltdiff.data.stream import WorkerShard, make_stream
from ltdiff.data.volume_files import is_volume_file
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.system.ray_cluster import hide_gpus, restore_umask
from ltdiff.system.resources import num_cores
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, find_checkpoint, keep_checkpoint, load_best
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.loop import train
from ltdiff.training.phases import PHASES, Batch, Phase
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, RUN_FILE, PendingPhase, finish_phase
from ltdiff.training.worker_context import Score, WorkerContext, no_score

logger = logging.getLogger(__name__)

NUM_VALIDATION_BATCHES = 4
LOOK_EVERY_S = 1.0
STOP_FILE = ".stop"
"""In the run's folder while a run that is to end waits for a last checkpoint."""
FAILURE_FILE = ".failure"
"""In the run's folder: why a training ended that would end the same way if it were tried again."""


@dataclass(frozen=True)
class TrainingTask:
    """What the workers are given; all paths absolute, on storage that all nodes shard.

    `make_score` makes, on the first worker, what measures a phase's model at every checkpoint. `num_threads` are torch's, on each
    worker; None: the node's cores, divided among its workers.
    """

    out: Path
    manifest_path: Path
    settings: Settings
    pending: list[PendingPhase]
    make_score: Callable[[], Score] | None = None
    num_threads: int | None = None


def work(task: TrainingTask) -> None:
    """Train the pending phases, one after the other; what is done already, before a worker was lost, is left alone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # else every validation announces its pipeline
    restore_umask()
    if not task.settings.training.use_gpu:
        hide_gpus()
    failure = task.out / FAILURE_FILE
    if failure.is_file():
        return  # these workers are in the place of some that failed together
    train_context = ray.train.get_context()
    is_first = train_context.get_world_rank() == 0
    score = task.make_score() if task.make_score and is_first else no_score
    for phase in task.pending:
        if not (phase.folder / MODEL_FOLDER).is_dir():
            try:
                _train_phase(task, phase, score)
            except FloatingPointError as error:
                if is_first:
                    failure.write_text(str(error))
                if train_context.get_world_size() > 1:
                    raise  # gradients are the same for all workers, but the others would wait for one that cannot be scored
                return
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the next phase starts from what the first worker saves


def _train_phase(task: TrainingTask, pending: PendingPhase, score: Score) -> None:
    name, start, folder = pending
    folder.mkdir(parents=True, exist_ok=True)
    reporter = Reporter(folder)
    context = worker_context(reporter, score=score, num_threads=task.num_threads)
    model, _ = load_model(start)
    phase = PHASES[name](model, task.settings)
    streams = _Streams(task, phase, model, context)
    trained = train(
        phase,
        name=name,
        config=task.settings.training,
        batches=streams.batches,
        validation=streams.validation,
        context=context,
        resume_from=find_checkpoint(folder / CHECKPOINTS_FOLDER),
    )
    if context.rank == 0:
        assert isinstance(trained.model, LTDiff)
        metrics = load_best(folder / CHECKPOINTS_FOLDER, trained)
        logger.info("%s: the result is that of step %d, by its validation loss", name, metrics["step"])
        finish_phase(trained.model, name=name, start=start, folder=folder, metrics=metrics)


class Reporter:
    """Keeps the first worker's checkpoints and metrics in the phase's folder, and hands the metrics to Ray Train."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_file = folder.parent / STOP_FILE
        self.looked_s = -math.inf
        self._end_torn_line()

    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Of every worker after each checkpoint; the first one's is in the folder `checkpoint`."""
        if checkpoint is not None:
            keep_checkpoint(checkpoint, among=self.folder / CHECKPOINTS_FOLDER)
            with (self.folder / METRICS_FILE).open("a") as file:
                file.write(json.dumps(metrics) + "\n")
            if is_listed(self.stop_file):
                self.stop_file.unlink()
                return  # the run ends; the others have nothing to report, and Ray would wait for them
        ray.train.report(metrics)

    def must_save(self) -> bool:
        """Whether the run is to end; looked up once in a while, for on NFS it is a question to the server."""
        now_s = time.monotonic()
        if now_s - self.looked_s < LOOK_EVERY_S:
            return False
        self.looked_s = now_s
        return is_listed(self.stop_file)

    def _end_torn_line(self) -> None:
        """Where a full disk cut the last line off, the next one must not go on with it."""
        path = self.folder / METRICS_FILE
        content = path.read_text() if path.is_file() else ""
        if content and not content.endswith("\n"):
            with path.open("a") as file:  # nothing of it is written again: the disk may still be full
                file.write("\n")


def is_listed(path: Path) -> bool:
    """Whether a file is there, by the listing of its folder: asked for it by name, NFS may answer from memory for a minute."""
    return path in path.parent.iterdir()


def worker_context(report: Reporter, *, score: Score = no_score, num_threads: int | None = None) -> WorkerContext:
    """What the training loop is to know of Ray Train."""
    train_context = ray.train.get_context()
    torch.set_num_threads(num_threads or max(1, num_cores() // train_context.get_local_world_size()))
    # Ray names the GPU that it assigned even where torch sees none (GPUs that are permits only, in tests).
    device = get_device() if torch.cuda.is_available() else torch.device("cpu")
    is_alone = train_context.get_world_size() == 1
    is_first = train_context.get_world_rank() == 0
    return WorkerContext(
        rank=train_context.get_world_rank(),
        world_size=train_context.get_world_size(),
        device=device,
        report=report,
        wrap=partial(prepare_model, move_to_device=device),
        no_sync=lambda module: nullcontext() if is_alone else cast(DistributedDataParallel, module).no_sync(),
        mean=dict if is_alone else partial(_mean_over_workers, device=device),
        must_save=report.must_save if is_first else lambda: False,
        score=score,
    )


def _mean_over_workers(values: dict[str, float], *, device: torch.device) -> dict[str, float]:
    sums = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    return dict(zip(values, (sums / torch.distributed.get_world_size()).tolist(), strict=True))


def _read_manifest(task: TrainingTask) -> pd.DataFrame:
    """The manifest that the run began with: a phase may start hours later, and its model says what it was trained on."""
    manifest = read_manifest(task.manifest_path)
    began_with = json.loads((task.out / RUN_FILE).read_text())["data_fingerprint"]
    if data_fingerprint(manifest) != began_with:
        raise ValueError(f"{task.manifest_path} is no longer what this run began with")
    return manifest


class _Streams:
    """A worker's batches from Ray Data.

    Every worker runs a stream of its own over its shard of the samples: of each global batch, worker `rank` takes its
    `batch_size` consecutive samples. So the shards neither overlap nor leave anything out, and a stream can start at any step.
    """

    def __init__(self, task: TrainingTask, phase: Phase, model: LTDiff, context: WorkerContext) -> None:
        self.training = task.settings.training
        self.num_steps = phase.config.num_steps
        self.context = context
        self.batch_size = self.training.batch_size_per_worker
        manifest = _read_manifest(task)
        # for each slice a compressed volume file is decompressed as a whole
        keep_slices = any(is_volume_file(Path(path)) for path in manifest["path"]) and fit_in_memory(manifest)
        self.loaders = {
            split: make_loader(
                manifest,
                split=split,
                pairs=phase.uses_pairs,
                patch_size=self.training.patch_size,
                seed=self.training.seed,
                match_kernel=KernelMatcher(model.kernel_match if model.config.kernel_match else None),
                keep_slices=keep_slices,
            )
            for split in ("train", "val")
        }

    def batches(self, first_step: int) -> Iterator[Batch]:
        """This worker's batches from `first_step` to the last step."""
        shard = WorkerShard(self.batch_size, self.context.rank, self.context.world_size, first_step)
        num_samples = (self.num_steps - first_step) * self.batch_size
        stream = make_stream(self.loaders["train"], shard, num_samples=num_samples)
        return iter(stream.iter_torch_batches(batch_size=self.batch_size, device=self.context.device))

    def validation(self) -> Iterator[Batch]:
        """The same few unaugmented patches every time: as many as in some batches of all workers."""
        loader = self.loaders["val"]
        num_batches = NUM_VALIDATION_BATCHES * self.context.world_size
        for samples in np.arange(num_batches * self.batch_size).reshape(-1, self.batch_size):
            yield {
                name: torch.from_numpy(patches).to(self.context.device)
                for name, patches in loader({"id": samples}).items()
            }
