"""Features of many regions by several processes, of which one may crash: in compiled code a region can kill its process.

Regions are taken as processes need them and features come in their order, so that no more regions are in memory than are in hand.

A crash ends the pool of processes and with it all that was in hand. What was is tried again, one region at a time; a region that
ends a process by itself is given up: all its features are NaN, and the rest goes on.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from threadpoolctl import threadpool_limits

from ltdiff.data.rois import bounding_box
from ltdiff.radiomics.feature_sets import Extract, FeatureSet
from ltdiff.radiomics.wavelet_set import MARGIN_PX
from ltdiff.system.processes import OwnProcesses
from ltdiff.system.progress import progress

logger = logging.getLogger(__name__)

CHUNK_SIZE = 16
"""Regions that a process is given at a time."""


class RegionCut(NamedTuple):
    """One region as a worker process gets it: its bounding box (Z, Y, X), MARGIN_PX wider on every side in the plane."""

    hu: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]

    @classmethod
    def of(cls, hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> "RegionCut":
        """Cut the region out of whole slices (Z, Y, X) by its mask."""
        box = (slice(None), *bounding_box(np.any(mask, axis=0), margin_px=MARGIN_PX))
        return cls(hu[box], mask[box], spacing_mm)


def extract_regions(regions: Iterable[RegionCut], feature_set: FeatureSet, *, num_workers: int = 1) -> Iterator[dict[str, float]]:
    """Features of every region, in their order; with one worker in this process, which a crash would end.

    Raises:
        ValueError: what the extraction refuses.
    """
    if num_workers > 1:
        with ExtractorPool(feature_set, num_workers=num_workers) as pool:
            yield from pool.extract(regions)
    else:
        for region in progress(regions, name="features", unit="region"):
            yield feature_set.extract(*region)


def in_chunks(regions: Iterable[RegionCut], size: int) -> Iterator[list[RegionCut]]:
    """Lists of so many regions each, the last of the rest; one is read when it is asked for."""
    rest = iter(regions)
    while chunk := list(islice(rest, size)):
        yield chunk


@dataclass(eq=False)
class _Task:
    """A chunk of regions, the first of them number `first`, and the features once they are known."""

    first: int
    regions: list[RegionCut]
    future: Future[list[dict[str, float]]]
    rows: list[dict[str, float]] | None = None


class ExtractorPool:
    """Processes that extract features, and are replaced when one of them crashes.

    Each has one thread: BLAS threads of several processes get in each other's way (three times as long on two cores).
    """

    def __init__(self, feature_set: FeatureSet, *, num_workers: int) -> None:
        self.feature_set = feature_set
        self.num_workers = num_workers
        self._pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._pool.__exit__(kind, error, traceback)

    def extract(self, regions: Iterable[RegionCut]) -> Iterator[dict[str, float]]:
        """Features of every region in their order; NaN for one that crashes its process even on its own.

        Raises:
            ValueError: what the extraction refuses.
        """
        chunks, number = in_chunks(regions, CHUNK_SIZE), 0
        tasks: deque[_Task] = deque()  # in the order of their regions: done, or in hand
        with progress(name="features", unit="region", total=length_hint(regions) or None) as bar:
            while True:
                # two for each process: one to work on and one to go on with
                while sum(task.rows is None for task in tasks) < 2 * self.num_workers and (chunk := next(chunks, None)):
                    tasks.append(_Task(number, chunk, self._submit(chunk)))
                    number += len(chunk)
                if not tasks:
                    return
                self._wait([task for task in tasks if task.rows is None])
                while tasks and (rows := tasks[0].rows) is not None:
                    tasks.popleft()
                    bar.update(len(rows))
                    yield from rows

    def _submit(self, regions: list[RegionCut]) -> Future[list[dict[str, float]]]:
        """Of a pool that is broken already, `_wait` hears as of one that breaks later."""
        try:
            return self._pool.submit(_extract_chunk, regions, self.feature_set.extract)
        except BrokenProcessPool as error:
            broken: Future[list[dict[str, float]]] = Future()
            broken.set_exception(error)
            return broken

    def _wait(self, tasks: Sequence[_Task]) -> None:
        """Wait until one of the tasks is done; where a process crashed, do all of them, one region at a time."""
        done = wait([task.future for task in tasks], return_when=FIRST_COMPLETED).done
        broken = {future for future in done if isinstance(future.exception(), BrokenProcessPool)}
        for task in tasks:
            if task.future in done - broken:
                task.rows = task.future.result()
                task.regions = []  # it may wait for one before it
        if broken:
            self._restart()
            for task in tasks:
                if task.rows is None:
                    task.rows = [self._extract_alone(region, task.first + i) for i, region in enumerate(task.regions)]

    def _extract_alone(self, region: RegionCut, number: int) -> dict[str, float]:
        """With nothing else in hand, so that the region is to blame if the process crashes."""
        try:
            return self._submit([region]).result()[0]
        except BrokenProcessPool:
            self._restart()
            self._check_start()
            logger.error("region %d crashed its process and is left out", number + 1)
            return dict.fromkeys(self.feature_set.features, math.nan)

    def _check_start(self) -> None:
        """RuntimeError where a process ends without any region: then it is the processes that are at fault, and no region is."""
        try:
            self._pool.submit(_do_nothing).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "the processes that extract features end as they start; a script that calls ltdiff needs the line "
                "`if __name__ == '__main__':` before its calls"
            ) from error

    def _start(self) -> OwnProcesses:
        return OwnProcesses(self.num_workers, start=_limit_threads)

    def _restart(self) -> None:
        self._pool.shutdown()
        self._pool = self._start()


def _limit_threads() -> None:
    """Of the libraries that this module has loaded by now."""
    threadpool_limits(1)


def _do_nothing() -> None:
    """Nothing."""


def _extract_chunk(regions: Sequence[RegionCut], extract: Extract) -> list[dict[str, float]]:
    return [extract(*region) for region in regions]
