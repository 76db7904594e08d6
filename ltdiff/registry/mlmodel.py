"""What makes a registered model or part one of MLflow's: its file MLmodel with a signature, its program, and what that needs.

MLmodel                model.json and the weights beside it are the model of the `python_function`
served_model.py        the program, which MLflow runs when it loads the model; of a part served_part.py
requirements.txt       also python_env.yaml: for MLflow's own environments
"""

import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import ltdiff
from ltdiff.model.config import ModelConfig
from ltdiff.model.model_folder import read_description
from ltdiff.registry.part_tensors import part_tensors
from ltdiff.system.settings_tree import make_settings

REQUIREMENTS_FILE, ENVIRONMENT_FILE = "requirements.txt", "python_env.yaml"
REQUIRED = ("mlflow", "torch")
"""Beside ltdiff."""
_PROGRAM, _PART_PROGRAM = "ltdiff.registry.served_model", "ltdiff.registry.served_part"


def write_mlmodel(folder: Path, *, run_id: str) -> None:
    """Add to the model, or the part of one, in `folder` what MLflow loads and serves it by; its own files stay as they are."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    description = read_description(folder)
    weights = list(description["files"])
    is_part = len(weights) == 1
    signature = _part_signature(Path(weights[0]).stem, description["config"]) if is_part else _slice_signature()
    program = find_spec(_PART_PROGRAM if is_part else _PROGRAM)  # importing it would make it this process's model
    assert program is not None
    assert program.origin is not None
    name = Path(program.origin).name
    shutil.copyfile(program.origin, folder / name)
    requirements = [f"ltdiff=={ltdiff.__version__}", *(f"{package}=={version(package)}" for package in REQUIRED)]
    (folder / REQUIREMENTS_FILE).write_text("\n".join(requirements) + "\n")
    (folder / ENVIRONMENT_FILE).write_text(f"python: {platform.python_version()}\ndependencies:\n- -r {REQUIREMENTS_FILE}\n")
    model = Model(run_id=run_id, signature=signature)
    add_to_model(
        model,
        loader_module="mlflow.pyfunc.model",
        model_code_path=name,
        python_env=ENVIRONMENT_FILE,
        artifacts={"model": {"path": ".", "uri": "."}},
    )
    model.save(str(folder / "MLmodel"))


def _slice_signature() -> Any:
    """Of the whole: what `served_model` takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    slices = (-1, -1, -1)
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), slices, "hu"), TensorSpec(np.dtype("float64"), (-1, 2), "spacing_mm")]),
        outputs=Schema([TensorSpec(np.dtype("float32"), slices)]),
        params=ParamSchema([ParamSpec("first_slice", "long", 0)]),
    )


def _part_signature(part: str, config: Mapping[str, Any]) -> Any:
    """Of the encoder, the denoiser or the decoder: tensors by name."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    tensors = part_tensors(part, make_settings(ModelConfig, config))
    schemas = (Schema([TensorSpec(np.dtype("float32"), shape, name) for name, shape in shapes.items()]) for shapes in tensors)
    return ModelSignature(*schemas)
