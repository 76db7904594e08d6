"""One training loop for all phases. It sees a worker context and an iterator of batches, not Ray."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ltdiff.training.checkpoint import load_checkpoint, save_checkpoint
from ltdiff.training.config import TrainingConfig
from ltdiff.training.context import WorkerContext
from ltdiff.training.phases import Batch, Phase

logger = logging.getLogger(__name__)

NUM_WARMUP_STEPS = 50
LOG_EVERY_S = 10.0

Tensors = tuple[Tensor, ...] | list[Tensor]


def train(
    phase: Phase,
    *,
    name: str,
    config: TrainingConfig,
    batches: Callable[[int], Iterator[Batch]],
    validation: Callable[[], Iterator[Batch]],
    context: WorkerContext,
    resume_from: Path | None = None,
) -> nn.Module:
    """Run a phase to its last step and return it with the moving average of its weights.

    `batches(first_step)` gives this worker's batches from that step to the last. Noise is a function of (seed, step, rank),
    so a run that was interrupted and resumed goes the same way as one that never was.
    """
    trainer = _Trainer(phase, config, context)
    first_step = load_checkpoint(resume_from, **trainer.state) if resume_from else 0
    num_steps = phase.config.num_steps
    progress = _Progress(name, first_step, num_steps)
    for step, batch in enumerate(batches(first_step), start=first_step):
        progress.add(step + 1, trainer.take_step(batch, step), log=context.rank == 0)
        if (step + 1) % config.checkpoint_every_steps and step + 1 != num_steps:
            continue
        validation_loss = trainer.validate(validation()) if context.rank == 0 else {}
        trainer.checkpoint(step + 1, {**progress.means(), **validation_loss})
    return trainer.averaged.module


def learning_rate(step: int, *, peak: float, num_steps: int) -> float:
    """The rate at a step: linear warm-up, then a half cosine that ends at zero."""
    warmup = min(1.0, (step + 1) / min(NUM_WARMUP_STEPS, num_steps))
    return peak * warmup * 0.5 * (1 + math.cos(math.pi * step / num_steps))


class _Trainer:
    """A phase, its optimizer and its moving average on one worker."""

    def __init__(self, phase: Phase, config: TrainingConfig, context: WorkerContext) -> None:
        assert isinstance(phase, nn.Module)
        self.config, self.context, self.phase_config = config, context, phase.config
        self.phase: nn.Module = phase.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.phase, multi_avg_fn=_moving_average(config.ema_decay))
        self.parameters = [p for p in self.phase.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.99), weight_decay=1e-4)
        self.wrapped = context.wrap(self.phase)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"module": self.phase, "averaged": self.averaged, "optimizer": self.optimizer}

    def take_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimizer step; the losses, detached."""
        rate = learning_rate(step, peak=self.phase_config.learning_rate, num_steps=self.phase_config.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.phase.train()
        with self._autocast():
            losses = self.wrapped(batch, _generator(self.config.seed, step, self.context.rank))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient at step {step + 1} is not finite; lower the learning rate")
        self.optimizer.step()
        self.averaged.update_parameters(self.phase)
        return {key: value.detach() for key, value in losses.items()}

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Mean losses of the averaged weights, always with the same noise."""
        self.averaged.eval()
        generator = _generator(self.config.seed, 0, 0)
        with self._autocast():
            losses = [self.averaged.module(batch, generator) for batch in batches]
        return {f"val_{key}": float(sum(loss[key] for loss in losses)) / len(losses) for key in (losses or [{}])[0]}

    def checkpoint(self, step: int, metrics: dict[str, float]) -> None:
        """Report metrics and, on the first worker, a checkpoint."""
        is_first = self.context.rank == 0
        with TemporaryDirectory(prefix="ltdiff-checkpoint-") if is_first else nullcontext() as folder:
            if folder is not None:
                save_checkpoint(Path(folder), step=step, **self.state)
            self.context.report({"step": float(step), **metrics}, Path(folder) if folder else None)

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.context.device.type, dtype=torch.bfloat16, enabled=enabled)


class _Progress:
    """Means of the losses since the last report, and a line with rate and time left every few seconds."""

    def __init__(self, name: str, first_step: int, num_steps: int) -> None:
        self.name, self.first_step, self.num_steps = name, first_step, num_steps
        self.started_s = self.logged_s = time.monotonic()
        self.history: dict[str, list[Tensor]] = {}

    def add(self, step: int, losses: dict[str, Tensor], *, log: bool) -> None:
        for key, value in losses.items():
            self.history.setdefault(key, []).append(value)
        now_s = time.monotonic()
        if log and (now_s - self.logged_s > LOG_EVERY_S or step == self.num_steps):
            self.logged_s = now_s
            rate = (step - self.first_step) / (now_s - self.started_s)
            minutes, seconds = divmod(round((self.num_steps - step) / rate), 60)
            loss = float(torch.stack(self.history["loss"][-50:]).mean())
            logger.info(
                "%s: step %d of %d, loss %.4f, %.2f steps/s, %d min %02d s left",
                *(self.name, step, self.num_steps, loss, rate, minutes, seconds),
            )

    def means(self) -> dict[str, float]:
        means = {key: float(torch.stack(values).mean()) for key, values in self.history.items()}
        self.history.clear()
        return means


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        n = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def _generator(*key: int) -> torch.Generator:
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % 2**63
    return torch.Generator().manual_seed(seed)
