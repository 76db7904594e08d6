"""Trained models with their settings: one in a folder, or several in a folder of such folders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ltdiff.data.scope import Scope, either
from ltdiff.dicom.derived import Derivation
from ltdiff.dicom.faults import printable, quoted
from ltdiff.inference.standardizer import InferenceConfig, Standardizer
from ltdiff.model.ltdiff import DESCRIPTION_FILE, read_description, weights_sha256

MODEL_NAME = "LTDiff++"


@dataclass(frozen=True)
class Recipe:
    """A trained model with its settings: its folder, what it was trained for, and what every image made with it says."""

    model: Path
    scope: Scope
    derivation: Derivation

    @classmethod
    def load(cls, model: Path, inference: InferenceConfig) -> "Recipe":
        """Of the model in the folder `model`, whose weights are verified.

        Raises:
            ValueError: no model there, a damaged one, or settings that do not fit it.
        """
        standardizer = Standardizer.load(model, inference, device=torch.device("cpu"))  # a worker has the GPU
        scope = read_scope(model)
        derivation = Derivation(
            model_name=MODEL_NAME,
            model_version=read_description(model)["about"]["version"],
            weights_sha256=weights_sha256(model),
            process=standardizer.process,
            decode=standardizer.decoding,
            num_inference_steps=standardizer.num_steps,
            seed=inference.seed,
            source_kernel="",
            target_kernel="\\".join(scope.target_kernels),
        )
        return cls(model, scope, derivation)

    def derivation_from(self, kernel: str, *, outside: str = "") -> Derivation:
        """What an image made from one with this kernel says, and what of it is `outside` the model's scope."""
        return replace(self.derivation, source_kernel=kernel, outside=outside)


def load_recipes(folder: Path, inference: InferenceConfig, *, target_kernel: str | None = None) -> list[Recipe]:
    """The model in `folder`, or all models in its subfolders that lead to one target kernel.

    Raises:
        ValueError: no model there, or a damaged one; none for `target_kernel`; several target kernels and none is named.
    """
    models = find_models(folder)
    scopes = [read_scope(model) for model in models]
    targets = sorted({scope.target_kernels for scope in scopes})
    if target_kernel is not None:
        models = [model for model, scope in zip(models, scopes, strict=True) if target_kernel in scope.target_kernels]
    elif len(targets) > 1:
        raise ValueError(
            f"the models in {printable(folder)} have different target kernels ({_list(targets)}): "
            "name the one that is wanted with --target_kernel"
        )
    if not models:
        raise ValueError(
            f"no model in {printable(folder)} was trained for the target kernel {quoted(target_kernel)}, "
            f"only for {_list(targets)}"
        )
    return [Recipe.load(model, inference) for model in models]


def find_models(folder: Path) -> list[Path]:
    """`folder` itself, or those of its subfolders that hold a trained model (a run's untrained start is passed over)."""
    if (folder / DESCRIPTION_FILE).is_file():
        return [folder]
    below = [path.parent for path in sorted(folder.glob(f"*/{DESCRIPTION_FILE}")) if path.parent.name[0] != "."]
    return [model for model in below if read_description(model)["about"]["trained"]] or [folder]


def read_scope(model: Path) -> Scope:
    """What a model was trained for."""
    return Scope.from_dict(read_description(model)["about"]["scope"])


def _list(targets: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(either(kernels) or "unknown" for kernels in targets)
