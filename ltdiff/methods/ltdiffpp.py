"""LTDiff++ itself behind the protocol of the comparators: `folder` is a run as of `ltdiff train`, trained in this process."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
from typing_extensions import override

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import Method, Slices
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import Standardizer
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.model.config import OUTPUTS, Output
from ltdiff.model.ltdiff import LTDiff, load_pretrained_weights
from ltdiff.model.model_folder import CALIBRATION_FILE
from ltdiff.model.residual_model import read_residual_model
from ltdiff.training.config import Settings, read_settings
from ltdiff.training.phase_training import train_here
from ltdiff.training.phases import PHASES
from ltdiff.training.run import START_FOLDER
from ltdiff.uncertainty.calibration import calibrate_run


class LTDiffMethod(Comparator):
    """Trains and calibrates as `ltdiff train` does; its image is the mean or the sample, as the validation pairs chose."""

    is_calibrated = True

    def __init__(self, settings: Settings, *, num_workers: int = 2) -> None:
        """Take the settings of a run, and the number of workers of its calibration."""
        self.settings, self.num_workers = settings, num_workers

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        """Make the method with random weights, like all others."""
        training = replace(settings.training, init="scratch")
        return cls(replace(settings, training=training), num_workers=evaluation.num_workers)

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        self.folder = folder
        try:
            self.model = train_here(manifest, out=folder, settings=self.settings)
        except FloatingPointError as error:
            raise FitError(str(error)) from error
        if self.is_calibrated:
            calibrate_run(manifest, model=self.model, num_workers=self.num_workers)
        self.standardizer = Standardizer.load(self.model, self._inference())

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        return self.standardizer.standardize(hu, spacing_mm, first_slice=first_slice)

    @override
    def variants(self) -> Mapping[str, Method]:
        """Return the mean with another number of steps, and the outputs that were not chosen."""
        steps = (2, "2_steps") if self.settings.diffusion.num_steps == 1 else (1, "1_step")
        ending = "" if self.standardizer.procedure.output == "mean" else "_mean"
        variants: dict[str, Method] = {f"{ending}_{steps[1]}": self._used(output="mean", num_inference_steps=steps[0])}
        if (self.model / CALIBRATION_FILE).is_file():
            others = [output for output in OUTPUTS if output != self.standardizer.procedure.output]
            variants |= {f"_{other}": self._used(output=other) for other in others}
        return variants

    @override
    def expectations(self) -> Mapping[str, Expectation]:
        """Return that of the model's samples, where it is calibrated."""
        if read_residual_model(self.model) is None:
            return {}
        return {"_expected": Expectation(self._used(output="sample"))}

    def _used(self, *, output: Output, num_inference_steps: int | None = None) -> Standardizer:
        """The trained networks, used in another way."""
        inference = self._inference(output=output, num_inference_steps=num_inference_steps)
        return self.standardizer.with_procedure(Procedure.read(self.model, inference))

    def _inference(self, **changes: Any) -> InferenceConfig:
        return InferenceConfig(precision=self.settings.training.precision, **changes)


class PretrainedLTDiffMethod(LTDiffMethod):
    """From pretrained weights: the only method that begins with others than random ones."""

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        load_pretrained_weights(LTDiff(settings.model))  # whether they fit shows now
        training = replace(settings.training, init="pretrained")
        return cls(replace(settings, training=training), num_workers=evaluation.num_workers)

    @override
    def variants(self) -> Mapping[str, Method]:
        """Add the pretrained weights as they were before the training."""
        ending = "" if self.standardizer.procedure.output == "mean" else "_mean"
        return {**super().variants(), f"{ending}_untrained": Standardizer.load(self.folder / START_FOLDER, self._inference())}


class PaperLTDiffMethod(LTDiffMethod):
    """With the paper's own settings, its learning rates among them; its image is not calibrated."""

    is_calibrated = False

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        paper = read_settings("paper")
        rates = {name: getattr(paper.training, name) for name in PHASES}
        return cls(replace(paper, training=replace(settings.training, init="scratch", **rates)))
