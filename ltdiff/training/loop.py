"""One training loop for all phases. It sees a worker context and an iterator of batches, not Ray."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ltdiff.model.precision import autocast
from ltdiff.system.progress import LINE_EVERY_S, duration
from ltdiff.system.resources import keep_freed_memory
from ltdiff.training.checkpoint import load_checkpoint, save_checkpoint
from ltdiff.training.config import TrainingConfig
from ltdiff.training.phase import Batch, BatchNoise, Phase
from ltdiff.training.worker_context import NUM_VALIDATION_PATCHES, WorkerContext

logger = logging.getLogger(__name__)

NUM_WARMUP_STEPS = 50
BETAS = 0.9, 0.99
"""Decay rates of AdamW's moments."""

Tensors = tuple[Tensor, ...] | list[Tensor]


def train(
    phase: Phase,
    *,
    name: str,
    config: TrainingConfig,
    batches: Callable[[int], Iterator[Batch]],
    validation: Callable[[], Iterator[Batch]],
    context: WorkerContext,
    minutes: float | None = None,
    resume_from: Path | None = None,
) -> nn.Module:
    """Run a phase to its last step, or for so many minutes, and return it with the moving average of its weights.

    `batches(first_step)` gives this worker's batches from that step to the last. Noise is a function of the seed and the
    patch's number: a run that was interrupted and resumed goes the same way as one that never was, unless its length is a
    time; and one with more workers and as many patches in all goes the same way but for rounding, and for the moments of phase
    1's latents, which are those of the first worker's patches.
    """
    keep_freed_memory()
    trainer = _Trainer(phase, config, context, minutes)
    first_step, elapsed_s = load_checkpoint(resume_from, **trainer.state) if resume_from else (0, 0.0)
    clock = Clock(phase.config.num_steps, minutes, elapsed_s)
    progress = _Progress(name, clock)
    if resume_from and clock.part_done(first_step) >= 1:
        return trainer.averaged.module  # stopped after the last checkpoint, before the result was saved
    if first_step and context.rank == 0:
        logger.info("%s: going on after step %d", name, first_step)
    stream = progress.watch(batches(first_step // phase.num_uses))
    for step, batch in enumerate(trainer.feed(stream, num_skipped=first_step % phase.num_uses), start=first_step):
        if step == first_step:
            clock.start(elapsed_s)  # reading the first batch is no training
        progress.add(step + 1, trainer.take_step(batch, step, clock.part_done(step)), log=context.rank == 0)
        is_last = clock.part_done(step + 1) >= 1
        is_regular = is_last or (step + 1) % (config.checkpoint_every(name) * phase.num_uses) == 0
        # Not with others: at a regular checkpoint they wait for the first worker.
        must_save = (not is_regular or context.world_size == 1) and context.must_save()
        if not is_regular and not must_save:
            continue
        metrics = progress.means()  # before the validation, which is no training
        if is_last or not must_save:  # else the first worker is alone with its last checkpoint
            metrics = context.mean(metrics | trainer.validate(validation()))
            if context.rank == 0:
                metrics |= context.score(name, trainer.averaged.module)
        trainer.checkpoint(step + 1, clock.elapsed_s, metrics)
        progress.restart()
        if is_last:
            break
    return trainer.averaged.module


def learning_rate(step: int, *, peak: float, num_warmup_steps: int, part_done: float) -> float:
    """The rate at a step: linear warm-up, and a half cosine that ends at zero when the phase is done."""
    warmup = min(1.0, (step + 1) / num_warmup_steps)
    return peak * warmup * 0.5 * (1 + math.cos(math.pi * part_done))


def clip_to_usual_norms(optimizer: torch.optim.AdamW) -> bool:
    """Scale the gradient of each tensor down to its usual norm; False where one is not finite.

    The usual norm is the root of AdamW's second moments, summed over the tensor. At high learning rates a few batches with
    large gradients in a few tensors, while their moments are still small, throw the weights so far off that the loss is
    many times as high for a hundred steps (docs/notes/ablation.md); one norm for all tensors together does not see these.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    gradients: Tensors = [cast(Tensor, p.grad) for p in parameters]
    norms = torch.stack(torch._foreach_norm(gradients))
    if not torch.isfinite(norms).all():
        return False
    states = [optimizer.state[p] for p in parameters]
    if all(states):  # from the second step on
        sums = torch.stack(torch._foreach_norm([state["exp_avg_sq"] for state in states], 1))
        usual = (sums / (1 - BETAS[1] ** float(states[0]["step"]))).sqrt()
        # A tensor behind a layer that began with zeros has had no gradient yet, and no usual norm.
        factors = torch.where((usual > 0) & (norms > usual), usual / norms, 1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()))
    return True


class Clock:
    """The part of a phase that is done, by its minutes where these are given, or else by its steps."""

    def __init__(self, num_steps: int, minutes: float | None = None, elapsed_s: float = 0.0) -> None:
        """Start the clock; `elapsed_s` is the time that earlier runs of the phase took."""
        self.num_steps, self.minutes = num_steps, minutes
        self.start(elapsed_s)

    def start(self, elapsed_s: float) -> None:
        """Count from now on, beginning at `elapsed_s`."""
        self.started_s = time.monotonic() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds that this run and earlier ones took."""
        return time.monotonic() - self.started_s

    def part_done(self, num_steps_done: int) -> float:
        """Return the part that is done, 0 to 1."""
        if self.minutes is None:
            return min(num_steps_done / self.num_steps, 1.0)
        return min(self.elapsed_s / (60 * self.minutes), 1.0)


class _Trainer:
    """A phase, its optimizer and its moving average on one worker."""

    def __init__(self, phase: Phase, config: TrainingConfig, context: WorkerContext, minutes: float | None) -> None:
        self.config, self.context, self.learning_rate = config, context, phase.config.learning_rate
        self.num_warmup_steps = NUM_WARMUP_STEPS if minutes else min(NUM_WARMUP_STEPS, phase.config.num_steps)
        self.phase: Phase = phase.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.phase, multi_avg_fn=_moving_average(config.ema_decay))
        self.parameters = [p for p in self.phase.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, betas=BETAS, weight_decay=1e-4, fused=True)
        self.wrapped = context.wrap(self.phase)
        self.halves = self._make_halves()

    @property
    def state(self) -> dict[str, Any]:
        """Module, moving average and optimizer: the content of a checkpoint."""
        return {"module": self.phase, "averaged": self.averaged, "optimizer": self.optimizer}

    def feed(self, stream: Iterator[Batch], *, num_skipped: int) -> Iterator[Batch]:
        """The batches of the steps, without the first so many."""
        for batch in stream:
            with self._autocast():
                used = list(self.phase.feed(batch))
            yield from used[num_skipped:]
            num_skipped = 0

    def take_step(self, batch: Batch, step: int, part_done: float) -> dict[str, Tensor]:
        """One optimizer step, when `part_done` of the phase is done; the losses, detached."""
        rate = learning_rate(step, peak=self.learning_rate, num_warmup_steps=self.num_warmup_steps, part_done=part_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.phase.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(batch, step)
        # by one half's threads: a whole team's would wait for each other in each of its many small operations
        is_finite = self.halves.submit(self._update).result() if self.halves else self._update()
        if not is_finite:
            raise FloatingPointError(f"the gradient at step {step + 1} is not finite; lower the learning rate")
        return losses

    def _update(self) -> bool:
        """Move the weights and their average; False, and nothing is moved, where a gradient is not finite."""
        if not clip_to_usual_norms(self.optimizer):
            return False
        self.optimizer.step()
        self.averaged.update_parameters(self.phase)
        return True

    def _accumulate(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The gradients of a worker's batch, one of its parts after the other or two halves beside each other, and its mean
        losses, detached.
        """
        size = _size(batch)
        first = (step * self.context.world_size + self.context.rank) * size
        if self.halves is not None:
            halves = torch.arange(size).chunk(2)
            losses = list(self.halves.map(lambda places: self._backward(batch, places, first), halves))
        else:
            *others, last = torch.arange(size).chunk(self.config.gradient_accumulation_steps)
            with self.context.no_sync(self.wrapped):
                losses = [self._backward(batch, places, first) for places in others]
            losses.append(self._backward(batch, last, first))  # the workers' gradients are averaged with the last part's
        return {key: torch.stack([loss[key] for loss in losses]).sum() for key in losses[0]}

    def _backward(self, batch: Batch, places: Tensor, first: int) -> dict[str, Tensor]:
        """Add the gradients of some of a batch's patches; their share of its mean losses, detached."""
        size = _size(batch)
        part = {key: value[places] for key, value in batch.items()} if len(places) < size else batch
        with self._autocast():
            losses = self.wrapped(part, BatchNoise(self.config.seed, (first + places).tolist()))
        (losses["loss"] * (len(places) / size)).backward()
        return {key: value.detach() * (len(places) / size) for key, value in losses.items()}

    def _make_halves(self) -> ThreadPoolExecutor | None:
        """Two threads for the halves of each batch, where a process trains alone on CPUs.

        The threads of an operation wait for each other many thousand times a step: where other processes want the same cores,
        what is left of the rate is a quarter to a third. Halves wait once a step, and keep half of it. Two, because the sum of
        two gradients does not depend on which comes first.
        """
        num_threads = torch.get_num_threads()
        is_whole = self.config.gradient_accumulation_steps > 1 or self.phase.tracks_batches
        if num_threads < 2 or is_whole or self.context.world_size > 1 or self.context.device.type != "cpu":
            return None
        return ThreadPoolExecutor(2, "half", torch.set_num_threads, (num_threads // 2,))

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Mean losses of the averaged weights on this worker's batches, always with the same noise."""
        self.averaged.eval()
        sums: dict[str, float] = {}
        first = number = self.context.rank * NUM_VALIDATION_PATCHES
        for batch in batches:
            noise = BatchNoise(self.config.seed, range(number, number + _size(batch)))
            number += _size(batch)
            with self._autocast():
                losses = self.averaged.module(batch, noise)
            sums = {key: sums.get(key, 0.0) + float(loss) * _size(batch) for key, loss in losses.items()}
        return {f"val_{key}": value / (number - first) for key, value in sums.items()}

    def checkpoint(self, step: int, elapsed_s: float, metrics: dict[str, float]) -> None:
        """Report metrics and, on the first worker, a checkpoint."""
        is_first, metrics = self.context.rank == 0, {"step": float(step), **metrics}
        with TemporaryDirectory(prefix="ltdiff-checkpoint-") if is_first else nullcontext() as folder:
            if folder is not None:
                save_checkpoint(Path(folder), step=step, elapsed_s=elapsed_s, metrics=metrics, **self.state)
            self.context.report(metrics, Path(folder) if folder else None)

    def _autocast(self) -> torch.autocast:
        return autocast(self.config.precision, self.context.device)


class _Progress:
    """Means of the losses since the last checkpoint, and every few seconds a line with rate, time left and the share of the time
    that was spent waiting for data.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self.clock = name, clock
        self.logged_s = time.monotonic()
        self.history: dict[str, list[Tensor]] = {}
        self.restart()

    def restart(self) -> None:
        """Count from now on: validation and checkpoint are no training."""
        self.num_steps, self.start, self.waited_s = 0, self.clock.elapsed_s, 0.0
        self.history.clear()

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on and measure the wait for each but the first."""
        yield from itertools.islice(batches, 1)
        while True:
            started_s = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited_s += time.monotonic() - started_s
            yield batch

    def add(self, step: int, losses: dict[str, Tensor], *, log: bool) -> None:
        for key, value in losses.items():
            self.history.setdefault(key, []).append(value)
        self.num_steps += 1
        now_s, part_done = time.monotonic(), self.clock.part_done(step)
        if log and (now_s - self.logged_s > LINE_EVERY_S or part_done == 1):
            self.logged_s = now_s
            waited, rate = self.rates.values()
            left = duration(self.clock.elapsed_s * (1 / part_done - 1))
            loss = float(torch.stack(self.history["loss"][-50:]).mean())
            logger.info(
                "%s: step %d, %d %% done, loss %.4f, %.2f steps/s, %.1f %% of it waiting for data, %s left",
                *(self.name, step, 100 * part_done, loss, rate, 100 * waited, left),
            )

    @property
    def rates(self) -> dict[str, float]:
        """Since the last checkpoint: the share of the time that was spent waiting for data, and steps per second."""
        elapsed_s = max(self.clock.elapsed_s - self.start, 1e-9)
        return {"wait_share": self.waited_s / elapsed_s, "steps_per_s": self.num_steps / elapsed_s}

    def means(self) -> dict[str, float]:
        means = {key: float(torch.stack(values).mean()) for key, values in self.history.items()}
        return means | self.rates


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        n = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def _size(batch: Batch) -> int:
    return len(next(iter(batch.values())))
