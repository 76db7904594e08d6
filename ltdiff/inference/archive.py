"""What there is to do in an archive: a task for each series that the model is for, an outcome for everything else."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ltdiff.data.formats import is_volume_file, read_volume
from ltdiff.dicom.derived import Derivation
from ltdiff.dicom.faults import printable, quoted
from ltdiff.dicom.series import Series, find_series
from ltdiff.inference.outcome import Outcome
from ltdiff.inference.standardizer import InferenceConfig, Standardizer
from ltdiff.inference.task import DERIVED_MARK, SeriesTask, Task, VolumeTask, split_suffix
from ltdiff.model.ltdiff import read_description, weights_sha256

logger = logging.getLogger(__name__)

MODEL_NAME = "LTDiff++"


@dataclass(frozen=True)
class Recipe:
    """A trained model with its settings: which kernels it is for, and what every image made with it says.

    `source_kernels` and `target_kernels` are those of the training pairs ("" where these had none).
    """

    source_kernels: tuple[str, ...]
    target_kernels: tuple[str, ...]
    derivation: Derivation

    @classmethod
    def load(cls, model: Path, inference: InferenceConfig) -> "Recipe":
        """Of the model in the folder `model`, whose weights are verified.

        Raises:
            ValueError: no model there, a damaged one, or settings that do not fit it.
        """
        standardizer = Standardizer.load(model, inference)
        about = read_description(model)["about"]
        targets = tuple(filter(None, about["target_kernels"]))
        derivation = Derivation(
            model_name=MODEL_NAME,
            model_version=about["version"],
            weights_sha256=weights_sha256(model),
            process=f"{standardizer.diffusion.process} in {inference.precision}",
            decode=standardizer.decode,
            num_inference_steps=standardizer.num_steps,
            seed=inference.seed,
            source_kernel="",
            target_kernel="\\".join(targets),
        )
        return cls(tuple(filter(None, about["source_kernels"])), targets, derivation)

    def derivation_from(self, kernel: str) -> Derivation:
        """What an image made from one with this kernel says."""
        return replace(self.derivation, source_kernel=kernel)


def find_tasks(root: Path, *, out: Path, recipe: Recipe, force: bool = False) -> tuple[list[Task], list[Outcome]]:
    """What remains to be done below `root` (a folder, a DICOM file or a volume file), longest first, and the rest.

    An `out` inside `root` is passed over. `force` also takes kernels that the model was not trained for.

    Raises:
        ValueError: `root` does not exist, or holds no CT at all.
    """
    if root.is_file() and is_volume_file(root):
        candidates, outcomes = _judge_volume(root, out, recipe)
    else:
        candidates, outcomes = _judge_series(root, out, recipe, force=force)
    tasks: list[Task] = []
    for task in candidates:
        try:
            if task.is_done():
                outcomes.append(Outcome(task.source, "present", output=task.output, num_slices=task.num_slices))
            else:
                tasks.append(task)
        except ValueError as error:
            outcomes.append(Outcome(task.source, "fail", str(error)))
    return sorted(tasks, key=lambda task: -task.num_slices), outcomes


def _judge_volume(path: Path, out: Path, recipe: Recipe) -> tuple[Sequence[Task], list[Outcome]]:
    if split_suffix(path)[0].endswith(DERIVED_MARK):
        return [], [Outcome(path, "skip", f"{printable(path)} is derived itself: it is not standardized again")]
    logger.info(
        "a volume file does not tell its kernel: it is taken for one that the model is for (%s)",
        _names(recipe.source_kernels),
    )
    return [VolumeTask(path, out, recipe.derivation_from(""), num_slices=read_volume(path).num_slices)], []


def _judge_series(root: Path, out: Path, recipe: Recipe, *, force: bool) -> tuple[Sequence[Task], list[Outcome]]:
    series, findings = find_series(root)
    if out != root and out.is_relative_to(root):
        series = [one for one in series if not one.slices[0].path.is_relative_to(out)]
        findings = [finding for finding in findings if not finding.path.is_relative_to(out)]
    if not series and not any(finding.action == "fail" for finding in findings):
        reason = findings[0].reason if findings else "there is no file"
        raise ValueError(f"{printable(root)} holds no CT series: {reason}")
    outcomes = [Outcome(finding.path, finding.action, finding.reason) for finding in findings]
    tasks: list[Task] = []
    for one in series:
        objection = _objection(one, recipe, force=force)
        if objection is None:
            tasks.append(SeriesTask(one, out, recipe.derivation_from(one.kernel)))
        else:
            outcomes.append(objection)
    return tasks, outcomes


def _objection(series: Series, recipe: Recipe, *, force: bool) -> Outcome | None:
    """Why a series is not to be standardized."""
    source = series.slices[0].path
    name = f"the series of {printable(source)}"
    if series.derived:
        reason = f"{name} is derived itself: it is not standardized again"
        return Outcome(source, "skip", reason, num_slices=series.num_slices)
    if series.kernel in recipe.source_kernels:
        return None
    if series.kernel in recipe.target_kernels:
        reason = f"{name} is already reconstructed with the target kernel {quoted(series.kernel)}"
        return Outcome(source, "skip", reason, num_slices=series.num_slices)
    kernel = f"kernel {quoted(series.kernel)}" if series.kernel else "no ConvolutionKernel"
    mismatch = f"{name} has {kernel}, and the model was trained for {_names(recipe.source_kernels)}"
    if not force:
        reason = f"{mismatch}; --force true standardizes it nevertheless"
        return Outcome(source, "fail", reason, num_slices=series.num_slices)
    logger.warning("%s: standardized nevertheless", mismatch)
    return None


def _names(kernels: Sequence[str]) -> str:
    return " or ".join(map(quoted, kernels)) or "images whose kernel it does not know"
