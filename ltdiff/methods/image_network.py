"""The methods whose network makes an image of an image: their training, their folder and their use.

Every one of them gets the same patches, augmentation, optimizer, moving average and loop as LTDiff++ (training/phase_training),
and the same time. The learning rate of every phase is chosen on the validation slices.

    folder/run.json                    settings and data; the same ones resume, others are refused
    folder/<phase>/                    see training/phase_training
    folder/<phase>/result.json         learning rate, minutes, step and losses of the best checkpoint
    folder/<phase>/result.safetensors  its weights
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.batch_loader import Draw
from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.network_inputs import to_hu, to_network
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.inference.method import Slices
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.model.precision import autocast
from ltdiff.physics.degradation import Degradation
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.folder_claim import claim
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER
from ltdiff.training.config import PhaseConfig, Settings, TrainingConfig
from ltdiff.training.fit_kernel_match import KernelMatcher, fit_match, fit_target_range
from ltdiff.training.phase import Batch, BatchNoise, Phase, PhaseTask, train_only
from ltdiff.training.phase_training import local_runner, train_phase
from ltdiff.training.phases import PHASES
from ltdiff.training.run import RUN_FILE
from ltdiff.training.worker_context import local_device

INDEPENDENT_DRAWS = ("sides", "kernels")
"""What methods draw that learn from patches of both protocols without pairs."""
RESULT_FILE, WEIGHTS_FILE = "result.json", "result.safetensors"
Loss = Callable[[Any, Batch, BatchNoise], dict[str, Tensor]]


@dataclass(frozen=True)
class PhaseSchedule:
    """One phase of a method's training: its share of the minutes, and what makes the phase, whose network is its `model`."""

    name: str
    share: float
    make: Callable[[PhaseConfig], Phase]
    draw: Draw = "pairs"


class NetworkPhase(Phase):
    """A phase that trains `parts` of a network, or all of it, by a function of the network, a batch and its noise."""

    def __init__(self, model: nn.Module, loss: Loss, config: PhaseConfig, *, parts: Sequence[str] = ("",)) -> None:
        super().__init__()
        self.model, self.loss, self.config = train_only(model, *parts), loss, config

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        return self.loss(self.model, batch, noise)


class ImageNetwork(Comparator):
    """A network behind the protocol of comparators. Subclasses name what makes it, its loss or its phases, and its use."""

    make_network: Callable[[], nn.Module]
    loss: Loss
    phase_name = "regression"
    draw: Draw = "pairs"
    """The loss, the name and what is drawn for the single phase; a network that has several names them in `schedules`."""
    uses_kernel_match = True
    """Whether it starts from the linear match Ã or from the source itself."""
    learning_rates: tuple[float, ...] | None = None
    """Those that are tried, where they are not those of the settings."""
    size_divisor = 1
    """Sides of what `convert` gets are multiples of this."""

    def __init__(self, training: TrainingConfig) -> None:
        """The steps of `training`'s phases are not used, its minutes are."""
        self.training = training
        self.device = local_device()
        self.kernel_match = KernelMatch()
        self.degradation: Degradation | None = None
        torch.manual_seed(training.seed)
        self.network: Any = type(self).make_network()

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        return cls(settings.training)

    @property
    def range_hu(self) -> tuple[float, float]:
        """The target's range, once the method is fitted."""
        low, high = (float(value) for value in self.kernel_match.range_hu)
        return low, high

    def schedules(self) -> list[PhaseSchedule]:
        """The phases in order, whose shares add up to 1: a single one that trains the whole network by `loss`."""
        return [PhaseSchedule(self.phase_name, 1.0, partial(NetworkPhase, self.network, type(self).loss), self.draw)]

    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A' (1, 1, H, W) of Ã or A, in network units."""
        return self.network(x)

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        training = {key: value for key, value in asdict(self.training).items() if key not in PHASES}
        data = {"data_fingerprint": data_fingerprint(manifest)}
        claim(folder / RUN_FILE, {"method": type(self).__name__, "training": training, **data})
        try:
            self._fit_match(manifest)
        except ValueError as error:
            raise FitError(str(error)) from error
        for schedule in self.schedules():
            if not (folder / schedule.name / WEIGHTS_FILE).is_file():
                self._train(schedule, manifest, folder / schedule.name)
            self.network.load_state_dict(load_file(folder / schedule.name / WEIGHTS_FILE))
        self.network.to(self.device, memory_format=torch.channels_last).eval()

    def _fit_match(self, manifest: pd.DataFrame) -> None:
        if self.draw in INDEPENDENT_DRAWS:  # neither a filter nor made sources are of use
            self.kernel_match = fit_target_range(manifest)
        else:
            match = fit_match(manifest)
            self.kernel_match, self.degradation = match.kernel_match, match.degradation  # whose range is needed in any case

    def _train(self, schedule: PhaseSchedule, manifest: pd.DataFrame, folder: Path) -> None:
        assert self.training.minutes is not None
        task = PhaseTask(
            name=schedule.name,
            network=self.network,
            make=lambda rate: schedule.make(PhaseConfig(1, learning_rate=rate)),  # as long as its minutes, not one step
            draw=schedule.draw,
            match_kernel=KernelMatcher(self.kernel_match if self.uses_kernel_match else None),
            make_source=self.degradation,
            config=self.training,
            folder=folder,
            learning_rates=self.learning_rates or self.training.learning_rates,
            minutes=schedule.share * self.training.minutes,
        )
        try:
            trained, metrics = train_phase(task, local_runner(manifest))
        except FloatingPointError as error:
            raise FitError(f"{folder}: {error}") from error
        write_text(folder / RESULT_FILE, json.dumps(metrics, indent=1) + "\n")
        state: dict[str, Any] = trained.model.state_dict()  # type: ignore[union-attr]
        state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        # last: where it is, the phase is done
        replace_file(folder / WEIGHTS_FILE, lambda temporary: save_file(state, temporary))
        shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)

    @torch.inference_mode()
    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        result = np.empty(hu.shape, np.float32)
        low, high = self.range_hu
        for i, image in enumerate(hu):
            generator = torch.Generator().manual_seed(first_slice + i)
            source = torch.from_numpy(image.astype(np.float32))[None]
            matched = self.kernel_match(source, spacing_mm) if self.uses_kernel_match else source
            height, width = image.shape
            padding = (0, -width % self.size_divisor, 0, -height % self.size_divisor)
            x = functional.pad(to_network(matched)[:, None], padding, mode="replicate").to(self.device)
            with autocast(self.training.precision, self.device):
                converted = self.convert(x.contiguous(memory_format=torch.channels_last), generator)
            result[i] = to_hu(converted[0, 0, :height, :width].float()).round().clamp(low, high).cpu().numpy()
        return result
