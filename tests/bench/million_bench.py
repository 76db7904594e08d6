"""What a million slices take: headers read and known, and a manifest from the file to what a phase draws from."""

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pydicom
from measure import Benchmark, compare_rates, state
from synthetic_pairs import make_noise, write_series

from ltdiff.data.manifest import data_fingerprint, read_manifest, write_manifest
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.patches import make_loader
from ltdiff.dicom import header_index, header_scan
from ltdiff.dicom.header_index import HeaderIndex
from ltdiff.dicom.header_table import SCHEMA, STAMPS, Files, read_rows
from ltdiff.dicom.series import find_series
from ltdiff.system.resources import PeakMemory

NUM_FILES = 400
NUM_SERIES, SLICES_PER_SERIES = 10_000, 100
NUM_REPETITIONS = 3
Numbers = tuple[float, float]
"""Seconds, and MB at most."""


def benchmarks() -> list[Benchmark]:
    """Files a second, seconds and memory."""
    count = f"{NUM_SERIES * SLICES_PER_SERIES:,}"
    with TemporaryDirectory() as folder:
        rows = _compare_headers(Path(folder))
        rows += _in_own_process(find_known, Path(folder), f"series of {count} files whose headers are known")
        rows += _in_own_process(
            load_items, _write_manifest(Path(folder)), f"a manifest of {count} rows, read, checked and drawn from"
        )
    return rows


def _compare_headers(folder: Path) -> list[Benchmark]:
    """Reading headers beside pydicom, and knowing them beside reading them."""
    header_index.SETTLED_NS = 0
    archive = write_series(make_noise(NUM_FILES, 64), folder / "archive" / "series", kernel="B").parent
    paths = sorted(archive.rglob("*.dcm"))
    index = HeaderIndex(folder / "index")
    find_series(archive, index=index)

    def read() -> None:
        find_series(archive)

    def read_by_pydicom() -> None:
        for path in paths:
            pydicom.dcmread(path, stop_before_pixels=True)

    return [
        compare_rates(
            "series found by headers, one core, beside bare pydicom", read, read_by_pydicom, count=NUM_FILES, unit="files/s"
        ),
        compare_rates(
            "the same from the index, beside reading",
            lambda: find_series(archive, index=index),
            read,
            count=NUM_FILES,
            unit="files/s",
        ),
    ]


def _in_own_process(function: Callable[[Path], Numbers], path: Path, name: str) -> list[Benchmark]:
    """What one has imported and freed is no part of the next."""
    measured = []
    for _ in range(NUM_REPETITIONS):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            measured.append(pool.submit(function, path).result())
    seconds, megabytes = zip(*measured, strict=True)
    return [state(name, seconds, unit="s"), state(f"{name}: memory", megabytes, unit="MB at most")]


def find_known(folder: Path) -> Numbers:
    """Find series whose rows are made of those of a real one; only the listing of the files is spared."""
    root = folder / "million"
    for number in range(NUM_SERIES):
        (root / f"{number:05d}").mkdir(parents=True, exist_ok=True)
    index = HeaderIndex(folder / "index of a million")
    header_index.SETTLED_NS = 0
    if not index.folder.is_dir():
        with index:
            for number in range(NUM_SERIES):
                index.add(_rows_of_series(folder / "archive" / "series", number))
    files = pa.table(
        {name: _column(name) for name in ("path", *STAMPS)}, schema=pa.schema([SCHEMA.field(n) for n in ("path", *STAMPS)])
    )
    header_scan._list_files = lambda *_: files
    with PeakMemory() as memory:
        started_s = time.perf_counter()
        found, issues = find_series(root, index=index)
        seconds = time.perf_counter() - started_s
    assert (len(found), len(issues)) == (NUM_SERIES, 0)
    return seconds, memory.peak_bytes / 1e6


def _column(name: str) -> list[bytes] | list[int]:
    if name == "path":
        return [path for number in range(NUM_SERIES) for path in _paths(number)]
    return [1] * NUM_SERIES * SLICES_PER_SERIES


def _paths(number: int) -> list[bytes]:
    return [f"{number:05d}/slice_{index:04d}.dcm".encode() for index in range(SLICES_PER_SERIES)]


@cache
def _real_rows(folder: Path) -> list[dict[str, Any]]:
    names = [f"slice_{1 + index:04d}.dcm".encode() for index in range(SLICES_PER_SERIES)]
    return read_rows(Files(f"{folder}/", names)).to_pylist()


def _rows_of_series(folder: Path, number: int) -> pa.Table:
    rows, uid = _real_rows(folder), f"1.2.{number}"
    alike = json.loads(rows[0]["series"])
    alike[0][0], alike[0][2] = f"1.3.{number}", f"{number:012x}"  # study and patient
    new = {"series_instance_uid": uid, "series": json.dumps(alike), **dict.fromkeys(STAMPS, 1)}
    own = [
        row | new | {"path": path, "sop_instance_uid": f"{uid}.{place}"}
        for place, (row, path) in enumerate(zip(rows, _paths(number), strict=True))
    ]
    return pa.Table.from_pylist(own, SCHEMA)


def _write_manifest(folder: Path) -> Path:
    """Of patients with a source and a target series each."""
    number = np.arange(NUM_SERIES * SLICES_PER_SERIES)
    patient, role, place = number // (2 * SLICES_PER_SERIES), number // SLICES_PER_SERIES % 2, number % SLICES_PER_SERIES
    columns = {
        "path": [f"/archive/{p}/{r}/slice_{i}.dcm" for p, r, i in zip(patient, role, place, strict=True)],
        "series_uid": [f"1.2.{p}.{r}" for p, r in zip(patient, role, strict=True)],
        "patient": [f"{p:012x}" for p in patient],
        "pair_id": [f"{p:012x}-{i:04d}" for p, i in zip(patient, place, strict=True)],
        "role": np.where(role, "target", "source"),
        "kernel": np.where(role, "L", "B"),
        "z_mm": 2.5 * place,
    }
    alike = {"slice_index": 0, "manufacturer": "bench", "spacing_y_mm": 0.7, "spacing_x_mm": 0.7, "slice_thickness_mm": 2.5}
    manifest = pd.DataFrame(columns | alike | {"rows": 512, "columns": 512, "split": "train"})
    write_manifest(split_manifest(manifest, "patient:0.7"), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def load_items(manifest_path: Path) -> Numbers:
    """What a worker does before its first batch, but for reading slices."""
    with PeakMemory() as memory:
        started_s = time.perf_counter()
        manifest = read_manifest(manifest_path)
        data_fingerprint(manifest)
        for split in ("train", "val"):
            make_loader(manifest, split=split, pairs=True, patch_size=128, seed=0, match_kernel=lambda hu, _: hu)
        seconds = time.perf_counter() - started_s
    return seconds, memory.peak_bytes / 1e6
