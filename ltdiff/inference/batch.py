"""Standardizing an archive on Ray: Ray Data hands one task (a series) after the other to actors that hold the model.

Stages: `from_items` (the numbers of the tasks, one to a block, longest task first) → `_Worker` (map_batches; an actor with
its models for each of `num_workers`) → rows with what became of each task, in the order they are done.

A worker reads, standardizes and writes its series slice by slice; only numbers travel between the processes, and no
process holds a series. A slice is always computed by one thread, with noise that depends on its place in the series: so
the result depends neither on the number of workers nor on how many slices a worker has in hand at a time.
"""

import logging
import math
import shutil
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray

import ltdiff
from ltdiff.dicom.scan import Scan, StoredSlice
from ltdiff.inference.archive import find_tasks
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import load_models
from ltdiff.inference.results import SeriesResult, log_results, write_report
from ltdiff.inference.standardizer import Standardizer
from ltdiff.inference.tasks import Task
from ltdiff.model.precision import resolve_precision
from ltdiff.system.atomic_files import remove_partial_folders
from ltdiff.system.lock import only_writer
from ltdiff.system.progress import configure_logging, duration, progress
from ltdiff.system.ray_cluster import (
    hide_gpus,
    joins_cluster,
    num_worker_nodes,
    on_gpu_node,
    quiet_ray_data,
    ray_session,
    restore_umask,
)
from ltdiff.system.resources import keep_freed_memory, num_cores
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

REPORT_FILE = "report.csv"
ATTEMPTS_FOLDER = ".attempts"
MAX_ATTEMPTS = 2
"""A worker that dies (a decoder's crash, no memory) is replaced; a task that kills it twice fails."""
NUM_GPU_SLICES = 2
"""Slices that a worker with a GPU has in hand: one is read and written while the other is computed."""
SWITCH_INTERVAL_S = 5e-4
"""How long, after each of its operations, a thread that computes may wait for the one that reads and writes: Python's own 5 ms
cost 1 % of the rate on two cores."""

Pair = tuple[StoredSlice, NDArray[np.float32]]
"""A slice and its standardized HU (Y, X)."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def standardize_archive(
    root: Path,
    *,
    model: Path,
    out: Path,
    inference: InferenceConfig = InferenceConfig(),
    num_workers: int = 1,
    use_gpu: bool = False,
    force: bool = False,
    target_kernel: str | None = None,
) -> list[SeriesResult]:
    """Standardize all series below `root` that the models are for, and return what became of each series and file.

    A derived series appears as out/<its SeriesInstanceUID>/, complete or not at all; a volume file as out/NAME_ltdiff.EXT
    with NAME_ltdiff.EXT.json. The UID stands for source, weights, settings and seed (and warning), so nothing of the input's
    names or numbers is in a path, and running again does only the rest. out/report.csv lists every result,
    and the log says what became of it all.

    Args:
        root: a folder tree with CT series, one DICOM file, or a NIfTI, NRRD or MetaImage file.
        model: folder of a trained model; or one whose subfolders are, each series then gets the one that is for it.
        out: folder for the output; one job at a time writes it. On a cluster, on storage that all nodes share.
        inference: decoding, steps, precision, seed.
        num_workers: model actors; each works on a series of its own, and they share the cores.
        use_gpu: one GPU for each worker.
        force: also standardize series outside what the model was trained for; the output says so.
        target_kernel: only models that lead to this kernel; must be named where they lead to several.

    Raises:
        ValueError: no model, or several target kernels; no CT, or a volume file that cannot be read; another job writing
            `out`; too small a cluster.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    root, model, out = root.absolute(), model.absolute(), out.absolute()
    inference = _resolve_precision(inference, use_gpu=use_gpu)
    trained_models = load_models(model, inference, target_kernel=target_kernel)
    with only_writer(out):
        remove_partial_folders(out)
        shutil.rmtree(out / ATTEMPTS_FOLDER, ignore_errors=True)
        tasks, results = find_tasks(root, out=out, trained_models=trained_models, force=force)
        if tasks:
            (out / ATTEMPTS_FOLDER).mkdir()
            setup = {"inference": inference, "attempts": out / ATTEMPTS_FOLDER}
            results += _run_tasks(tasks, setup, num_workers=min(num_workers, len(tasks)), use_gpu=use_gpu)
            shutil.rmtree(out / ATTEMPTS_FOLDER)
        log_results(results)  # first: a full disk may have cost series, and cost the report as well
        write_report(results, out / REPORT_FILE, root=root)
    return results


def _resolve_precision(inference: InferenceConfig, *, use_gpu: bool) -> InferenceConfig:
    """With one precision for all nodes: a series' UID stands for it."""
    resolve = partial(resolve_precision, inference.precision, torch.device("cuda" if use_gpu else "cpu"))
    if not use_gpu or not joins_cluster():
        return replace(inference, precision=resolve())
    with ray_session(num_cpus=1, num_gpus=1):
        return replace(inference, precision=on_gpu_node(resolve))


