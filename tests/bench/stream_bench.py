"""The input pipeline: warm epochs through Ray Data beside the same loader in a bare loop, and memory by number of files."""

import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from measure import Benchmark, compare_values
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless
from synthetic_pairs import multiply, write_pairs
from tiny_run import tiny_settings

from ltdiff.data.manifest import read_manifest
from ltdiff.data.patches import PATCHES_PER_SLICE, PatchLoader, make_loader, samples_per_block
from ltdiff.data.slice_cache import SliceCache
from ltdiff.data.stream import WorkerShard, make_stream
from ltdiff.system.ray_cluster import ray_session
from ltdiff.system.resources import PeakMemory, environment
from ltdiff.training.config import PhaseConfig
from ltdiff.training.fit_kernel_match import KernelMatcher, fit_kernel_match
from ltdiff.training.ray_driver import train_on_ray

NUM_SLICES, SIZE_PX = 48, 512
BATCH_SIZE, PATCH_PX = 8, 128
PER_BLOCK = samples_per_block(PATCH_PX)
COLD_VISITS, WARM_VISITS = PER_BLOCK, 12 * PER_BLOCK
"""Of 38 training slices with four samples each: more than one epoch, and twenty more."""
NUM_RATES = 5
SLOTS, DECODE_S, SIMULATED_S = (1, 2, 4, 8, 16), 0.06, 20.0
"""Logical CPUs of a stream whose decoder sleeps as long as one of JPEG 2000 takes: more than this machine has."""
FEW_FILES, MANY_FILES = 2_000, 20_000
NUM_STEPS, NUM_PEAKS = 400, 5


def benchmarks() -> list[Benchmark]:
    """Patches a second, and memory."""
    return [
        _compare_rates(),
        *(_compare_cache(syntax) for syntax in (None, JPEG2000Lossless)),
        *map(_simulate, SLOTS),
        _compare_peaks(),
    ]


def _compare_rates() -> Benchmark:
    with TemporaryDirectory() as folder, ray_session(num_cpus=2):
        manifest = read_manifest(write_pairs(Path(folder), num_slices=NUM_SLICES, size_px=SIZE_PX))
        match = KernelMatcher(fit_kernel_match(manifest))
        loader = make_loader(
            manifest, split="train", pairs=True, patch_size=PATCH_PX, seed=0, match_kernel=match, keep_slices=False
        )
        rates = [(_stream_rate(loader), _bare_rate(loader)) for _ in range(NUM_RATES)]
    name = f"patches of {PATCH_PX}² from {SIZE_PX}² slices, warm epochs through Ray Data beside a bare loop, one core"
    return compare_values(name, *zip(*rates, strict=True), unit="patches/s")


def _compare_cache(syntax: str | None) -> Benchmark:
    """Of slices on the local disk, decoded and matched before, beside those of files that are decoded and matched anew."""
    with TemporaryDirectory() as folder, environment({"LTDIFF_CACHE": str(Path(folder) / "cache")}):
        manifest = read_manifest(write_pairs(Path(folder), num_slices=NUM_SLICES, size_px=SIZE_PX))
        for path in manifest["path"] if syntax else ():
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
        match = KernelMatcher(fit_kernel_match(manifest))
        decoding = make_loader(manifest, split="train", pairs=True, patch_size=PATCH_PX, seed=0, match_kernel=match)
        keeping = replace(decoding, cache=SliceCache.of(manifest, match=match.digest))
        _bare_rate(keeping)
        rates = [(_bare_rate(keeping), _bare_rate(decoding)) for _ in range(NUM_RATES)]
    name = f"patches of {'JPEG 2000' if syntax else 'uncompressed'} slices, from the slice cache beside decoded anew, one core"
    return compare_values(name, *zip(*rates, strict=True), unit="patches/s")


@dataclass(frozen=True)
class _SleepingLoader:
    """Takes as long as a decoder, and needs no core."""

    patch_size: int = PATCH_PX

    def __call__(self, block: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int16]]:
        time.sleep(DECODE_S * len(block["id"]) / PATCHES_PER_SLICE)
        return {name: np.zeros((len(block["id"]), PATCH_PX, PATCH_PX), np.int16) for name in ("source", "target", "y_mm", "x_mm")}


def _simulate(num_cpus: int) -> Benchmark:
    """What one stream hands out, beside what so many cores could decode."""
    ideal, warm_up = num_cpus * PATCHES_PER_SLICE / DECODE_S, 2 * num_cpus * PER_BLOCK
    with ray_session(num_cpus=num_cpus + 2):
        stream = make_stream(_SleepingLoader(), WorkerShard(BATCH_SIZE), num_samples=1_000_000, num_cpus=num_cpus)
        for number, _ in enumerate(stream.iter_torch_batches(batch_size=BATCH_SIZE), start=1):
            if number * BATCH_SIZE == warm_up:
                started_s = time.perf_counter()
            elif number * BATCH_SIZE > warm_up and (elapsed_s := time.perf_counter() - started_s) > SIMULATED_S:
                break
    rate = (number * BATCH_SIZE - warm_up) / elapsed_s
    return compare_values(f"patches of one stream with {num_cpus} decoders that sleep", [rate], [ideal], unit="patches/s")


def _stream_rate(loader: PatchLoader) -> float:
    """Of a consumer that does nothing else."""
    stream = make_stream(loader, WorkerShard(BATCH_SIZE), num_samples=COLD_VISITS + WARM_VISITS)
    for number, _ in enumerate(stream.iter_torch_batches(batch_size=BATCH_SIZE), start=1):
        if number * BATCH_SIZE == COLD_VISITS:
            started_s = time.perf_counter()
    return WARM_VISITS / (time.perf_counter() - started_s)


def _bare_rate(loader: PatchLoader) -> float:
    """By the same blocks."""
    started_s = time.perf_counter()
    for samples in np.arange(COLD_VISITS, COLD_VISITS + WARM_VISITS).reshape(-1, PER_BLOCK):
        loader({"id": samples})
    return WARM_VISITS / (time.perf_counter() - started_s)


def _compare_peaks() -> Benchmark:
    peaks = []
    for _ in range(NUM_PEAKS):
        # A process of its own for each: what one has imported and freed is no part of the next.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            peaks.append([pool.submit(_peak_mb, num_files).result() for num_files in (MANY_FILES, FEW_FILES)])
    name = f"{NUM_STEPS} training steps of a tiny network on {MANY_FILES:,} DICOM files beside {FEW_FILES:,}"
    return compare_values(name, *zip(*peaks, strict=True), unit="MB at most")


def _peak_mb(num_files: int) -> float:
    """Of a training with all its Ray processes."""
    phases = {"autoencoder": PhaseConfig(0), "ddpm": PhaseConfig(NUM_STEPS), "joint": PhaseConfig(0)}
    settings = tiny_settings(patch_size=32, batch_size_per_worker=BATCH_SIZE, checkpoint_every_steps=NUM_STEPS, **phases)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        few = read_manifest(write_pairs(folder, num_slices=50, size_px=64))
        pairs = multiply(few, folder / "many", num_files=num_files)
        with PeakMemory() as memory:
            train_on_ray(["ddpm"], manifest_path=pairs, out=folder / "run", settings=settings)
    return memory.peak_bytes / 1e6
