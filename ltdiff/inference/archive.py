"""What there is to do in an archive: a task for each series that a model is for, an outcome for everything else."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ltdiff.data.formats import is_volume_file, read_volume
from ltdiff.data.scope import either
from ltdiff.data.traits import series_traits, volume_traits
from ltdiff.dicom.faults import printable, quoted
from ltdiff.dicom.series import Series, find_series
from ltdiff.inference.choice import choose_recipe
from ltdiff.inference.outcome import Outcome
from ltdiff.inference.recipe import Recipe
from ltdiff.inference.task import DERIVED_MARK, SeriesTask, Task, VolumeTask, split_suffix, task_outcome

logger = logging.getLogger(__name__)


def find_tasks(
    root: Path, *, out: Path, recipes: Sequence[Recipe], force: bool = False
) -> tuple[list[Task], list[Outcome]]:
    """What remains to be done below `root` (a folder, a DICOM file or a volume file), longest first, and the rest.

    Each series gets the model that `choose_recipe` names. An `out` inside `root` is passed over. `force` also takes what
    lies outside what that model was trained for, and marks it.

    Raises:
        ValueError: `root` does not exist, or holds no CT at all; or it is a volume file and there are several models.
    """
    candidates: Sequence[Task]
    if root.is_file() and is_volume_file(root):
        candidates, outcomes = _judge_volume(root, out, recipes, force=force)
    else:
        candidates, outcomes = _judge_archive(root, out, recipes, force=force)
    tasks: list[Task] = []
    for task in candidates:
        try:
            if task.is_done():
                outcomes.append(task_outcome(task, "present", task.derivation.mark))
            else:
                tasks.append(task)
        except ValueError as error:
            outcomes.append(task_outcome(task, "fail", str(error)))
    return sorted(tasks, key=lambda task: -task.num_slices), outcomes


def _judge_volume(
    path: Path, out: Path, recipes: Sequence[Recipe], *, force: bool
) -> tuple[list[VolumeTask], list[Outcome]]:
    name = printable(path)
    if split_suffix(path)[0].endswith(DERIVED_MARK):
        return [], [Outcome(path, "skip", f"{name} is derived itself: it is not standardized again")]
    if len(recipes) > 1:
        models = ", ".join(printable(recipe.model) for recipe in recipes)
        raise ValueError(
            f"{name} does not tell its kernel: name the model that it is for with --model, one of {models}"
        )
    (recipe,) = recipes
    wanted = either(recipe.scope.source_kernels) or "images whose kernel it does not know"
    logger.info("a volume file does not tell its kernel: it is taken for one that the model is for (%s)", wanted)
    volume = read_volume(path)
    outside = "; ".join(recipe.scope.range_objections(volume_traits(volume)))
    task = VolumeTask(
        path, out, recipe.derivation_from("", outside=outside), num_slices=volume.num_slices, model=recipe.model
    )
    refused = _unless_forced(task, name, force=force)
    return ([task], []) if refused is None else ([], [refused])


def _judge_archive(
    root: Path, out: Path, recipes: Sequence[Recipe], *, force: bool
) -> tuple[list[SeriesTask], list[Outcome]]:
    series, findings = find_series(root)
    if out != root and out.is_relative_to(root):
        series = [one for one in series if not one.slices[0].path.is_relative_to(out)]
        findings = [finding for finding in findings if not finding.path.is_relative_to(out)]
    if not series and not any(finding.action == "fail" for finding in findings):
        reason = findings[0].reason if findings else "there is no file"
        raise ValueError(f"{printable(root)} holds no CT series: {reason}")
    outcomes = [Outcome(finding.path, finding.action, finding.reason) for finding in findings]
    tasks: list[SeriesTask] = []
    for one in series:
        judged = _judge_series(one, out, recipes, force=force)
        if isinstance(judged, Outcome):
            outcomes.append(judged)
        else:
            tasks.append(judged)
    return tasks, outcomes


def _judge_series(series: Series, out: Path, recipes: Sequence[Recipe], *, force: bool) -> SeriesTask | Outcome:
    source = series.slices[0].path
    name = f"the series of {printable(source)}"
    if series.derived:
        reason = f"{name} is derived itself: it is not standardized again"
        return Outcome(source, "skip", reason, num_slices=series.num_slices)
    if _has_target_kernel(series, recipes):
        reason = f"{name} is already reconstructed with the target kernel {quoted(series.kernel)}"
        return Outcome(source, "skip", reason, num_slices=series.num_slices)
    traits = series_traits(series)
    try:
        recipe = choose_recipe(traits, recipes)
    except ValueError as error:
        return Outcome(source, "fail", f"{name} {error}", num_slices=series.num_slices)
    outside = "; ".join(recipe.scope.identity_objections(traits) + recipe.scope.range_objections(traits))
    task = SeriesTask(series, out, recipe.derivation_from(series.kernel, outside=outside), recipe.model)
    return _unless_forced(task, name, force=force) or task


def _has_target_kernel(series: Series, recipes: Sequence[Recipe]) -> bool:
    """A kernel that is the target of some pairs and the source of others is still to be standardized."""
    targets = {kernel for recipe in recipes for kernel in recipe.scope.target_kernels}
    sources = {kernel for recipe in recipes for kernel in recipe.scope.source_kernels}
    return series.kernel in targets - sources


def _unless_forced(task: Task, name: str, *, force: bool) -> Outcome | None:
    """The refusal of what lies outside the scope of its model; forced, a warning."""
    if not task.derivation.mark:
        return None
    if force:
        logger.warning("%s is standardized nevertheless, %s", name, task.derivation.mark)
        return None
    reason = f"{name} is {task.derivation.mark}; --force true standardizes it nevertheless"
    return task_outcome(task, "fail", reason)
