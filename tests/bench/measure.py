"""Timing two ways of doing the same in turns, and writing the table of all benchmarks."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Benchmark(NamedTuple):
    """One row: how fast ours is, how fast the reference, and the median of the ratios of neighbouring runs."""

    name: str
    ours: float
    reference: float | None
    ratio: float | None
    unit: str
    repetitions: int


def compare_rates(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    count: int,
    unit: str,
    repetitions: int = 7,
) -> Benchmark:
    """Rates, things per second, of two functions that each do `count` things, run in turns; one run of each warms up."""
    times = [(seconds(ours), seconds(reference)) for _ in range(repetitions + 1)][1:]
    ratio = statistics.median(theirs / own for own, theirs in times)
    own, theirs = (count / statistics.median(column) for column in zip(*times, strict=True))
    return Benchmark(name, own, theirs, ratio, unit, repetitions)


def measure(name: str, ours: Callable[[], object], *, unit: str, repetitions: int = 7) -> Benchmark:
    """The median time of one function."""
    times = [seconds(ours) for _ in range(repetitions + 1)][1:]
    return Benchmark(name, statistics.median(times), None, None, unit, repetitions)


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started_s = time.perf_counter()
    function()
    return time.perf_counter() - started_s


def write(rows: list[Benchmark], path: Path) -> str:
    """bench.json, and the same as Markdown beside it, which is returned."""
    path.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    text = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g", missingval="–") + "\n"
    path.with_suffix(".md").write_text(text)
    return text
