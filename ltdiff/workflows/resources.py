"""Peak memory of this process and all those it started (Ray's too), sampled while a block runs."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

SAMPLE_EVERY_S = 1.0


class PeakMemory:
    """Context manager; afterwards `peak_bytes` is the largest sum of proportional set sizes that was seen.

    A proportional set size divides shared pages among those who share them, so Ray's object store counts once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            own = psutil.Process()
            total = sum(_memory_bytes(process) for process in [own, *own.children(recursive=True)])
            self.peak_bytes = max(self.peak_bytes, total)
            if self._stop.wait(SAMPLE_EVERY_S):
                return


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(getattr(process.memory_full_info(), "pss", 0)) or int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
