"""A training run so small that it takes seconds: a few slice pairs in volume files, and settings to match."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from ltdiff.data.manifest import write_manifest
from ltdiff.data.training_domain import TrainingDomain
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume
from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.model.config import AutoencoderConfig, DenoiserConfig, ModelConfig, ResidualFlowConfig
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.training import loop, worker_context
from ltdiff.training.config import LossConfig, PhaseConfig, Settings, TrainingConfig

SPACING_MM = (5.0, 0.8, 0.7)  # z, y, x
SPLITS = ("train", "train", "train", "train", "val", "test")


def tiny_settings(*, num_steps: int = 4, kappa: float = 0.1, process: str = "bridge", **training) -> Settings:
    """Settings of a network with some thousand weights; `training` goes to TrainingConfig."""
    phases = {name: PhaseConfig(num_steps=num_steps) for name in ("autoencoder", "ddpm", "joint")} | {"residual": PhaseConfig(0)}
    tiny = TrainingConfig(patch_size=16, batch_size_per_worker=2, precision="fp32", checkpoint_every_steps=2, **phases)
    return Settings(
        model=ModelConfig(
            autoencoder=AutoencoderConfig(channels=(8, 8), latent_channels=(4, 4), image_latent=False),
            denoiser=DenoiserConfig(channels=(8, 8), num_blocks=1, embedding_size=8),
            residual_flow=ResidualFlowConfig(channels=8, num_blocks=1, embedding_size=8),
        ),
        diffusion=DiffusionConfig(process=process, kappa=kappa),
        loss=LossConfig(supervision_weights=(1.0,), decode="residual"),
        training=replace(tiny, **training),
    )


def save_tiny_model(folder: Path, *, source_kernel: str, target_kernel: str, facts: Mapping[str, Any] | None = None) -> Path:
    """An untrained model, described as if it had been trained on pairs of these kernels; `facts` say more of it."""
    settings = tiny_settings()
    about = {
        "version": "0.0.1",
        "settings": json.loads(json.dumps(asdict(settings))),
        "training_domain": TrainingDomain(source_kernels=(source_kernel,), target_kernels=(target_kernel,)).to_dict(),
        "trained": {},
    }
    save_model(LTDiff(settings.model), folder, about=about | dict(facts or {}))
    return folder


def make_volumes(num_slices: int = len(SPLITS), size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """(source, target) in whole HU, (Z, Y, X): smooth structure with noise, and the same blurred."""
    rng = np.random.default_rng(0)
    structure = ndimage.gaussian_filter(rng.normal(0, 4000, (num_slices, size, size)), (0, 5, 5))
    target = -600 + structure + rng.normal(0, 60, structure.shape)
    return np.round(ndimage.gaussian_filter(target, (0, 1, 1))), np.round(target)


def save_volume(hu: np.ndarray, path: Path, *, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Path:
    """Write (Z, Y, X) as a volume file."""
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    write_volume(Volume(hu.astype(np.float32), spacing_mm, (0.0, 0.0, 0.0), axes), path)
    return path


def make_rows(path: Path, *, shape: tuple[int, int, int], role: str, splits: tuple[str, ...] = SPLITS) -> pd.DataFrame:
    """Manifest rows of a volume file; slices of the same number are paired unless their role is `other`."""
    numbers = range(shape[0])
    return pd.DataFrame(
        {
            "path": str(path),
            "slice_index": numbers,
            "series_uid": path.name,
            "patient": "0123456789ab",
            "role": role,
            "pair_id": [None if role == "other" else f"pair {k}" for k in numbers],
            "kernel": {"source": "soft", "target": "sharp", "other": "middle"}[role],
            "manufacturer": "Maker",
            "z_mm": [5.0 * k for k in numbers],
            "spacing_y_mm": SPACING_MM[1],
            "spacing_x_mm": SPACING_MM[2],
            "slice_thickness_mm": 5.0,
            "rows": shape[1],
            "columns": shape[2],
            "split": splits[: shape[0]],
        }
    )


def write_pairs(folder: Path, *, volumes: tuple[np.ndarray, np.ndarray] | None = None) -> Path:
    """Write a source and a target volume and their manifest; returns the manifest's path."""
    source, target = volumes or make_volumes()
    rows = [
        make_rows(save_volume(hu, folder / f"{role}.nrrd"), shape=hu.shape, role=role)
        for role, hu in (("source", source), ("target", target))
    ]
    write_manifest(pd.concat(rows), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def write_unpaired(
    folder: Path,
    *,
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    split: str = "test",
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Path:
    """Write volumes (Z, Y, X) of patients who are all others, and their manifest without pairs; returns its path."""
    rows = []
    for role, volumes in (("source", sources), ("target", targets)):
        for number, hu in enumerate(volumes):
            path = save_volume(hu, folder / f"{role}_{number}.nrrd", spacing_mm=spacing_mm)
            of_volume = make_rows(path, shape=hu.shape, role=role, splits=(split,) * len(hu))
            rows.append(
                of_volume.assign(pair_id=None, patient=f"{role} {number}", spacing_y_mm=spacing_mm[1], spacing_x_mm=spacing_mm[2])
            )
    write_manifest(pd.concat(rows), folder / "unpaired.parquet")
    return folder / "unpaired.parquet"


@pytest.fixture(scope="module", autouse=True)
def few_validation_patches() -> Iterator[None]:
    """For modules that import it: else a validation takes longer than the few steps before it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, worker_context):
            patch.setattr(module, "NUM_VALIDATION_PATCHES", 4)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For modules that import it: threads that share too few cores wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
