"""The work of each worker of Ray Train: the pending phases of a run in order, on its shard of the batches."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
import ray
import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from ray.train.v2._internal.execution.context import get_train_context as internal_context
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.data.patches import fit_in_memory
from ltdiff.data.stream import WorkerShard, make_stream
from ltdiff.data.volume_files import is_volume_file
from ltdiff.system.private_ray import restore_umask
from ltdiff.system.progress import configure_logging
from ltdiff.system.resources import hide_gpus, num_cores
from ltdiff.training.config import Settings
from ltdiff.training.phase import Batch, PhaseTask
from ltdiff.training.phase_training import Recorder, Runner, train_pending
from ltdiff.training.run import MODEL_FOLDER, RUN_FILE, PendingPhase
from ltdiff.training.worker_context import BatchSource, Score, WorkerContext, make_loaders, no_score

logger = logging.getLogger(__name__)

NUM_DATA_CPUS = 2
"""Logical CPUs for Ray Data beside the workers' own: with fewer, both would wait for each other for ever."""
STEPS_PER_STREAM = 20_000
"""Ray Data plans all blocks of a stream when it begins: a training whose length is a time has one stream after the other."""
LOOK_EVERY_S = 1.0
STOP_FILE = ".stop"
"""File in the run's folder that asks for a last checkpoint."""
FAILURE_FILE = ".failure"
"""File in the run's folder with the reason of a failure that a second try would repeat."""


@dataclass(frozen=True)
class TrainingTask:
    """The task of the workers; all paths are absolute, on storage that all nodes share.

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
    configure_logging(force=True)
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
    runner = Runner(
        lambda folder: worker_context(Reporter(folder), score=score, num_threads=task.num_threads),
        lambda phase, context: StreamedBatches(_read_manifest(task), phase, context),
    )
    for phase in task.pending:
        if not (phase.folder / MODEL_FOLDER).is_dir():
            try:
                train_pending(phase, settings=task.settings, runner=runner)
            except FloatingPointError as error:
                if is_first:
                    failure.write_text(str(error))
                if train_context.get_world_size() > 1:
                    raise  # gradients are the same for all workers, but the others would wait for one that cannot be scored
                return
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the next phase starts from what the first worker saves


class Reporter(Recorder):
    """A recorder that also hands the metrics to Ray Train, and knows when the run is to end or a node is to be taken away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stop_file = folder.parent / STOP_FILE
        self.looked_s = -math.inf
        self.notice: object = None
        self.is_alone = False

    @override
    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        super().__call__(metrics, checkpoint)
        if checkpoint is not None and is_listed(self.stop_file):
            self.stop_file.unlink()
            return  # the run ends; the others have nothing to report, and Ray would wait for them
        if not self.is_alone:
            ray.train.report(metrics)
        self.is_alone = False

    def must_save(self) -> bool:
        """Tell whether a checkpoint is wanted that this worker writes alone: the run must end, or a node of it will.

        It is looked up once in a while, because NFS asks the server.
        """
        now_s = time.monotonic()
        if now_s - self.looked_s < LOOK_EVERY_S:
            return False
        self.looked_s = now_s
        notice, before = preemption_notice(), self.notice
        self.notice = notice
        if notice is not None and notice != before:
            logger.warning("a node of this run is about to be taken away: a checkpoint is written, and the run goes on")
            self.is_alone = True
        elif is_listed(self.stop_file):
            self.is_alone = True
        return self.is_alone


def preemption_notice() -> object:
    """What Ray Train knows of nodes of this run that are about to be taken away; None if nothing.

    Its public function waits for all workers, which look at their clocks at different steps.
    """
    return internal_context().preemption_context.preemption_info


def is_listed(path: Path) -> bool:
    """Look a file up in the listing of its folder: asked for it by name, NFS may answer from its cache for a minute."""
    return path in path.parent.iterdir()


def worker_context(report: Reporter, *, score: Score = no_score, num_threads: int | None = None) -> WorkerContext:
    """Make the context of this worker of Ray Train."""
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
    """Read the manifest and check that the run began with it: a phase may start hours later."""
    manifest = read_manifest(task.manifest_path)
    began_with = json.loads((task.out / RUN_FILE).read_text())["data_fingerprint"]
    if data_fingerprint(manifest) != began_with:
        raise ValueError(f"{task.manifest_path} is no longer what this run began with")
    return manifest


def num_stream_cpus(cluster_cpus: float, *, num_workers: int) -> int:
    """Logical CPUs for the stream of each worker: its share of those of the cluster, but for the workers' own."""
    return max(1, int(cluster_cpus - NUM_DATA_CPUS) // num_workers)


class StreamedBatches(BatchSource):
    """A worker's batches from Ray Data.

    Every worker runs a stream of its own over its shard of the samples: of each global batch, worker `rank` takes its
    `batch_size` consecutive samples. So the shards neither overlap nor leave anything out, and a stream can start at any step.
    """

    def __init__(self, manifest: pd.DataFrame, task: PhaseTask, context: WorkerContext) -> None:
        # for each slice a compressed volume file is decompressed as a whole
        keep_slices = fit_in_memory(manifest) and any(is_volume_file(Path(path)) for path in manifest["path"])
        super().__init__(make_loaders(manifest, task, keep_slices=keep_slices), task, context)

    @override
    def batches(self, first_step: int) -> Iterator[Batch]:
        context, size = self.context, self.batch_size
        self.keep_validation()
        for first in range(first_step, self.num_steps, STEPS_PER_STREAM):
            num_steps = min(STEPS_PER_STREAM, self.num_steps - first)
            shard = WorkerShard(size, context.rank, context.world_size, first)
            num_cpus = num_stream_cpus(ray.cluster_resources().get("CPU", 0), num_workers=context.world_size)
            stream = make_stream(self.loaders["train"], shard, num_samples=num_steps * size, num_cpus=num_cpus)
            yield from stream.iter_torch_batches(batch_size=size, device=context.device)
