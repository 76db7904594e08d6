"""How many cores this process may use."""

import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Quota and period of a container in microseconds (Linux, control groups version 2)."""


def num_cores() -> int:
    """Cores for this process: fewer than the machine's under `taskset` or with a container's CPU limit."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not CPU_MAX.is_file():
        return available
    quota, period = CPU_MAX.read_text().split()
    return available if quota == "max" else max(1, min(available, int(quota) // int(period)))
