"""Trained models with their settings: one in a folder, or several in a folder of such folders; and which one a series is for."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from ltdiff.data.acquisition import AcquisitionInfo
from ltdiff.data.training_domain import TrainingDomain, either, name_kernel
from ltdiff.dicom.derivation import Derivation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.procedure import Procedure
from ltdiff.model.model_folder import DESCRIPTION_FILE, description_errors, read_description, verify_model_folder, weights_sha256
from ltdiff.model.precision import resolve_precision
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)

MODEL_NAME = "LTDiff++"


class Assignment(NamedTuple):
    """Which model an archive's series are for, where that is known: the model's folder by SeriesInstanceUID; for the others, by
    the path of their first slice, the reason why there is none; series of the target kernel stay as they are.
    """

    target_kernel: str
    models: Mapping[str, Path]
    refused: Mapping[Path, str]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its settings: its folder, what it was trained for, and what every image made with it says."""

    folder: Path
    domain: TrainingDomain
    derivation: Derivation

    @classmethod
    def load(cls, model: Path, inference: InferenceConfig) -> "TrainedModel":
        """Of the model in the folder `model`, whose files are verified and whose networks are not built.

        Raises:
            ValueError: no model there, a damaged one, or settings that do not fit it.
        """
        description = verify_model_folder(model)
        with description_errors(model):
            version = str(description["about"]["version"])
        procedure = Procedure.read(model, inference)
        domain = read_training_domain(model)
        derivation = Derivation(
            model_name=MODEL_NAME,
            model_version=version,
            weights_sha256=weights_sha256(model),
            process=procedure.describe_sampling(resolve_precision(inference.precision, "cpu")),
            decode=procedure.describe_decoding(),
            num_inference_steps=procedure.num_steps,
            seed=inference.seed,
            source_kernel="",
            target_kernel="\\".join(domain.target_kernels),
        )
        return cls(model, domain, derivation)

    def derivation_for(self, kernel: str, *, out_of_domain: str = "") -> Derivation:
        """What an image made from one with this kernel says, and what of it lies `out_of_domain`."""
        return replace(self.derivation, source_kernel=kernel, out_of_domain=out_of_domain)


def load_models(folder: Path, inference: InferenceConfig, *, target_kernel: str | None = None) -> list[TrainedModel]:
    """The model in `folder`, or all models in its subfolders that lead to one target kernel.

    Raises:
        ValueError: no model there, or a damaged one; none for `target_kernel`; several target kernels and none is named.
    """
    models = find_models(folder)
    domains = [read_training_domain(model) for model in models]
    targets = sorted({domain.target_kernels for domain in domains})
    if target_kernel is not None:
        models = [model for model, domain in zip(models, domains, strict=True) if target_kernel in domain.target_kernels]
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
    return [TrainedModel.load(model, inference) for model in models]


def find_models(folder: Path) -> list[Path]:
    """`folder` itself, or those of its subfolders that hold a trained model (a run's untrained start is passed over)."""
    if (folder / DESCRIPTION_FILE).is_file():
        return [folder]
    below = [path.parent for path in sorted(folder.glob(f"*/{DESCRIPTION_FILE}")) if path.parent.name[0] != "."]
    return [model for model in below if read_description(model)["about"].get("trained")] or [folder]


def read_training_domain(model: Path) -> TrainingDomain:
    """What a model was trained for. Raises ValueError."""
    description = read_description(model)
    with description_errors(model):
        return TrainingDomain.from_dict(description["about"]["training_domain"])


def _list(targets: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(either(kernels) or "unknown" for kernels in targets)


def select_model(
    acquisition: AcquisitionInfo, trained_models: Sequence[TrainedModel], *, name: str = "the series"
) -> TrainedModel:
    """The model that was trained for the kernel of a scan; of several, by the manufacturer; then by grid and noise.

    Where no model knows the kernel, the rest decides: what is then made is for `check_domain` to refuse.

    Raises:
        ValueError: several are equally near; the sentence names them, and the scan as `name`.
    """
    ranks = [_rank(acquisition, trained_model.domain) for trained_model in trained_models]
    nearest = [trained_model for trained_model, rank in zip(trained_models, ranks, strict=True) if rank == min(ranks)]
    if len(nearest) == 1:
        return nearest[0]
    names = ", ".join(printable(trained_model.folder) for trained_model in nearest)
    kernel = acquisition.kernel or ""
    if kernel in nearest[0].domain.source_kernels:
        raise ValueError(f"{name} fits several models equally well: name one of {names} with --model")
    raise ValueError(
        f"{name} has {name_kernel(kernel)}, for which no model was trained: name one of {names} with --model and --force"
    )


def _rank(acquisition: AcquisitionInfo, domain: TrainingDomain) -> tuple[bool, int, bool]:
    """Smaller is nearer. A manufacturer that is not known is nearer than another one."""
    by_manufacturer = {True: 0, None: 1, False: 2}[domain.fits_manufacturer(acquisition)]
    return acquisition.kernel not in domain.source_kernels, by_manufacturer, bool(domain.range_violations(acquisition))


def check_domain(
    acquisition: AcquisitionInfo, domain: TrainingDomain, *, name: str, verb: Literal["standardize", "measure"], force: bool
) -> str:
    """What of the scan called `name` the model was not trained for, if `force` lets it pass; "" where all is well.

    Raises:
        ValueError: something is outside, and `force` is not given.
    """
    violations = "; ".join(domain.violations(acquisition))
    if violations and not force:
        raise ValueError(f"{name} is outside what the model was trained for: {violations}; --force {verb}s it nevertheless")
    if violations:
        logger.warning("%s is %sd nevertheless, outside what the model was trained for: %s", name, verb, violations)
    return violations
