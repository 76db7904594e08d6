"""What there is to do in an archive: a task for each scan that a model is for, a result for everything else."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ltdiff.data.acquisition import AcquisitionInfo
from ltdiff.data.training_domain import either
from ltdiff.data.volume_files import is_volume_file, read_volume_scan
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.series import FoundSeries, Series, find_archived_series, no_series_error
from ltdiff.inference.models import Assignment, TrainedModel, check_domain, select_model
from ltdiff.inference.results import SeriesResult
from ltdiff.inference.tasks import DERIVED_MARK, SeriesTask, Task, VolumeTask, split_suffix
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)


def find_tasks(
    root: Path,
    *,
    out: Path,
    trained_models: Sequence[TrainedModel],
    force: bool = False,
    assignment: Assignment | None = None,
    found: FoundSeries | None = None,
    num_workers: int = 1,
) -> tuple[list[Task], list[SeriesResult]]:
    """What remains to be done below `root` (a folder, a DICOM file or a volume file), longest first, and the rest.

    Each scan gets the model that `select_model` names, or that of the `assignment`. An `out` inside `root` is passed over.
    `force` also takes what lies outside what that model was trained for, and marks it. Series that were `found` there already are
    not looked for again; else many new headers are read by `num_workers` tasks of Ray.

    Raises:
        NothingToDoError: `root` holds no CT at all.
        ValueError: `root` does not exist, or is a volume file and there are several models.
    """
    scans: Sequence[Scan]
    if root.is_file() and is_volume_file(root):
        scans, results = _find_volume(root, trained_models)
    else:
        scans, results = _find_archive(root, out, found, num_workers)
    tasks: list[Task] = []
    for scan in scans:
        task = _find_task(scan, out, trained_models, force=force, assignment=assignment)
        if isinstance(task, SeriesResult):
            results.append(task)
        else:
            tasks.append(task)
    return sorted(tasks, key=lambda task: -task.scan.num_slices), results


def _find_volume(path: Path, trained_models: Sequence[TrainedModel]) -> tuple[list[Scan], list[SeriesResult]]:
    name = printable(path)
    if split_suffix(path)[0].endswith(DERIVED_MARK):
        return [], [SeriesResult(path, "skip", f"{name} is derived itself: it is not standardized again")]
    if len(trained_models) > 1:
        models = ", ".join(printable(trained_model.folder) for trained_model in trained_models)
        raise ValueError(f"{name} does not tell its kernel: name the model that it is for with --model, one of {models}")
    wanted = either(trained_models[0].domain.source_kernels) or "images whose kernel it does not know"
    logger.info("a volume file does not tell its kernel: it is taken for one that the model is for (%s)", wanted)
    return [read_volume_scan(path)], []


def _find_archive(root: Path, out: Path, found: FoundSeries | None, num_workers: int) -> tuple[list[Series], list[SeriesResult]]:
    series, issues = find_archived_series(root, without=out, num_workers=num_workers) if found is None else found
    if not series and not any(issue.action == "fail" for issue in issues):
        raise no_series_error(root, series, issues)
    return series, [SeriesResult(issue.path, issue.action, issue.reason) for issue in issues]


def _find_task(
    scan: Scan, out: Path, trained_models: Sequence[TrainedModel], *, force: bool, assignment: Assignment | None
) -> Task | SeriesResult:
    """The task, or what became of a scan that is not to be standardized, cannot be, or is already."""
    name = f"the series of {printable(scan.path)}" if isinstance(scan, Series) else printable(scan.path)
    if scan.derived:
        reason = f"{name} is derived itself: it is not standardized again"
        return SeriesResult(scan.path, "skip", reason, num_slices=scan.num_slices)
    if _has_target_kernel(scan, trained_models) or (assignment is not None and scan.kernel == assignment.target_kernel):
        reason = f"{name} is already reconstructed with the target kernel {quoted(scan.kernel)}"
        return SeriesResult(scan.path, "skip", reason, num_slices=scan.num_slices)
    trained_model: TrainedModel | None = None
    try:
        doubt = scan.check_values()
        acquisition = AcquisitionInfo.of(scan)
        if assignment is None:
            trained_model = select_model(acquisition, trained_models, name=name)
        else:
            trained_model = _assigned_model(scan, trained_models, assignment)
        warning = check_domain(acquisition, trained_model.domain, name=name, verb="standardize", force=force)
        task = _make_task(scan, out, trained_model, out_of_domain="; ".join(filter(None, [warning, doubt])))
        output = task.find_output()
        return task.result("present", task.derivation.warning, output=output) if output else task
    except ValueError as error:
        folder = trained_model.folder if trained_model else None
        return SeriesResult(scan.path, "fail", str(error), num_slices=scan.num_slices, model=folder)


def _assigned_model(scan: Scan, trained_models: Sequence[TrainedModel], assignment: Assignment) -> TrainedModel:
    folder = assignment.models.get(scan.series_instance_uid)
    if folder is None:
        raise ValueError(
            assignment.refused.get(scan.path, f"{printable(scan.path)} came when the models were fitted: run it again")
        )
    (model,) = [one for one in trained_models if one.folder == folder]
    return model


def _make_task(scan: Scan, out: Path, trained_model: TrainedModel, *, out_of_domain: str) -> Task:
    derivation = trained_model.derivation_for(scan.kernel, out_of_domain=out_of_domain)
    if isinstance(scan, Series):
        return SeriesTask(scan, out, derivation, trained_model.folder)
    return VolumeTask(scan, out, derivation, trained_model.folder)


def _has_target_kernel(scan: Scan, trained_models: Sequence[TrainedModel]) -> bool:
    """A kernel that is the target of some pairs and the source of others is still to be standardized."""
    targets = {kernel for trained_model in trained_models for kernel in trained_model.domain.target_kernels}
    sources = {kernel for trained_model in trained_models for kernel in trained_model.domain.source_kernels}
    return scan.kernel in targets - sources
