"""Training of one phase in its folder, by workers of Ray Train or by this process, for a number of steps or minutes.

folder/rates.json       validation loss of each learning rate that was tried
folder/checkpoints/     where an interrupted training goes on; the one with the lowest validation loss is the result
folder/metrics.jsonl    losses at every checkpoint, and when that was
folder_rate_0.001/      the trial of a learning rate, while it lasts
"""

import copy
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import nn

from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.precision import autocast
from ltdiff.registry.runs import TIME
from ltdiff.system.atomic_files import open_to_append, write_text
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, VALIDATION_LOSS, find_checkpoint, keep_checkpoint, load_best
from ltdiff.training.config import PhaseConfig, Settings
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.loop import train
from ltdiff.training.phase import Phase, PhaseTask
from ltdiff.training.phases import PHASES
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, PendingPhase, finish_phase, prepare_run, read_metrics, train_phases
from ltdiff.training.worker_context import BatchSource, WorkerContext, local_context, make_loaders

logger = logging.getLogger(__name__)

RATES_FILE = "rates.json"
TRIAL_SHARE, MIN_TRIAL_MINUTES = 0.05, 0.75
"""Minutes of the trial of a learning rate: a share of the phase's, but long enough for too high a rate to fail."""


@dataclass(frozen=True)
class Runner:
    """The place where phases are trained: `make_context` makes a worker that reports to a folder, `make_source` its batches."""

    make_context: Callable[[Path], WorkerContext]
    make_source: Callable[[PhaseTask, WorkerContext], BatchSource]


class Recorder:
    """Keeps the checkpoints of a phase and their metrics in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._end_torn_line()

    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Take the report of a worker after a checkpoint, which the first worker has saved in the folder `checkpoint`."""
        if checkpoint is not None:
            keep_checkpoint(checkpoint, among=self.folder / CHECKPOINTS_FOLDER)
            with open_to_append(self.folder / METRICS_FILE) as file:
                file.write(json.dumps(metrics | {TIME: round(time.time(), 3)}) + "\n")

    def _end_torn_line(self) -> None:
        """End a line that a full disk cut off, so that the next one does not continue it."""
        path = self.folder / METRICS_FILE
        content = path.read_text() if path.is_file() else ""
        if content and not content.endswith("\n"):
            with open_to_append(path) as file:  # nothing of it is written again: the disk may still be full
                file.write("\n")


def local_runner(manifest: pd.DataFrame) -> Runner:
    """Make the runner that trains in this process."""
    return Runner(make_local_context, lambda task, context: BatchSource(make_loaders(manifest, task), task, context))


def make_local_context(folder: Path) -> WorkerContext:
    """Make the context of the only worker, whose checkpoints are kept in `folder`."""
    return local_context(Recorder(folder))


def train_here(manifest: pd.DataFrame, *, out: Path, settings: Settings, runner: Runner | None = None) -> Path:
    """Train all phases of a run in this process, or resume it; return the folder of the model.

    A search gives a `runner` of its own, which scores and reports. `ray_driver.train_on_ray` does the same on Ray.

    Raises:
        ValueError: see `prepare_run`.
        FloatingPointError: a phase diverged.
    """
    prepare_run(manifest, out=out, settings=settings)
    return train_run(out, settings=settings, runner=runner or local_runner(manifest))


def train_run(out: Path, *, settings: Settings, runner: Runner) -> Path:
    """Train all phases of the run that was prepared in `out`, or resume it; return the folder of the model.

    Raises:
        FloatingPointError: a phase diverged.
    """

    def run(pending: list[PendingPhase]) -> None:
        for phase in pending:
            try:
                train_pending(phase, settings=settings, runner=runner)
            except FloatingPointError as error:
                raise FloatingPointError(f"{phase.folder}: {error}") from error

    if not (out / MODEL_FOLDER).is_dir():
        train_phases(list(settings.training.phases), out=out, settings=settings, run=run)
    return out / MODEL_FOLDER


