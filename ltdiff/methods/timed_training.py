"""What all comparators made of networks share: how they are trained, kept and resumed.

Every one of them gets the same patches, augmentation, optimizer, moving average and loop as LTDiff++ (training/loop), and the
same time. Its learning rate is chosen on the validation slices: short trainings with each of `learning_rates` come before
the real one, and their time is on top of it.

    folder/method.json              settings and data; the same ones resume, others are refused
    folder/<phase>/rates.json       validation loss of each learning rate
    folder/<phase>/checkpoints/     where an interrupted training goes on
    folder/<phase>/result.json      steps, seconds, losses of the best checkpoint, by its validation loss
    folder/<phase>/result.safetensors
"""

from __future__ import annotations

import copy
import json
import logging
import math
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typing_extensions import override

from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.patches import PatchLoader, fit_in_memory, make_loader
from ltdiff.inference.method import Method
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.model.kernel_match import KernelMatch
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, find_checkpoint, keep_checkpoint, load_best
from ltdiff.training.config import PhaseConfig, TrainingConfig
from ltdiff.training.fit_kernel_match import KernelMatcher, fit_kernel_match
from ltdiff.training.loop import train
from ltdiff.training.phases import PHASES, Batch, Phase
from ltdiff.training.worker_context import local_context, local_device

logger = logging.getLogger(__name__)

PROBE_SHARE, MIN_PROBE_MINUTES = 0.05, 0.75
"""Minutes of a trial of one learning rate: a share of those of the training, but long enough for too high a rate to fail."""
NUM_VALIDATION_BATCHES = 8
MAX_STEPS = 1_000_000
"""Of a phase whose length is a time."""
METHOD_FILE, RATES_FILE, RESULT_FILE, WEIGHTS_FILE = "method.json", "rates.json", "result.json", "result.safetensors"


@dataclass(frozen=True)
class TimeBudget:
    """What each trained method is given.

    Args:
        minutes: training time of all phases together.
        learning_rates: peaks that are tried; a single one is taken as it is.
        training: patches, batch size, precision, moving average and seed (its phases are not used).
    """

    minutes: float = 30.0
    learning_rates: tuple[float, ...] = (4e-4, 1e-3, 2.5e-3)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        """Refuse no time, and no rate."""
        if not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")
        if not self.learning_rates:
            raise ValueError("learning_rates must name at least one")


@dataclass(frozen=True)
class PhaseSchedule:
    """One phase of a method's training: its share of the minutes, and what makes the phase from length and rate.

    The phase that `make` returns has the network that it trains as its attribute `model`. `learning_rate` is taken as it is;
    None has those of the budget tried.
    """

    name: str
    share: float
    make: Callable[[PhaseConfig], Phase]
    learning_rate: float | None = None


class TrainedComparator(Comparator):
    """A network behind the protocol of comparators. Subclasses name the network and its phases, and standardize with it."""

    network: nn.Module
    uses_kernel_match = True
    """Whether it starts from the linear match Ã or from the source itself."""

    def __init__(self, budget: TimeBudget) -> None:
        self.budget = budget
        self.device = local_device()
        self.kernel_match = KernelMatch()
        torch.manual_seed(budget.training.seed)

    @property
    def range_hu(self) -> tuple[float, float]:
        """The target's range, once the method is fitted."""
        low, high = (float(value) for value in self.kernel_match.range_hu)
        return low, high

    @abstractmethod
    def schedules(self) -> list[PhaseSchedule]:
        """The phases in order; their shares add up to 1."""

    def describe(self) -> dict[str, Any]:
        """Everything that a fit depends on beside the data."""
        budget = asdict(self.budget)
        for phase in PHASES:
            del budget["training"][phase]  # not used: the schedules say how long a phase is
        return {"method": type(self).__name__, "budget": budget}

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        claim(folder, self.describe() | {"data_fingerprint": data_fingerprint(manifest)})
        self.kernel_match = fit_kernel_match(manifest)  # whose range is needed in any case
        matcher = KernelMatcher(self.kernel_match if self.uses_kernel_match else None)
        for schedule in self.schedules():
            weights = folder / schedule.name / WEIGHTS_FILE
            if not weights.is_file():
                _TimedPhase(schedule, self.budget, manifest, matcher, folder / schedule.name).run(self.network)
            self.network.load_state_dict(load_file(weights))
        self.network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def variants(self) -> Mapping[str, Method]:
        """None, unless a subclass has some."""
        return {}


