"""What makes a registered model one of MLflow's: its file MLmodel with a signature, its program, and what that needs.

MLmodel                model.json and the weights beside it are the model of the `python_function`
served_model.py        the program, which MLflow runs when it loads the model
requirements.txt       also python_env.yaml: for MLflow's own environments
"""

import platform
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import ltdiff

REQUIREMENTS_FILE, ENVIRONMENT_FILE = "requirements.txt", "python_env.yaml"
REQUIRED = ("mlflow", "torch")
"""Beside ltdiff."""
_PROGRAM = "ltdiff.registry.served_model"


def write_mlmodel(folder: Path, *, run_id: str) -> None:
    """Add to the model in `folder` what MLflow loads and serves it by; the files of the model stay as they are."""
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    slices = (-1, -1, -1)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), slices, "hu"), TensorSpec(np.dtype("float64"), (-1, 2), "spacing_mm")]),
        outputs=Schema([TensorSpec(np.dtype("float32"), slices)]),
        params=ParamSchema([ParamSpec("first_slice", "long", 0)]),
    )
    program = find_spec(_PROGRAM)  # importing it would make it this process's model
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
