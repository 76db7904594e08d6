"""Ray Train's side of the training: a TorchTrainer for each phase, and what each of its workers does."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from torch.nn.parallel import DistributedDataParallel

from ltdiff.data.manifest import read_manifest
from ltdiff.data.stream import PatchLoader, Share, make_items, make_loader, make_stream
from ltdiff.local_ray import ray_session
from ltdiff.lock import only_writer
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, find_checkpoint, keep_checkpoint
from ltdiff.training.config import Settings, TrainingConfig
from ltdiff.training.context import WorkerContext
from ltdiff.training.kernel_match import KernelMatcher
from ltdiff.training.loop import train
from ltdiff.training.phases import PHASES, Batch, Phase
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, finish_phase, prepare_run, train_phases

logger = logging.getLogger(__name__)

NUM_DATA_CPUS = 2
"""Logical CPUs for Ray Data beside the workers' own: with fewer, both would wait for each other for ever."""
NUM_VALIDATION_BATCHES = 4
MAX_FAILURES = 3
STOP_FILE = ".stop"
"""In the phase's folder while a run that is to end waits for a last checkpoint."""
STOP_S = 20.0
"""How long it waits at most."""


def num_cpus_needed(settings: Settings) -> int:
    """Logical CPUs that a phase needs in the cluster."""
    return settings.training.num_workers + NUM_DATA_CPUS


def train_on_ray(names: list[str], *, manifest_path: Path, out: Path, settings: Settings) -> Path:
    """Train the named phases in the run folder `out` in one Ray session, resuming; the folder of the last result.

    Raises:
        ValueError: see `prepare_run` and `train_phases`; or another job trains this run, or the cluster is too small.
    """
    manifest_path, out = manifest_path.absolute(), out.absolute()  # workers may have another working directory
    # Before there is a folder: without pairs there is no run.
    make_items(read_manifest(manifest_path), split="train", pairs=True)
    with only_writer(out):
        prepare_run(manifest_path, out=out, settings=settings)
        if (out / MODEL_FOLDER).is_dir():
            logger.info("%s: trained already", out)
            return out / MODEL_FOLDER
        with _session(settings):
            return train_phases(names, manifest_path=manifest_path, out=out, settings=settings, run_phase=run_phase)


def run_phase(name: str, *, settings: Settings, manifest_path: Path, start: Path, folder: Path) -> None:
    """Train one phase on Ray Train, resuming from its last checkpoint where there is one; leaves `folder`/model.

    `folder` must be on storage that all nodes share.

    Raises:
        ValueError: a worker failed again and again, or could not be started; its error is named. Or there are checkpoints, and
            none can be used.
        SystemExit: SIGTERM came (143); a checkpoint was written before.
        KeyboardInterrupt: Ctrl-C; what came after the last checkpoint is done again.
    """
    training = settings.training
    folder.mkdir(parents=True, exist_ok=True)
    find_checkpoint(folder / CHECKPOINTS_FOLDER)  # what cannot be resumed is refused before workers are started
    job = {"name": name, "settings": settings, "manifest": manifest_path, "start": start, "folder": folder}
    with _session(settings), _save_on_sigterm(folder):
        trainer = TorchTrainer(
            _work,
            train_loop_config={key: str(value) if isinstance(value, Path) else value for key, value in job.items()},
            torch_config=TorchConfig(backend="nccl" if training.use_gpu and torch.cuda.is_available() else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=training.num_workers,
                use_gpu=training.use_gpu,
                resources_per_worker={"CPU": 1, **({"GPU": 1} if training.use_gpu else {})},
            ),
            run_config=ray.train.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent.absolute()),
                failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise ValueError(f"phase {name} failed: {_innermost(error)}; the same command resumes it") from error


def _session(settings: Settings) -> AbstractContextManager[None]:
    """A Ray that is large enough for a phase; inside another one, the same."""
    num_gpus = settings.training.num_workers if settings.training.use_gpu else 0
    return ray_session(num_cpus=num_cpus_needed(settings), num_gpus=num_gpus)


