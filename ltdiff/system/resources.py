"""Resources of this process: cores, freed memory, environment variables for a block, peak memory with its children."""

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Control groups of this process (Linux)."""


def num_cores() -> int:
    """Cores for this process: fewer than the machine's under `taskset` or with a CPU limit of a container or service."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([available, *map(int, _cpu_quotas())]))


def _cpu_quotas() -> Iterator[float]:
    """Cores that each of this process's control groups, and each of those around it, may use; none without a limit."""
    lines = OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.is_file() else []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        own = Path(name)
        for group in (own, *own.parents):  # a container may see itself as the root, and not under the name it has outside
            try:
                yield _cpu_quota(CGROUPS / ("cpu" if controllers else "") / group.relative_to("/"))
            except (OSError, ValueError):  # no such file, or "max": no limit
                continue


def _cpu_quota(folder: Path) -> float:
    """Quota by period: of version 2 in one file, of version 1 in two."""
    if (folder / "cpu.max").is_file():
        quota, period = (folder / "cpu.max").read_text().split()
    else:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    if float(quota) <= 0:
        raise ValueError("no limit")
    return float(quota) / float(period)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_BLOCK, _MAX_TRIM = 2**30, 2**31 - 1


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, in this process and from now on; does nothing where the C library is not glibc.

    Glibc returns large blocks to the kernel, which clears each of their pages when the next slice or step asks for them:
    7 % of a training step and up to 5 % of standardizing a slice on two cores. A process may then hold a tenth more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _MAX_TRIM)


def hide_gpus() -> None:
    """Hide GPUs from a worker that asked for none, before it uses PyTorch: Ray leaves those of its node visible."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, also in processes that are started inside the block; afterwards they are what they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


SAMPLE_EVERY_S = 1.0


class PeakMemory:
    """Context manager; afterwards `peak_bytes` is the largest sum of proportional set sizes that was seen.

    A proportional set size divides shared pages among those who share them, so Ray's object store counts once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
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
