"""Standardizing an archive of DICOM series beside the bare model on the same slices in memory, as many at a time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from measure import Benchmark, compare_values, seconds, state
from standardize_bench import save_random_model
from synthetic_pairs import SPACING_MM, make_noise, write_series

from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.system.resources import keep_freed_memory

NUM_SERIES, NUM_SLICES, SIZE_PX = 4, 50, 512
REPETITIONS = 5
NUM_THREADS = 2


class Run(NamedTuple):
    """Seconds that a command took, and those of them in which its worker had a series in hand."""

    all_s: float
    series_s: float


def benchmarks() -> list[Benchmark]:
    """Slices a second of the whole command, and without what Ray takes to start and to end."""
    keep_freed_memory()  # as the workers do
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = save_random_model(folder / "model")
        hu = make_noise(NUM_SLICES, SIZE_PX)
        for number in range(NUM_SERIES):
            write_series(hu, folder / "archive" / f"series {number}", kernel="B")
        standardizer = Standardizer.load(model, InferenceConfig())
        runs, bare = [], []
        for repetition in range(REPETITIONS):
            runs.append(_run(folder / "archive", model=model, out=folder / f"out {repetition}"))
            bare.append(seconds(lambda: _standardize(standardizer, hu)))
    num = NUM_SERIES * NUM_SLICES
    name = f"{num} DICOM slices of {SIZE_PX} × {SIZE_PX} beside the bare model"
    rates = [num / one_s for one_s in bare]
    return [
        compare_values(f"{name}, whole command", [num / run.all_s for run in runs], rates, unit="slices/s"),
        compare_values(f"{name}, without Ray's start", [num / run.series_s for run in runs], rates, unit="slices/s"),
        state("start and end of the command", [run.all_s - run.series_s for run in runs], unit="s"),
    ]


def _run(archive: Path, *, model: Path, out: Path) -> Run:
    outcomes = []
    all_s = seconds(lambda: outcomes.extend(standardize_archive(archive, model=model, out=out)))
    assert [outcome.status for outcome in outcomes] == ["written"] * NUM_SERIES, outcomes
    return Run(all_s, sum(outcome.seconds for outcome in outcomes))


def _standardize(standardizer: Standardizer, hu: np.ndarray) -> None:
    """The same slices for each series, with one thread for each that is in hand."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for _ in range(NUM_SERIES):
            list(pool.map(lambda i: standardizer.standardize(hu[i : i + 1], SPACING_MM[1:], first_slice=i), range(len(hu))))
