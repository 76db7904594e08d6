"""What a calibration knows of B − A': the noise round the mean, and what the model's residual flow is good for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ltdiff.model.config import OUTPUTS, Output
from ltdiff.model.model_folder import damaged_calibration, read_calibration
from ltdiff.model.residual_noise import ResidualNoiseModel
from ltdiff.system.text import printable

RESIDUAL = "residual"
"""In a calibration: a `ResidualModel`."""


@dataclass(frozen=True)
class FlowUse:
    """What the residual flow of a model is good for, around A' as the networks give it, whose residual noise is `noise`.

    With `mean_gain` the mean of what it would draw comes nearest to the residuals, and is added to A'; with `gain` its draws have
    their spectrum. Both are at the frequencies of `noise.power`; empty where they are of no use: A' stays the mean, and samples
    are Gaussian noise round it.
    """

    noise: ResidualNoiseModel
    mean_gain: tuple[float, ...] = ()
    gain: tuple[float, ...] = ()


@dataclass(frozen=True)
class ResidualModel:
    """The residual noise round the mean, and the use of the model's flow, if it is of any."""

    noise: ResidualNoiseModel
    flow: FlowUse | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ResidualModel":
        """Rebuild from the result of `asdict`."""
        return TypeAdapter(cls).validate_python(values)

    @property
    def corrects_mean(self) -> bool:
        """Whether the mean is more than what the networks give."""
        return self.flow is not None and bool(self.flow.mean_gain)

    @property
    def digest(self) -> str:
        """Start of a sha256: an image of another calibration is another image, and must not have the same UID."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def read_residual_model(model: Path) -> ResidualModel | None:
    """Read that of the model folder `model`; None where it is not calibrated, or nothing but its match.

    Raises:
        ValueError: its calibration is damaged.
    """
    calibration = read_calibration(model)
    if RESIDUAL not in calibration:
        return None
    try:
        return ResidualModel.from_dict(calibration[RESIDUAL])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_calibration(model) from error


def require_residual_model(model: Path) -> ResidualModel:
    """As `read_residual_model`. ValueError also where the model is not calibrated."""
    residual = read_residual_model(model)
    if residual is None:
        raise ValueError(f"{printable(model)} is not calibrated; run `ltdiff calibrate PAIRS --model {printable(model)}` first")
    return residual


def read_output(model: Path) -> Output:
    """Read which output validation chose for the model folder `model`; the mean if it is not calibrated.

    Raises:
        ValueError: its calibration is damaged.
    """
    found = read_calibration(model).get("output")
    return next((output for output in OUTPUTS if output == found), "mean")
