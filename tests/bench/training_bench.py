"""Training: the default networks under Ray Train beside the same loop under torchrun, with as many threads for each worker."""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import bare_training
from bare_training import GLOBAL_BATCH_SIZE, NUM_STEPS, PHASE, settings_for
from measure import Benchmark, compare_values, state
from synthetic_pairs import write_pairs

from ltdiff.data.manifest import read_manifest
from ltdiff.system.ray_cluster import ray_session
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, META_FILE
from ltdiff.training.ray_driver import num_cpus_needed, train_on_ray
from ltdiff.training.run import METRICS_FILE, START_FOLDER, prepare_run

NUM_SLICES, SIZE_PX = 48, 512
REPETITIONS = 5
"""Two minutes each."""


class Run(NamedTuple):
    """What a training took; the loop itself has counted the steps of the second half, and how long these waited."""

    steps_per_s: float
    wait_share: float
    startup_s: float
    """From the call to the first batch."""


def benchmarks() -> list[Benchmark]:
    """Rates of one and of two workers, how long each takes to start, and how long it waits for data."""
    with TemporaryDirectory() as temporary, ray_session(num_cpus=num_cpus_needed(settings_for(2)), dashboard=True):
        pairs = write_pairs(Path(temporary), num_slices=NUM_SLICES, size_px=SIZE_PX)
        return [row for num_workers in (1, 2) for row in _compare(pairs, num_workers=num_workers)]


def _compare(pairs: Path, *, num_workers: int) -> list[Benchmark]:
    ours, reference = [], []
    for repetition in range(REPETITIONS):
        out = pairs.parent / f"{num_workers} {repetition}"
        prepare_run(read_manifest(pairs), out=out, settings=settings_for(num_workers))
        ours.append(_train_on_ray(pairs, out, num_workers=num_workers))
        reference.append(_train_with_torchrun(pairs, out, num_workers=num_workers))
    workers = f"{num_workers} worker{'s' * (num_workers > 1)}"
    (rates, waits, startups), (bare_rates, _, bare_startups) = (zip(*runs, strict=True) for runs in (ours, reference))
    training = f"{NUM_STEPS // 2} steps of phase {PHASE}, {GLOBAL_BATCH_SIZE} patches, {workers}"
    return [
        compare_values(f"{training}, Ray Train beside torchrun", rates, bare_rates, unit="steps/s"),
        state(f"shard of that time in which Ray Train waits for data, {workers}", waits, unit=""),
        compare_values(f"start until the first batch, {workers}, beside torchrun", startups, bare_startups, unit="s"),
    ]


def _train_on_ray(pairs: Path, out: Path, *, num_workers: int) -> Run:
    called_s = time.time()
    train_on_ray([PHASE], manifest_path=pairs, out=out, settings=settings_for(num_workers))
    return _read_run(out / PHASE, called_s=called_s)


def _train_with_torchrun(pairs: Path, out: Path, *, num_workers: int) -> Run:
    bare = out / "bare"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_workers}"]
    called_s = time.time()
    subprocess.run([*command, bare_training.__file__, pairs, out / START_FOLDER, bare, str(num_workers)], check=True)
    return _read_run(bare, called_s=called_s)


def _read_run(folder: Path, *, called_s: float) -> Run:
    """From what a phase leaves: its metrics, and a checkpoint that knows how long ago the first batch came."""
    metrics = json.loads((folder / METRICS_FILE).read_text().splitlines()[-1])
    meta = max(folder.glob(f"{CHECKPOINTS_FOLDER}/*/{META_FILE}"))
    first_batch_s = meta.stat().st_mtime - json.loads(meta.read_text())["elapsed_s"]
    return Run(metrics["steps_per_s"], metrics["wait_share"], first_batch_s - called_s)
