"""What there is to do in an archive: a task for each series that a model is for, an result for everything else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ltdiff.data.acquisition import series_acquisition, volume_acquisition
from ltdiff.data.training_domain import either
from ltdiff.data.volume_files import is_volume_file, read_volume
from ltdiff.dicom.series import Series, find_series
from ltdiff.inference.models import TrainedModel, select_model
from ltdiff.inference.results import SeriesResult
from ltdiff.inference.tasks import DERIVED_MARK, SeriesTask, Task, VolumeTask, split_suffix, task_result
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)


def find_tasks(
    root: Path, *, out: Path, trained_models: Sequence[TrainedModel], force: bool = False
) -> tuple[list[Task], list[SeriesResult]]:
    """What remains to be done below `root` (a folder, a DICOM file or a volume file), longest first, and the rest.

    Each series gets the model that `select_model` names. An `out` inside `root` is passed over. `force` also takes what
    lies outside what that model was trained for, and marks it.

    Raises:
        ValueError: `root` does not exist, or holds no CT at all; or it is a volume file and there are several models.
    """
    candidates: Sequence[Task]
    if root.is_file() and is_volume_file(root):
        candidates, results = _check_volume(root, out, trained_models, force=force)
    else:
        candidates, results = _check_archive(root, out, trained_models, force=force)
    tasks: list[Task] = []
    for task in candidates:
        try:
            if task.is_done():
                results.append(task_result(task, "present", task.derivation.warning))
            else:
                tasks.append(task)
        except ValueError as error:
            results.append(task_result(task, "fail", str(error)))
    return sorted(tasks, key=lambda task: -task.num_slices), results


def _check_volume(
    path: Path, out: Path, trained_models: Sequence[TrainedModel], *, force: bool
) -> tuple[list[VolumeTask], list[SeriesResult]]:
    name = printable(path)
    if split_suffix(path)[0].endswith(DERIVED_MARK):
        return [], [SeriesResult(path, "skip", f"{name} is derived itself: it is not standardized again")]
    if len(trained_models) > 1:
        models = ", ".join(printable(trained_model.folder) for trained_model in trained_models)
        raise ValueError(
            f"{name} does not tell its kernel: name the model that it is for with --model, one of {models}"
        )
    (trained_model,) = trained_models
    wanted = either(trained_model.domain.source_kernels) or "images whose kernel it does not know"
    logger.info("a volume file does not tell its kernel: it is taken for one that the model is for (%s)", wanted)
    volume = read_volume(path)
    out_of_domain = "; ".join(trained_model.domain.range_violations(volume_acquisition(volume)))
    task = VolumeTask(
        path,
        out,
        trained_model.derivation_for("", out_of_domain=out_of_domain),
        num_slices=volume.num_slices,
        model=trained_model.folder,
    )
    refused = _unless_forced(task, name, force=force)
    return ([task], []) if refused is None else ([], [refused])


def _check_archive(
    root: Path, out: Path, trained_models: Sequence[TrainedModel], *, force: bool
) -> tuple[list[SeriesTask], list[SeriesResult]]:
    series, issues = find_series(root)
    if out != root and out.is_relative_to(root):
        series = [one for one in series if not one.slices[0].path.is_relative_to(out)]
        issues = [issue for issue in issues if not issue.path.is_relative_to(out)]
    if not series and not any(issue.action == "fail" for issue in issues):
        reason = issues[0].reason if issues else "there is no file"
        raise ValueError(f"{printable(root)} holds no CT series: {reason}")
    results = [SeriesResult(issue.path, issue.action, issue.reason) for issue in issues]
    tasks: list[SeriesTask] = []
    for one in series:
        checked = _check_series(one, out, trained_models, force=force)
        if isinstance(checked, SeriesResult):
            results.append(checked)
        else:
            tasks.append(checked)
    return tasks, results


def _check_series(
    series: Series, out: Path, trained_models: Sequence[TrainedModel], *, force: bool
) -> SeriesTask | SeriesResult:
    source = series.slices[0].path
    name = f"the series of {printable(source)}"
    if series.derived:
        reason = f"{name} is derived itself: it is not standardized again"
        return SeriesResult(source, "skip", reason, num_slices=series.num_slices)
    if _has_target_kernel(series, trained_models):
        reason = f"{name} is already reconstructed with the target kernel {quoted(series.kernel)}"
        return SeriesResult(source, "skip", reason, num_slices=series.num_slices)
    acquisition = series_acquisition(series)
    try:
        trained_model = select_model(acquisition, trained_models)
    except ValueError as error:
        return SeriesResult(source, "fail", f"{name} {error}", num_slices=series.num_slices)
    out_of_domain = "; ".join(
        trained_model.domain.identity_violations(acquisition) + trained_model.domain.range_violations(acquisition)
    )
    task = SeriesTask(
        series, out, trained_model.derivation_for(series.kernel, out_of_domain=out_of_domain), trained_model.folder
    )
    return _unless_forced(task, name, force=force) or task


def _has_target_kernel(series: Series, trained_models: Sequence[TrainedModel]) -> bool:
    """A kernel that is the target of some pairs and the source of others is still to be standardized."""
    targets = {kernel for trained_model in trained_models for kernel in trained_model.domain.target_kernels}
    sources = {kernel for trained_model in trained_models for kernel in trained_model.domain.source_kernels}
    return series.kernel in targets - sources


def _unless_forced(task: Task, name: str, *, force: bool) -> SeriesResult | None:
    """The refusal of what lies outside the domain of its model; forced, a warning."""
    if not task.derivation.warning:
        return None
    if force:
        logger.warning("%s is standardized nevertheless, %s", name, task.derivation.warning)
        return None
    reason = f"{name} is {task.derivation.warning}; --force true standardizes it nevertheless"
    return task_result(task, "fail", reason)
