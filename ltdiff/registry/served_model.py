"""The program of a registered model in MLflow: it standardizes slices. It lies beside the model's files; nothing is unpickled.

MLflow alone imports this, by `mlflow.pyfunc.load_model` and `mlflow models serve`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from ltdiff.inference.standardizer import Standardizer

Inputs = Mapping[str, NDArray[Any]]


class SliceModel:
    """A trained model behind MLflow's interface; its inputs are those of the signature in `mlmodel`."""

    def load_context(self, context: Any) -> None:
        """Load the networks, whose files are verified."""
        self.standardizer = Standardizer.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: Inputs, params: Mapping[str, int] | None = None) -> NDArray[np.float32]:
        """Standardized slices (N, Y, X) in HU of `hu` (N, Y, X), each with its `spacing_mm` (N, 2), which is (y, x).

        `first_slice` in `params` is the number of the first slice in its series, as for `Standardizer.standardize`.

        Raises:
            ValueError: other shapes, or values that are not finite.
        """
        hu, spacing_mm = model_input["hu"], model_input["spacing_mm"]
        if hu.ndim != 3 or spacing_mm.shape != (len(hu), 2):
            raise ValueError(f"hu (N, Y, X) and spacing_mm (N, 2) are expected, got {hu.shape} and {spacing_mm.shape}")
        if not (np.isfinite(spacing_mm) & (spacing_mm > 0)).all():
            raise ValueError("spacing_mm holds values that are not above 0")
        first_slice = int((params or {}).get("first_slice", 0))
        result = np.empty(hu.shape, np.float32)
        for i, (y_mm, x_mm) in enumerate(spacing_mm.tolist()):
            result[i : i + 1] = self.standardizer.standardize(hu[i : i + 1], (y_mm, x_mm), first_slice=first_slice + i)
        return result


class ServedModel(SliceModel, PythonModel):
    """The same for MLflow, which would warn of the types of a `predict` that stood here: there is a signature."""


set_model(ServedModel())
