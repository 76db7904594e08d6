"""Standardizing: seconds a slice as an archive is done, each step more, and what the whole command holds in memory."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measure import Benchmark, measure

from ltdiff.data.training_domain import TrainingDomain
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.system.resources import PeakMemory
from ltdiff.training.config import Settings

NUM_SLICES, SIZE_PX = 8, 512
IN_PLANE_MM = (0.8, 0.8)
AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def save_random_model(folder: Path) -> Path:
    """The default networks for kernel B; weights drawn at random take as long as trained ones."""
    settings = Settings()
    about = {"version": "0", "settings": json.loads(json.dumps(asdict(settings))), "trained": {}}
    about["training_domain"] = TrainingDomain(source_kernels=("B",), target_kernels=("L",)).to_dict()
    save_model(LTDiff(settings.model), folder, about=about)
    return folder


def benchmarks() -> list[Benchmark]:
    """Seconds and memory."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_random_model(folder / "model")
        hu = np.random.default_rng(0).normal(-300, 300, (NUM_SLICES, SIZE_PX, SIZE_PX)).round().astype(np.float32)
        rows = [_time_slices(folder / "model", hu, num_steps=num_steps) for num_steps in (1, 2, 4)]
        write_volume(Volume(hu, (5.0, *IN_PLANE_MM), (0.0, 0.0, 0.0), AXES), folder / "scan.mha")
        with PeakMemory() as memory:
            (outcome,) = standardize_archive(
                folder / "scan.mha", model=folder / "model", out=folder / "out", inference=InferenceConfig()
            )
        assert outcome.status == "written", outcome.reason
        name = f"ltdiff standardize, {NUM_SLICES} slices, its Ray processes and this one"
        return [*rows, Benchmark(name, memory.peak_bytes / 1e6, None, None, "MB at most", 1)]


def _time_slices(model: Path, hu: np.ndarray, *, num_steps: int) -> Benchmark:
    """Two slices at a time, a thread each."""
    torch.set_num_threads(1)
    standardizer = Standardizer.load(model, InferenceConfig(num_inference_steps=num_steps))

    def run() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: standardizer.standardize(hu[i : i + 1], IN_PLANE_MM), range(NUM_SLICES)))

    name = f"a {SIZE_PX} × {SIZE_PX} slice, {num_steps} step{'s' * (num_steps > 1)}, {standardizer.precision}"
    all_slices = measure(name, run, unit="s", repetitions=3)
    return all_slices._replace(ours=all_slices.ours / NUM_SLICES)
