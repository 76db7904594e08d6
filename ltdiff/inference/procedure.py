"""How slices are standardized, said before a network is built: PyTorch, which takes seconds to import, is not needed for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.inference.config import InferenceConfig
from ltdiff.model.config import ModelConfig, Output
from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.model.model_folder import (
    MATCH_PHASE,
    NOISE_MATCH,
    SERIES_NOISE,
    USES_SERIES_NOISE,
    description_errors,
    read_calibration,
    read_description,
)
from ltdiff.model.residual_model import ResidualModel, read_output, read_residual_model, require_residual_model
from ltdiff.physics.noise_match import NoiseMatch
from ltdiff.physics.series_noise import SeriesNoise
from ltdiff.system.settings_tree import make_settings
from ltdiff.system.text import printable

if TYPE_CHECKING:
    from ltdiff.diffusion.sampler import Sampler


@dataclass(frozen=True)
class Procedure:
    """How slices are standardized: what a model was trained with, and what `inference` changes of it.

    Samples need a `residual`, and the mean of a calibrated model has one; of the output `match` the networks have no part, and a
    `noise_match` may have, or what `series_noise` makes of a series' own noise.
    """

    diffusion: DiffusionConfig
    trained_decode: str
    inference: InferenceConfig = InferenceConfig()
    output: Output = "mean"
    residual: ResidualModel | None = None
    noise_match: NoiseMatch | DrawnNoise | None = None
    series_noise: SeriesNoise | None = None

    @classmethod
    def read(cls, folder: Path, inference: InferenceConfig) -> "Procedure":
        """From `model.json` and the calibration of a model folder.

        Raises:
            ValueError: no model there; a sample is asked of one that is not calibrated; settings that do not fit it.
        """
        description = read_description(folder)
        with description_errors(folder):
            settings = description["about"]["settings"]
            diffusion = make_settings(DiffusionConfig, settings["diffusion"])
            decode = str(settings["loss"]["decode"])
            num_levels = make_settings(ModelConfig, description["config"]).autoencoder.num_levels
        output = inference.output or read_output(folder)
        if output != "match" and list(description["about"].get("trained", {})) == [MATCH_PHASE]:
            raise ValueError(f"the networks of the model in {printable(folder)} are not trained: it has no output but match")
        residual = None
        if output != "match":
            residual = require_residual_model(folder) if output == "sample" else read_residual_model(folder)
        noise_match = read_noise_match(folder) if output == "match" else None
        series_noise = read_series_noise(folder) if output == "match" and _uses_series_noise(folder) else None
        procedure = cls(diffusion, decode, inference, output, residual, noise_match, series_noise)
        procedure.check(num_levels=num_levels)
        return procedure

    @property
    def is_match(self) -> bool:
        """Whether the networks have no part in it."""
        return self.output == "match"

    @property
    def is_linear(self) -> bool:
        """Whether what is made is the kernel match and nothing else."""
        return self.is_match and self.noise_match is None and self.series_noise is None

    @property
    def decode(self) -> str:
        """`residual` or `direct`."""
        return self.inference.decode or self.trained_decode

    @property
    def num_steps(self) -> int:
        """Number of sampling steps."""
        return self.inference.num_inference_steps or self.diffusion.num_steps

    def check(self, *, num_levels: int) -> None:
        """ValueError for settings that an autoencoder of `num_levels`, or the process, does not have."""
        depth = self.inference.decoder_depth
        if depth is not None and not 1 <= depth < num_levels:
            raise ValueError(f"decoder_depth must lie in 1…{num_levels - 1} for this model, got {depth}")
        if self.diffusion.process == "ddpm":  # the bridge takes any number of steps
            self.make_sampler()

    def make_sampler(self) -> "Sampler":
        """The sampler of the latents. ValueError for more steps than the chain has."""
        from ltdiff.diffusion.process import make_process
        from ltdiff.diffusion.sampler import Sampler

        return Sampler(make_process(self.diffusion, sampling=True), num_steps=self.num_steps)

    def describe_sampling(self, precision: str) -> str:
        """How the latents are sampled, for people."""
        if self.is_match:
            noise = "the noise match" if isinstance(self.noise_match, NoiseMatch) else "drawn noise"
            what = "the kernel match alone" if self.noise_match is None else f"the kernel match and {noise} alone"
            return what if self.series_noise is None else f"{what}, or with a noise match for a series of another dose"
        process = self.diffusion.process
        text = f"{process} {'drawn' if process == 'ddpm' else 'without noise'} in {precision}"
        if self.residual is None or (self.output == "mean" and not self.residual.corrects_mean):
            return text
        what = "the mean" if self.output == "mean" else "a draw"
        return f"{text} with {what} of what is left over (calibration {self.residual.digest})"

    def describe_decoding(self) -> str:
        """How the image is decoded, for people."""
        depth = self.inference.decoder_depth
        return self.decode if depth is None else f"{self.decode} at depth {depth}"


def _uses_series_noise(folder: Path) -> bool:
    try:
        return read_calibration(folder).get(USES_SERIES_NOISE) is True
    except ValueError:  # damaged: who asks for the match by name, to calibrate anew, does not need it
        return False


def read_noise_match(folder: Path) -> NoiseMatch | DrawnNoise | None:
    """What gives matched sources the target's noise; None where the model has nothing of the kind.

    Raises:
        ValueError: no model there, or a damaged one.
    """
    values = read_description(folder)["about"].get(NOISE_MATCH)
    with description_errors(folder):
        return TypeAdapter(NoiseMatch | DrawnNoise).validate_python(values) if values else None


def read_series_noise(folder: Path) -> SeriesNoise | None:
    """What matches the noise of a series of another dose than most; None where the model was not fitted to any noise.

    Raises:
        ValueError: no model there, or a damaged one.
    """
    about = read_description(folder)["about"]
    with description_errors(folder):
        return TypeAdapter(SeriesNoise).validate_python(about[SERIES_NOISE]) if SERIES_NOISE in about else None
