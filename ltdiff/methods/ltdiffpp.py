"""LTDiff++ itself behind the protocol of the comparators: the same minutes, patches and loop as all others.

The learning rate of the joint phase, which has most of the time, is tried like theirs unless the settings name another than the
default; the others' are those of the settings.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from typing_extensions import override

from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import Method, Slices
from ltdiff.inference.standardizer import Procedure, Standardizer
from ltdiff.methods.timed_training import MAX_STEPS, RESULT_FILE, PhaseSchedule, TimeBudget, TrainedComparator
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.model.model_folder import CALIBRATION_FILE, read_description
from ltdiff.training.config import PhaseConfig, Settings, TrainingConfig
from ltdiff.training.phases import PHASES, Phase
from ltdiff.training.pretrained_weights import load_pretrained_weights
from ltdiff.training.run import describe_model

logger = logging.getLogger(__name__)

SHARES = {
    "scratch": {"autoencoder": 0.1, "ddpm": 0.15, "joint": 0.75},
    "pretrained": {"ddpm": 0.15, "joint": 0.85},
}
"""Of the minutes, for each kind of initial weights."""
MODEL_FOLDER = "model"


class LTDiffMethod(TrainedComparator):
    """Trains the three phases; `folder`/model is a model folder like that of `ltdiff train`."""

    def __init__(self, budget: TimeBudget, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        super().__init__(budget)
        self.network: LTDiff = LTDiff(self.settings.model)
        if budget.training.init == "pretrained":
            load_pretrained_weights(self.network)
        self.uses_kernel_match = self.settings.model.kernel_match

    @override
    def describe(self) -> dict[str, Any]:
        sections = {name: asdict(getattr(self.settings, name)) for name in ("model", "diffusion", "loss")}
        del sections["diffusion"]["num_inference_steps"]  # of use, not of training
        return super().describe() | sections | {"learning_rates": self._learning_rates()}

    @override
    def schedules(self) -> list[PhaseSchedule]:
        rates = self._learning_rates()
        shares = SHARES[self.budget.training.init]
        return [PhaseSchedule(name, share, self._maker(name), rates.get(name)) for name, share in shares.items()]

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        super().fit(manifest, folder=folder)
        self.network.kernel_match = self.kernel_match
        self._save(folder, manifest)
        self.standardizer = self._standardizer(InferenceConfig())

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        return self.standardizer.standardize(hu, spacing_mm, first_slice=first_slice)

    def variants(self) -> Mapping[str, Method]:
        """The same model with another number of steps, and pretrained weights before anything was trained on the pairs."""
        num_steps, ending = (2, "_2_steps") if self.settings.diffusion.num_steps == 1 else (1, "_1_step")
        variants: dict[str, Method] = {ending: self._standardizer(InferenceConfig(num_inference_steps=num_steps))}
        if self.budget.training.init == "pretrained":
            untrained = LTDiff(self.settings.model)
            load_pretrained_weights(untrained)
            untrained.kernel_match = self.kernel_match
            variants["_untrained"] = self._standardizer(InferenceConfig(), network=untrained)
        return variants

    def _save(self, folder: Path, manifest: pd.DataFrame) -> None:
        """Write the model folder, again where its settings of use were others."""
        results = {
            schedule.name: json.loads((folder / schedule.name / RESULT_FILE).read_text())
            for schedule in self.schedules()
        }
        phases = {
            name: PhaseConfig(MAX_STEPS, learning_rate=result["learning_rate"], max_minutes=result["minutes"])
            for name, result in results.items()
        }
        settings = replace(self.settings, training=replace(self.budget.training, **phases))  # type: ignore[arg-type]
        about = describe_model(manifest, settings) | {"trained": results}
        model = folder / MODEL_FOLDER
        if model.is_dir():
            with suppress(ValueError):  # another format: written again
                if read_description(model)["about"] == about:
                    return
            if (model / CALIBRATION_FILE).is_file():
                logger.warning("%s is written anew with other settings of use: calibrate it again", model)
            shutil.rmtree(model)
        save_model(self.network, model, about=about)

    def _standardizer(self, inference: InferenceConfig, *, network: LTDiff | None = None) -> Standardizer:
        inference = replace(inference, precision=self.budget.training.precision)
        procedure = Procedure(self.settings.diffusion, self.settings.loss.decode, inference)
        return Standardizer(network or self.network, procedure)

    def _learning_rates(self) -> dict[str, float]:
        """Of the phases in which none is tried."""
        training = self.settings.training
        names = ["autoencoder", "ddpm"]
        if training.joint.learning_rate != TrainingConfig().joint.learning_rate:
            names.append("joint")  # whoever sets one, as a search does, means it
        return {name: getattr(training, name).learning_rate for name in names}

    def _maker(self, name: str) -> Any:
        def make(config: PhaseConfig) -> Phase:
            training = replace(self.settings.training, **{name: config})  # type: ignore[arg-type]
            return PHASES[name](self.network, replace(self.settings, training=training))

        return make