@contextmanager
def _save_on_sigterm(folder: Path) -> Iterator[None]:
    """On SIGTERM (`ray job stop`, a scheduler) wait for a checkpoint of the phase in `folder`, then end with exit code 143.

    To be entered after Ray has started, which sets a handler of its own. While it waits for a result, Ray turns what a
    handler raises into an exit with code 1; so does its own handler of Ctrl-C, which here is the KeyboardInterrupt that it was.
    """
    wanted = folder / STOP_FILE
    wanted.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return

    told_to_stop = False

    def stop(signal_number: int, _: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        logger.warning("ending at SIGTERM, after a checkpoint; the same command goes on from it")
        wanted.touch()
        deadline_s = time.monotonic() + STOP_S
        while wanted.exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        sys.exit(128 + signal_number)

    on_interrupt, on_termination = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as ending:
        raise (SystemExit(128 + signal.SIGTERM) if told_to_stop else KeyboardInterrupt) from ending
    finally:
        signal.signal(signal.SIGTERM, on_termination)
        signal.signal(signal.SIGINT, on_interrupt)
        wanted.unlink(missing_ok=True)


def _innermost(error: ray.train.TrainingFailedError) -> str:
    """The last line of what went wrong in a worker (or around them), which Ray wraps in its own traceback."""
    cause = next(iter(error.worker_failures.values())) if isinstance(error, ray.train.WorkerGroupError) else error
    return str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__


def _work(job: dict[str, Any]) -> None:
    """What every worker of a phase does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # else every validation announces its pipeline
    settings: Settings = job["settings"]
    name, start, folder = job["name"], Path(job["start"]), Path(job["folder"])
    reporter = _Reporter(folder)
    context = _worker_context(reporter)
    model, _ = load_model(start)
    phase = PHASES[name](model, settings)
    streams = _Streams(job, phase, model, context)
    trained = train(
        phase,
        name=name,
        config=settings.training,
        batches=streams.batches,
        validation=streams.validation,
        context=context,
        resume_from=find_checkpoint(folder / CHECKPOINTS_FOLDER),
    )
    if context.rank == 0:
        assert isinstance(trained.model, LTDiff)
        finish_phase(trained.model, name=name, start=start, folder=folder, metrics=reporter.latest)


class _Reporter:
    """Keeps the first worker's checkpoints and metrics in the phase's folder, and hands the metrics to Ray Train."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_file = folder / STOP_FILE
        self.latest: dict[str, float] = {}

    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.latest = metrics
        if checkpoint is not None:
            keep_checkpoint(checkpoint, among=self.folder / CHECKPOINTS_FOLDER)
            with (self.folder / METRICS_FILE).open("a") as file:
                file.write(json.dumps(metrics) + "\n")
            if self.stop_file.exists():
                self.stop_file.unlink()
                return  # the run ends; the others have nothing to report, and Ray would wait for them
        ray.train.report(metrics)


def _worker_context(report: _Reporter) -> WorkerContext:
    train_context = ray.train.get_context()
    num_cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, num_cores // train_context.get_local_world_size()))
    # Ray names the GPU that it assigned even where torch sees none (GPUs that are permits only, in tests).
    device = get_device() if torch.cuda.is_available() else torch.device("cpu")
    is_alone = train_context.get_world_size() == 1
    return WorkerContext(
        rank=train_context.get_world_rank(),
        world_size=train_context.get_world_size(),
        device=device,
        report=report,
        wrap=partial(prepare_model, move_to_device=device),
        alone=lambda module: nullcontext() if is_alone else cast(DistributedDataParallel, module).no_sync(),
        mean=dict if is_alone else partial(_mean_over_workers, device=device),
        must_save=report.stop_file.exists if train_context.get_world_rank() == 0 else lambda: False,
    )


def _mean_over_workers(values: dict[str, float], *, device: torch.device) -> dict[str, float]:
    sums = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    return dict(zip(values, (sums / torch.distributed.get_world_size()).tolist(), strict=True))


class _Streams:
    """A worker's batches from Ray Data.

    Every worker runs a stream of its own over its share of the visits: of each global batch, worker `rank` takes its
    `batch_size` consecutive visits. So the shares neither overlap nor leave anything out, and a stream can start at any step.
    """

    def __init__(self, job: dict[str, Any], phase: Phase, model: LTDiff, context: WorkerContext) -> None:
        self.training: TrainingConfig = job["settings"].training
        self.num_steps = phase.config.num_steps
        self.context = context
        self.batch_size = self.training.batch_size_per_worker
        self.manifest = read_manifest(Path(job["manifest"]))
        self.uses_pairs = phase.uses_pairs
        self.match_kernel = KernelMatcher(model.kernel_match if model.config.kernel_match else None)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """This worker's batches from `first_step` to the last step."""
        share = Share(self.batch_size, self.context.rank, self.context.world_size, first_step)
        num_visits = (self.num_steps - first_step) * self.batch_size
        stream = make_stream(self._loader("train"), share, num_visits=num_visits)
        return iter(stream.iter_torch_batches(batch_size=self.batch_size, device=self.context.device))

    def validation(self) -> Iterator[Batch]:
        """The same few unaugmented patches every time: as many as in some batches of all workers."""
        loader = self._loader("val")
        num_batches = NUM_VALIDATION_BATCHES * self.context.world_size
        for visits in np.arange(num_batches * self.batch_size).reshape(-1, self.batch_size):
            yield {
                name: torch.from_numpy(patches).to(self.context.device)
                for name, patches in loader({"id": visits}).items()
            }

    def _loader(self, split: str) -> PatchLoader:
        return make_loader(
            self.manifest,
            split=split,
            pairs=self.uses_pairs,
            patch_size=self.training.patch_size,
            seed=self.training.seed,
            match_kernel=self.match_kernel,
        )
