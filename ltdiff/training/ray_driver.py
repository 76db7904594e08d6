"""Training on Ray: one TorchTrainer for all phases of a run that are pending. What its workers do is in ray_worker."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from ltdiff.data.manifest import read_manifest
from ltdiff.data.slice_items import make_items
from ltdiff.system.lock import only_writer
from ltdiff.system.processes import exit_on_sigterm
from ltdiff.system.ray_cluster import on_node, ray_session
from ltdiff.system.resources import environment
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, find_checkpoint
from ltdiff.training.config import Settings
from ltdiff.training.ray_worker import FAILURE_FILE, NUM_DATA_CPUS, STOP_FILE, TrainingTask, is_listed, work
from ltdiff.training.run import MODEL_FOLDER, PendingPhase, prepare_run, train_phases
from ltdiff.training.run_log import watch_training
from ltdiff.training.worker_context import Score

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
STOP_S = 20.0
"""Longest wait for a last checkpoint when a run is told to end."""
WATCHER_VARIABLE = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""An actor of Ray's own tells workers that a node is about to be taken away; on a single node there is nothing to be told."""
RAY_FOLDER = ".ray"
"""Folder of Ray Train's own notes, in that of the run. Nothing is read from it again: checkpoints are ours."""


def num_cpus_needed(settings: Settings) -> int:
    """Logical CPUs that a phase needs in the cluster."""
    return settings.training.num_workers + NUM_DATA_CPUS


def train_on_ray(
    names: list[str],
    *,
    manifest_path: Path,
    out: Path,
    settings: Settings,
    allow_changes: bool = False,
    make_score: Callable[[], Score] | None = None,
    callbacks: Sequence[ray.train.UserCallback] = (),
    num_threads: int | None = None,
    tracking_uri: str | None = None,
    in_mlflow: bool = False,
) -> Path:
    """Train the named phases in the run folder `out` in one Ray session, resuming; the folder of the last result.

    `in_mlflow` shows the run in MLflow (`tracking_uri`, see `log_run`) while it is trained.

    `out` must be on storage that all nodes share. `allow_changes`: see `prepare_run`. A search adds a score of the model and
    callbacks of Ray Train, and says how many threads a worker may use; see `TrainingTask`.

    Raises:
        ValueError: see `prepare_run` and `train_phases`; or another job trains this run, the cluster is too small, a worker
            failed again and again, or there are checkpoints and none can be used.
        SystemExit: SIGTERM came (143); a checkpoint was written before.
        KeyboardInterrupt: Ctrl-C; what came after the last checkpoint is done again.
    """
    manifest_path, out = manifest_path.absolute(), out.absolute()  # workers may have another working directory
    # Before there is a folder: without pairs there is no run.
    manifest = read_manifest(manifest_path)
    make_items(manifest, split="train", pairs=True)
    num_gpus = settings.training.num_workers if settings.training.use_gpu else 0

    def run(pending: list[PendingPhase]) -> None:
        for phase in pending:  # what cannot be resumed is refused before workers are started
            find_checkpoint(phase.folder / CHECKPOINTS_FOLDER)
        task = TrainingTask(out, manifest_path, settings, pending, make_score, num_threads)
        # a Ray that is large enough for a phase; inside another one, the same
        num_cpus = num_cpus_needed(settings)
        with ray_session(num_cpus=num_cpus, num_gpus=num_gpus, dashboard=True, takes_all_cores=True), _ending_by_signals(out):
            _fit(task, callbacks)

    with only_writer(out):
        prepare_run(manifest, out=out, settings=settings, allow_changes=allow_changes)
        if (out / MODEL_FOLDER).is_dir():
            logger.info("%s: trained already", out)
            return out / MODEL_FOLDER
        with watch_training(manifest_path, out=out, tracking_uri=tracking_uri) if in_mlflow else nullcontext():
            return train_phases(names, out=out, settings=settings, run=run)


def _fit(task: TrainingTask, callbacks: Sequence[ray.train.UserCallback]) -> None:
    """One TorchTrainer, from the start of its workers to their end."""
    training, failure = task.settings.training, task.out / FAILURE_FILE
    failure.unlink(missing_ok=True)
    shutil.rmtree(task.out / RAY_FOLDER, ignore_errors=True)  # a damaged note of Ray's would keep it from starting
    trainer = TorchTrainer(
        partial(work, task),
        torch_config=TorchConfig(backend="nccl" if training.use_gpu and on_node(torch.cuda.is_available, num_gpus=1) else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=training.use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if training.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=RAY_FOLDER,
            storage_path=str(task.out),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=list(callbacks),
            logging_config=ray.train.LoggingConfig("ERROR"),
        ),
    )
    reason = None
    try:
        with environment({WATCHER_VARIABLE: str(int(len(ray.nodes()) > 1))}):
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        reason = _innermost(error)
    if failure.is_file():
        reason = failure.read_text()
        failure.unlink()
    if reason is not None:
        unfinished = next(phase.name for phase in task.pending if not (phase.folder / MODEL_FOLDER).is_dir())
        raise ValueError(f"phase {unfinished} failed: {reason}; the same command resumes it")


@contextmanager
def _ending_by_signals(out: Path) -> Iterator[None]:
    """SIGTERM waits for a checkpoint of the run in `out`, then ends with exit code 143; Ctrl-C is a KeyboardInterrupt.

    To be entered after Ray has started, which sets handlers of its own; the one of Ctrl-C raises SystemExit.
    """
    wanted = out / STOP_FILE
    wanted.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with exit_on_sigterm(partial(_await_checkpoint, wanted)):
            yield
    except SystemExit as ending:
        if ending.code == 128 + signal.SIGTERM:
            raise
        raise KeyboardInterrupt from ending
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
        wanted.unlink(missing_ok=True)


def _await_checkpoint(wanted: Path) -> None:
    """Ask the workers for a checkpoint by the file `wanted`, which they remove when it is written; wait for it, not for ever."""
    wanted.touch()
    deadline_s = time.monotonic() + STOP_S
    while is_listed(wanted) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if is_listed(wanted):
        logger.warning("no checkpoint came within %g s: the steps since the last one are done again", STOP_S)


def _innermost(error: ray.train.TrainingFailedError) -> str:
    """The last line of what went wrong in a worker (or around them), which Ray wraps in its own traceback."""
    cause = next(iter(error.worker_failures.values())) if isinstance(error, ray.train.WorkerGroupError) else error
    return str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__
