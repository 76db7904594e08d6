"""Standardizing an archive: what there is to do, the workers that do it, and the report of what became of it all.

One worker is a process beside this one (`local_batch`). Several, or those of a cluster, are actors of Ray (`ray_batch`). PyTorch
and Ray take seconds to import: an archive in which all is done already needs neither.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ltdiff.dicom.series import FoundSeries
from ltdiff.inference.archive import find_tasks
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import Assignment, TrainedModel, load_models
from ltdiff.inference.results import SeriesResult, log_results, write_report
from ltdiff.inference.tasks import Outcome, Task, WorkerSettings
from ltdiff.model.precision import resolve_precision
from ltdiff.system.atomic_files import remove_partial_folders
from ltdiff.system.lock import only_writer
from ltdiff.system.progress import duration
from ltdiff.system.ray_address import joins_cluster
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

REPORT_FILE = "report.csv"
ATTEMPTS_FOLDER = ".attempts"


def standardize_archive(
    root: Path,
    *,
    model: Path | Assignment,
    out: Path,
    inference: InferenceConfig = InferenceConfig(),
    num_workers: int = 1,
    use_gpu: bool = False,
    force: bool = False,
    target_kernel: str | None = None,
    found: FoundSeries | None = None,
) -> list[SeriesResult]:
    """Standardize all series below `root` that the models are for, and return what became of each series and file.

    A derived series appears as out/<its SeriesInstanceUID>/, complete or not at all; a volume file as out/NAME_ltdiff.EXT
    with NAME_ltdiff.EXT.json. The UID stands for source, weights, settings and seed (and warning), so nothing of the input's
    names or numbers is in a path, and running again does only the rest. out/report.csv lists every result,
    and the log says what became of it all.

    Args:
        root: a folder tree with CT series, one DICOM file, or a NIfTI, NRRD or MetaImage file.
        model: folder of a trained model; or one whose subfolders are, each series then gets the one that is for it; or which
            series gets which.
        out: folder for the output; one job at a time writes it. On a cluster, on storage that all nodes share.
        inference: decoding, steps, precision, seed.
        num_workers: model actors; each works on a series of its own, and they share the cores.
        use_gpu: one GPU for each worker.
        force: also standardize series outside what the model was trained for; the output says so.
        target_kernel: only models that lead to this kernel; must be named where they lead to several.
        found: what `find_series` gave for `root`, if that was called already.

    Raises:
        ValueError: no model, or several target kernels; no CT, or a volume file that cannot be read; another job writing
            `out`; too small a cluster.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    root, out = root.absolute(), out.absolute()
    inference = _resolve_precision(inference, use_gpu=use_gpu)
    assignment = model if isinstance(model, Assignment) else None
    if assignment is not None:
        trained_models = [TrainedModel.load(folder, inference) for folder in sorted(set(assignment.models.values()))]
    else:
        assert isinstance(model, Path)
        trained_models = load_models(model.absolute(), inference, target_kernel=target_kernel)
    with only_writer(out):
        remove_partial_folders(out)
        shutil.rmtree(out / ATTEMPTS_FOLDER, ignore_errors=True)
        tasks, results = find_tasks(
            root, out=out, trained_models=trained_models, force=force, assignment=assignment, found=found, num_workers=num_workers
        )
        if tasks:
            (out / ATTEMPTS_FOLDER).mkdir()
            try:
                outcomes = _run(tasks, out, inference, num_workers=min(num_workers, len(tasks)), use_gpu=use_gpu)
                results += _log_outcomes(tasks, outcomes)
            finally:  # what workers left that were killed
                shutil.rmtree(out / ATTEMPTS_FOLDER, ignore_errors=True)
                remove_partial_folders(out)
        log_results(results)  # first: a full disk may have cost series, and cost the report as well
        write_report(results, out / REPORT_FILE, root=root)
    return results


def _resolve_precision(inference: InferenceConfig, *, use_gpu: bool) -> InferenceConfig:
    """With one precision for all nodes: a series' UID stands for it."""
    if use_gpu and joins_cluster():
        from ltdiff.inference.ray_batch import resolve_on_gpu_node

        return replace(inference, precision=resolve_on_gpu_node(inference.precision))
    return replace(inference, precision=resolve_precision(inference.precision, "cuda" if use_gpu else "cpu"))


def _run(tasks: list[Task], out: Path, inference: InferenceConfig, *, num_workers: int, use_gpu: bool) -> Iterator[Outcome]:
    num_slices = sum(task.scan.num_slices for task in tasks)
    logger.info("standardizing %d series, %d slices, with %d worker(s)", len(tasks), num_slices, num_workers)
    settings = WorkerSettings(inference, out / ATTEMPTS_FOLDER, len(tasks), use_gpu)
    if num_workers == 1 and not joins_cluster():
        from ltdiff.inference.local_batch import run_here

        return run_here(tasks, settings)
    from ltdiff.inference.ray_batch import run_on_ray

    return run_on_ray(tasks, settings, num_workers=num_workers)


def _log_outcomes(tasks: list[Task], outcomes: Iterator[Outcome]) -> list[SeriesResult]:
    """One result for each task, and a line when it comes."""
    results: list[SeriesResult] = []
    started_s, num_done = time.monotonic(), 0
    num_slices = sum(task.scan.num_slices for task in tasks)
    for outcome in outcomes:
        task = tasks[outcome.number]
        num_done += task.scan.num_slices
        if outcome.output is None:
            results.append(task.result("fail", f"{printable(task.scan.path)}: {outcome.reason}", seconds=outcome.seconds))
            continue
        results.append(task.result("written", task.derivation.warning, output=outcome.output, seconds=outcome.seconds))
        left = duration((time.monotonic() - started_s) * (num_slices / num_done - 1))
        place = f"{len(results)} of {len(tasks)} series, {left} left"
        logger.info("written: %s in %.0f s; %s", printable(outcome.output), outcome.seconds, place)
    return results