class _TimedPhase:
    """One phase of a fit: chooses the learning rate, trains, and leaves the result in `folder`."""

    def __init__(
        self, schedule: PhaseSchedule, budget: TimeBudget, manifest: pd.DataFrame, matcher: KernelMatcher, folder: Path
    ) -> None:
        self.schedule, self.budget, self.manifest, self.matcher, self.folder = (
            schedule,
            budget,
            manifest,
            matcher,
            folder,
        )
        self.minutes = schedule.share * budget.minutes
        self.device = local_device()
        self.loaders: dict[tuple[str, bool], PatchLoader] = {}

    def run(self, network: nn.Module) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rate = self._choose_rate(network)
        phase = self.schedule.make(PhaseConfig(MAX_STEPS, learning_rate=rate, max_minutes=self.minutes))
        checkpoints = self.folder / CHECKPOINTS_FOLDER
        try:
            trained, _ = self._train(phase, self.schedule.name, keep_in=checkpoints)
        except FloatingPointError as error:
            raise FitError(f"{self.folder}: {error}") from error
        metrics = load_best(checkpoints, trained)  # as `ltdiff train` does
        facts = {"learning_rate": phase.config.learning_rate, "minutes": self.minutes}
        write_text(self.folder / RESULT_FILE, _json(facts | metrics))
        state = {key: value.detach().cpu().contiguous() for key, value in trained.model.state_dict().items()}
        # last: where it is, the phase is done
        replace_file(self.folder / WEIGHTS_FILE, lambda temporary: save_file(state, temporary))
        shutil.rmtree(checkpoints, ignore_errors=True)

    def _choose_rate(self, network: nn.Module) -> float:
        """The learning rate with the lowest validation loss after a short training; each starts from the same weights."""
        rates = (self.schedule.learning_rate,) if self.schedule.learning_rate else self.budget.learning_rates
        if len(rates) == 1:
            return rates[0]
        path = self.folder / RATES_FILE
        noted = json.loads(path.read_text()) if path.is_file() else {}
        losses: dict[float, float | None] = {float(rate): loss for rate, loss in noted.items()}  # None: not finite
        start = copy.deepcopy(network.state_dict())
        for rate in rates:
            if rate in losses:
                continue
            minutes = max(PROBE_SHARE * self.minutes, min(MIN_PROBE_MINUTES, self.minutes))
            config = PhaseConfig(MAX_STEPS, learning_rate=rate, max_minutes=minutes)
            phase = self.schedule.make(config)
            try:
                _, metrics = self._train(phase, f"{self.schedule.name}, learning rate {rate:g}")
                losses[rate] = metrics["val_loss"] if math.isfinite(metrics["val_loss"]) else None
            except FloatingPointError as error:
                logger.warning("%s: %s", self.schedule.name, error)
                losses[rate] = None
            network.load_state_dict(start)
            write_text(path, _json({str(key): value for key, value in losses.items()}))
        return min(losses, key=lambda rate: (losses[rate] is None, losses[rate] or 0.0))

    def _train(self, phase: Phase, name: str, *, keep_in: Path | None = None) -> tuple[Any, dict[str, float]]:
        report = _Report(keep_in)
        trained = train(
            phase,
            name=name,
            config=self.budget.training,
            batches=lambda first: self._batches(phase, first),
            validation=lambda: self._validation(phase),
            context=local_context(report),
            resume_from=find_checkpoint(keep_in) if keep_in is not None else None,
        )
        return trained, report.metrics

    def _batches(self, phase: Phase, first_step: int) -> Iterator[Batch]:
        """Batches from `first_step` on; the next is made while one is used.

        By one thread: with a second team of OpenMP threads in the process, those of the training would no longer wait awake
        for their next turn, and every step would take half as long again.
        """
        loader = self._loader(phase, "train")
        for one in (loader, self._loader(phase, "val")):
            one.fill()  # reading slices, which some formats make slow, is no training: the clock starts after the first batch
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            coming = pool.submit(self._batch, loader, first_step)
            for step in range(first_step, MAX_STEPS):
                batch = coming.result()
                coming = pool.submit(self._batch, loader, step + 1)
                yield batch

    def _validation(self, phase: Phase) -> Iterator[Batch]:
        loader = self._loader(phase, "val")
        return (self._batch(loader, step) for step in range(NUM_VALIDATION_BATCHES))

    def _batch(self, loader: PatchLoader, step: int) -> Batch:
        batch_size = self.budget.training.batch_size_per_worker
        patches = loader({"id": np.arange(step * batch_size, (step + 1) * batch_size)})
        return {name: torch.from_numpy(images).to(self.device) for name, images in patches.items()}

    def _loader(self, phase: Phase, split: str) -> PatchLoader:
        key = split, phase.uses_pairs
        if key not in self.loaders:
            self.loaders[key] = make_loader(
                self.manifest,
                split=split,
                pairs=phase.uses_pairs,
                patch_size=self.budget.training.patch_size,
                seed=self.budget.training.seed,
                match_kernel=self.matcher,
                keep_slices=fit_in_memory(self.manifest),
            )
        return self.loaders[key]


class _Report:
    """Keeps the latest metrics, and the latest checkpoints in `folder`."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.metrics: dict[str, float] = {}

    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.metrics = metrics
        if self.folder is not None and checkpoint is not None:
            keep_checkpoint(checkpoint, among=self.folder)


def claim(folder: Path, description: dict[str, Any]) -> None:
    """Note in `folder` what is fitted there, or check that it is this."""
    path, wanted = folder / METHOD_FILE, json.loads(json.dumps(description))
    if path.is_file():
        noted = json.loads(path.read_text())
        different = sorted(key for key in wanted | noted if wanted.get(key) != noted.get(key))
        if different:
            key = different[0]
            raise ValueError(
                f"{folder} holds a fit with {key} = {noted.get(key)!r}, not {wanted.get(key)!r}: choose another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, _json(wanted))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