def _run_tasks(tasks: list[Task], setup: dict[str, Any], *, num_workers: int, use_gpu: bool) -> list[SeriesResult]:
    num_slices = sum(task.scan.num_slices for task in tasks)
    logger.info("standardizing %d series, %d slices, with %d worker(s)", len(tasks), num_slices, num_workers)
    results: list[SeriesResult] = []
    started_s, num_done = time.monotonic(), 0
    with ray_session(num_cpus=num_workers, num_gpus=num_workers if use_gpu else 0), quiet_ray_data():
        stream = _stream(tasks, setup, num_workers=num_workers, use_gpu=use_gpu)
        # fetching ahead, as it does unless told otherwise, Ray Data would pass each result on when the next one is there
        for batch in stream.iter_batches(batch_size=1, prefetch_batches=0, batch_format="numpy"):
            task = tasks[int(batch["task"][0])]
            result = _result(task, reason=str(batch["reason"][0]), seconds=float(batch["seconds"][0]))
            results.append(result)
            num_done += task.scan.num_slices
            if result.status == "written":
                left = duration((time.monotonic() - started_s) * (num_slices / num_done - 1))
                place = f"{len(results)} of {len(tasks)} series, {left} left"
                logger.info("written: %s in %.0f s; %s", printable(task.output), result.seconds, place)
    return results


def _result(task: Task, *, reason: str, seconds: float) -> SeriesResult:
    if reason:
        return task.result("fail", f"{printable(task.scan.path)}: {reason}", seconds=seconds)
    return task.result("written", task.derivation.warning, seconds=seconds)


def _stream(tasks: list[Task], setup: dict[str, Any], *, num_workers: int, use_gpu: bool) -> ray.data.Dataset:
    """The lazy Ray Data stream; see the module's stages."""
    workers_per_node = math.ceil(num_workers / num_worker_nodes())  # Ray Data spreads its actors
    references = [ray.put(task) for task in tasks]  # an archive's headers are too much for every row and worker
    stream = ray.data.from_items([{"task": number} for number in range(len(tasks))], override_num_blocks=len(tasks))
    return stream.map_batches(
        _Worker,
        batch_size=1,
        # one task at a time: none waits behind a long series while another worker is idle
        compute=ray.data.ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_kwargs={"tasks": references, "workers_per_node": workers_per_node, "use_gpu": use_gpu, **setup},
        num_cpus=1,
        num_gpus=1 if use_gpu else 0,
    )


class _Worker:
    """The actor: does one task after the other, and holds the models that these were for."""

    def __init__(
        self, tasks: list[ray.ObjectRef], *, inference: InferenceConfig, attempts: Path, workers_per_node: int, use_gpu: bool
    ) -> None:
        configure_logging(force=True)
        restore_umask()
        if not use_gpu:
            hide_gpus()
        torch.set_num_threads(1)  # results of more than one thread differ with their number
        keep_freed_memory()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.tasks = tasks
        self.attempts = attempts
        self.inference = inference
        self.standardizers: dict[Path, Standardizer] = {}
        on_gpu = torch.cuda.is_available()
        self.num_threads = NUM_GPU_SLICES if on_gpu else max(1, num_cores() // workers_per_node)
        if use_gpu and not on_gpu:
            logger.warning("PyTorch finds no GPU on this node: its worker computes on the CPU")

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """{"task": its number} → {"task", "reason" (why it failed, or ""), "seconds"}, all of length 1."""
        number = int(batch["task"][0])
        started_s = time.monotonic()
        reason = self._do(number)
        return {"task": [number], "reason": [reason], "seconds": [round(time.monotonic() - started_s, 1)]}

    def _do(self, number: int) -> str:
        try:
            if _count_attempt(self.attempts / str(number)) > MAX_ATTEMPTS:
                return f"{MAX_ATTEMPTS} workers died of it (a crash, or no memory)"
            task: Task = ray.get(self.tasks[number])
            pairs = self._standardize(task.scan, self._standardizer(task.model))
            name = f"series {number + 1} of {len(self.tasks)}"  # no path: these lines end in Ray's logs
            task.write(progress(pairs, name=name, unit="slice", total=task.scan.num_slices))
        except Exception as error:  # one bad series must not stop the others
            return _explain(error)
        return ""

    def _standardize(self, scan: Scan, standardizer: Standardizer) -> Iterator[Pair]:
        """Each slice with its standardized HU, in order. All reading is done here: pydicom is not made for threads."""

        def standardize(numbered: tuple[int, StoredSlice]) -> Pair:
            index, stored = numbered
            return stored, standardizer.standardize(stored.hu[None], scan.spacing_mm, first_slice=index)[0]

        return map_ahead(standardize, enumerate(scan.read_slices()), num_threads=self.num_threads)

    def _standardizer(self, model: Path) -> Standardizer:
        """Loaded when a first task needs it, then kept: a worker may never meet a series for some of the models."""
        if model not in self.standardizers:
            self.standardizers[model] = Standardizer.load(model, self.inference)
        return self.standardizers[model]


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int) -> Iterator[Result]:
    """`function` of each item, in order, in threads; at most `num_threads` + 1 items are in hand at a time."""
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _count_attempt(path: Path) -> int:
    """Note one more attempt in a file that outlives the worker, and return how many there were with it."""
    with path.open("a") as file:
        file.write(".")
    return path.stat().st_size


def _explain(error: Exception) -> str:
    """Why a task failed. Our own sentences name no patient; those of a library may quote a header, so its type must do."""
    origin = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, ValueError) and Path(origin.filename).is_relative_to(Path(ltdiff.__file__).parent):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__} in {Path(origin.filename).name}, line {origin.lineno}"
