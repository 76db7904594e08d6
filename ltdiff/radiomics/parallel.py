"""Features of many regions by several processes, of which one may crash: in compiled code a region can kill its process.

A crash ends the pool of processes and with it all that was in hand. What was is tried again, one region at a time; a region that
ends a process by itself is given up: all its features are NaN, and the rest goes on.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
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


def extract_regions(regions: Sequence[RegionCut], feature_set: FeatureSet, *, num_workers: int = 1) -> list[dict[str, float]]:
    """Features of every region, in their order; with one worker in this process, which a crash would end.

    Raises:
        ValueError: what the extraction refuses.
    """
    if num_workers > 1:
        with ExtractorPool(feature_set, num_workers=num_workers) as pool:
            return pool.extract(regions)
    return [feature_set.extract(*region) for region in progress(regions, name="features", unit="region")]


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

    def extract(self, regions: Sequence[RegionCut]) -> list[dict[str, float]]:
        """Features of every region in their order; NaN for one that crashes its process even on its own.

        Raises:
            ValueError: what the extraction refuses.
        """
        rows: list[dict[str, float] | None] = [None] * len(regions)
        chunks = range(0, len(regions), CHUNK_SIZE)
        todo = deque(range(first, min(first + CHUNK_SIZE, len(regions))) for first in chunks)
        with progress(name="features", unit="region", total=len(regions)) as bar:
            while todo:
                # two for each process: one to work on and one to go on with
                suspects = self._run(todo, regions, rows, num_in_hand=2 * self.num_workers, count=bar.update)
                singly = deque(range(number, number + 1) for chunk in suspects for number in chunk)
                while singly:
                    for culprit in self._run(singly, regions, rows, num_in_hand=1, count=bar.update):
                        self._check_start()
                        logger.error("region %d of %d crashed its process and is left out", culprit.start + 1, len(regions))
                        bar.update()
        return [dict.fromkeys(self.feature_set.features, math.nan) if row is None else row for row in rows]

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

    def _run(
        self,
        todo: deque[range],
        regions: Sequence[RegionCut],
        rows: list[dict[str, float] | None],
        *,
        num_in_hand: int,
        count: Callable[[float], object],
    ) -> list[range]:
        """Do chunks of `todo` until it is empty or a process crashes, and return what was in hand then."""
        in_hand: dict[Future[list[dict[str, float]]], range] = {}
        try:
            while todo or in_hand:
                while todo and len(in_hand) < num_in_hand:
                    # which stays to be done where the pool turns out to be broken
                    task = self._pool.submit(_extract_chunk, [regions[i] for i in todo[0]], self.feature_set.extract)
                    in_hand[task] = todo.popleft()
                for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                    results, chunk = future.result(), in_hand.pop(future)
                    rows[chunk.start : chunk.stop] = results
                    count(len(results))
        except BrokenProcessPool:
            self._pool.shutdown()
            self._pool = self._start()
        return list(in_hand.values())


def _limit_threads() -> None:
    """Of the libraries that this module has loaded by now."""
    threadpool_limits(1)


def _do_nothing() -> None:
    """Nothing."""


def _extract_chunk(regions: Sequence[RegionCut], extract: Extract) -> list[dict[str, float]]:
    return [extract(*region) for region in regions]
