"""The worker that standardizes an archive: it holds the models, and does one task (a series or volume file) after the other.

It reads, standardizes and writes slice by slice, so no process holds a series. A slice is always computed by one thread, with
noise that depends on its place in the series: the result depends neither on the number of workers nor on how many slices a worker
has in hand at a time.
"""

import logging
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import ltdiff
from ltdiff.dicom.scan import Scan, StoredSlice
from ltdiff.inference.standardizer import Standardizer
from ltdiff.inference.tasks import Outcome, Task, WorkerSettings
from ltdiff.system.atomic_files import open_to_append
from ltdiff.system.progress import configure_logging, progress
from ltdiff.system.resources import hide_gpus, keep_freed_memory, num_cores
from ltdiff.system.text import system_reason
from ltdiff.system.traces import describe_unforeseen

logger = logging.getLogger(__name__)

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


class ArchiveWorker:
    """Does one task after the other, and holds the models that these were for."""

    def __init__(self, settings: WorkerSettings) -> None:
        configure_logging(force=True)
        if not settings.use_gpu:
            hide_gpus()
        torch.set_num_threads(1)  # results of more than one thread differ with their number
        keep_freed_memory()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.settings = settings
        self.standardizers: dict[Path, Standardizer] = {}
        on_gpu = torch.cuda.is_available()
        self.num_threads = NUM_GPU_SLICES if on_gpu else max(1, num_cores() // settings.workers_per_node)
        if settings.use_gpu and not on_gpu:
            logger.warning("PyTorch finds no GPU on this node: its worker computes on the CPU")

    def do(self, task: Task, number: int) -> Outcome:
        """Do task `number` of the run; whatever goes wrong fails this one alone."""
        started_s = time.monotonic()
        reason, output = "", None
        try:
            if _count_attempt(self.settings.attempts / str(number)) > MAX_ATTEMPTS:
                reason = f"{MAX_ATTEMPTS} workers died of it (a crash, or no memory)"
            else:
                name = f"series {number + 1} of {self.settings.num_tasks}"  # no path: these lines end in Ray's logs
                pairs = self._standardize(task.scan, self._standardizer(task.model))
                output = task.write(progress(pairs, name=name, unit="slice", total=task.scan.num_slices))
        except Exception as error:  # one bad series must not stop the others
            reason = _explain(error)
        return Outcome(number, reason, output, round(time.monotonic() - started_s, 1))

    def _standardize(self, scan: Scan, standardizer: Standardizer) -> Iterator[Pair]:
        """Each slice with its standardized HU, in order. All reading is done here: pydicom is not made for threads."""
        standardizer = standardizer.for_series(scan.read_slice, num_slices=scan.num_slices, spacing_mm=scan.spacing_mm)

        def standardize(numbered: tuple[int, StoredSlice]) -> Pair:
            index, stored = numbered
            return stored, standardizer.standardize(stored.hu[None], scan.spacing_mm, first_slice=index)[0]

        return map_ahead(standardize, enumerate(scan.read_slices()), num_threads=self.num_threads)

    def _standardizer(self, model: Path) -> Standardizer:
        """Loaded when a first task needs it, then kept: a worker may never meet a series for some of the models."""
        if model not in self.standardizers:
            self.standardizers[model] = Standardizer.load(model, self.settings.inference)
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
    with open_to_append(path) as file:
        file.write(".")
    return path.stat().st_size


def _explain(error: Exception) -> str:
    """Why a task failed. Our own sentences name no patient; those of a library may quote a header, and are left out."""
    origin = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, ValueError) and Path(origin.filename).is_relative_to(Path(ltdiff.__file__).parent):
        return str(error)
    reason = system_reason(error)
    if reason:
        return f"{reason[0].lower()}{reason[1:]}"
    return describe_unforeseen(error)