def train_pending(pending: PendingPhase, *, settings: Settings, runner: Runner) -> None:
    """Train a phase of LTDiff++ from the model in its `start`, and save the result."""
    name, training = pending.name, settings.training
    model, _ = load_model(pending.start)

    def make(learning_rate: float) -> Phase:
        phase: PhaseConfig = replace(getattr(training, name), learning_rate=learning_rate)
        return PHASES[name](model, replace(settings, training=replace(training, **{name: phase})))  # type: ignore[arg-type]

    task = PhaseTask(
        name=name,
        network=model,
        make=make,
        draw="pairs" if PHASES[name].uses_pairs else "images",
        match_kernel=KernelMatcher(model.kernel_match if model.config.kernel_match else None),
        make_source=model.degradation,
        config=training,
        folder=pending.folder,
        learning_rates=training.rates_of(name),
        minutes=training.minutes_of(name),
        num_steps=getattr(training, name).num_steps if training.minutes is None else None,
    )
    trained, metrics = train_phase(task, runner)
    if metrics:
        assert isinstance(trained.model, LTDiff)
        finish_phase(trained.model, name=name, start=pending.start, folder=pending.folder, metrics=metrics)


def train_phase(task: PhaseTask, runner: Runner) -> tuple[nn.Module, dict[str, float]]:
    """Train a phase; return it with the weights of its best checkpoint, and the metrics of that checkpoint.

    Only the first worker gets these; the others get their last weights and no metrics.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    context = runner.make_context(task.folder)
    source = runner.make_source(task, context)

    def train_in(folder: Path, learning_rate: float, minutes: float | None, name: str) -> nn.Module:
        phase = task.make(learning_rate).to(context.device)
        with autocast(task.config.precision, context.device):
            phase.prepare(source.sample)
        return train(
            phase,
            name=name,
            config=task.config,
            batches=source.batches,
            validation=source.validation,
            context=runner.make_context(folder),
            minutes=minutes,
            resume_from=find_checkpoint(folder / CHECKPOINTS_FOLDER),
        )

    learning_rate = _choose_rate(task, train_in)
    trained = train_in(task.folder, learning_rate, task.minutes, task.name)
    if context.rank > 0:
        return trained, {}
    metrics = load_best(task.folder / CHECKPOINTS_FOLDER, trained)
    logger.info("%s: the result is that of step %d, by its validation loss", task.name, metrics["step"])
    facts = {} if task.minutes is None else {"learning_rate": learning_rate, "minutes": task.minutes}
    return trained, facts | metrics


def _choose_rate(task: PhaseTask, train_in: Callable[[Path, float, float | None, str], nn.Module]) -> float:
    """Return the learning rate with the lowest validation loss after a short training from the same weights."""
    if len(task.learning_rates) == 1 or task.minutes is None:
        return task.learning_rates[0]
    path = task.folder / RATES_FILE
    noted = json.loads(path.read_text()) if path.is_file() else {}
    losses: dict[float, float | None] = {float(rate): loss for rate, loss in noted.items()}  # None: not finite
    minutes = max(TRIAL_SHARE * task.minutes, min(MIN_TRIAL_MINUTES, task.minutes))
    start = copy.deepcopy(task.network.state_dict())
    for rate in (rate for rate in task.learning_rates if rate not in losses):
        folder = task.folder.with_name(f"{task.folder.name}_rate_{rate:g}")
        folder.mkdir(exist_ok=True)
        try:
            train_in(folder, rate, minutes, f"{task.name}, learning rate {rate:g}")
            loss = read_metrics(folder)[-1].get(VALIDATION_LOSS, math.nan)
            losses[rate] = loss if math.isfinite(loss) else None
        except FloatingPointError as error:
            logger.warning("%s: %s", task.name, error)
            losses[rate] = None
        task.network.load_state_dict(start)
        write_text(path, json.dumps({str(key): value for key, value in losses.items()}, indent=1) + "\n")
        shutil.rmtree(folder)
    return min(losses, key=lambda rate: (losses[rate] is None, losses[rate] or 0.0))
