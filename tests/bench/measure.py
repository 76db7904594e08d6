"""Timing two ways of doing the same in turns, and writing the table of all benchmarks."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

Clock = Callable[[], float]


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
    clock: Clock = time.perf_counter,
) -> Benchmark:
    """Rates, things per second, of two functions that each do `count` things, run in turns; one run of each warms up."""
    rates = [(count / seconds(ours, clock), count / seconds(reference, clock)) for _ in range(repetitions + 1)][1:]
    return compare_values(name, *zip(*rates, strict=True), unit=unit)


def compare_values(name: str, ours: Sequence[float], reference: Sequence[float], *, unit: str) -> Benchmark:
    """One row from what was measured in turns, ours first."""
    ratio = statistics.median(own / theirs for own, theirs in zip(ours, reference, strict=True))
    return Benchmark(name, statistics.median(ours), statistics.median(reference), ratio, unit, len(ours))


def state(name: str, values: Sequence[float], *, unit: str) -> Benchmark:
    """One row of what has nothing beside it."""
    return Benchmark(name, statistics.median(values), None, None, unit, len(values))


def measure(
    name: str, ours: Callable[[], object], *, unit: str, repetitions: int = 7, clock: Clock = time.perf_counter
) -> Benchmark:
    """The median time of one function."""
    times = [seconds(ours, clock) for _ in range(repetitions + 1)][1:]
    return Benchmark(name, statistics.median(times), None, None, unit, repetitions)


def seconds(function: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call: that of the wall or, with `time.process_time`, of the processor."""
    started_s = clock()
    function()
    return clock() - started_s


def write(rows: list[Benchmark], path: Path) -> str:
    """bench.json, and the same as Markdown beside it, which is returned."""
    path.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    text = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g", missingval="–") + "\n"
    path.with_suffix(".md").write_text(text)
    return text
