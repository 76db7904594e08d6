"""The command of the job that trains the pretrained weights of the package, on simulated scans of all kinds.

out/scans/scan_0000/source.mha  matched sources Ã and targets B of a few slices of one scan, in whole HU
out/pairs.parquet               all of them
out/training/                   the training, a run that resumes
out/ltdiff.safetensors          the pretrained weights
"""

from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ltdiff.data.manifest import write_manifest
from ltdiff.data.pairing import pair_named
from ltdiff.data.volume_files import write_hu
from ltdiff.simulation.continuum import scan_continuum
from ltdiff.system.atomic_files import complete_folder, remove_partial_folders
from ltdiff.system.processes import OwnProcesses
from ltdiff.system.progress import progress
from ltdiff.system.resources import num_cores
from ltdiff.training.config import PhaseConfig, Settings, TrainingConfig
from ltdiff.training.fit_kernel_match import match_scan
from ltdiff.training.phase_training import train_here
from ltdiff.training.pretrained_weights import write_pretrained_weights

VALIDATION_SCANS = 12
"""Every so manyth scan validates."""
LEARNING_RATE = 1e-3
WEIGHTS_FILE = "ltdiff.safetensors"


def pretrain(*, out: Path, num_scans: int = 192, slices_per_scan: int = 4, minutes: float = 20.0, seed: int = 0) -> int:
    """Train the pretrained weights on simulated scans of all kinds.

    Run it again to resume.

    Args:
        out: Folder for scans, training and weights.
        num_scans: Simulated scans, each of another patient with other kernels, dose, thickness and field of view.
        slices_per_scan: Slice pairs of each.
        minutes: Training time.
        seed: Seed of scans and training.
    """
    manifest = _manifest(_simulate(out / "scans", num_scans=num_scans, slices_per_scan=slices_per_scan, seed=seed))
    write_manifest(manifest, out / "pairs.parquet")
    training = TrainingConfig(minutes=minutes, learning_rates=(LEARNING_RATE,), residual=PhaseConfig(0), seed=seed)
    settings = Settings(training=training)
    autoencoder = replace(settings.model.autoencoder, refinement_channels=0)  # not among the pretrained weights
    settings = replace(settings, model=replace(settings.model, kernel_match=False, autoencoder=autoencoder))
    torch.set_num_threads(num_cores())
    weights = out / WEIGHTS_FILE
    write_pretrained_weights(train_here(manifest, out=out / "training", settings=settings), weights)
    print(f"pretrained weights: {weights}")
    return 0


def _simulate(folder: Path, *, num_scans: int, slices_per_scan: int, seed: int) -> list[Path]:
    """The folders of all scans; those that are missing are simulated, one process per core."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_folders(folder)
    scans = [folder / f"scan_{number:04d}" for number in range(num_scans)]
    missing = [number for number, scan in enumerate(scans) if not scan.exists()]
    with OwnProcesses(num_cores()) as pool:
        futures = [pool.submit(_write_scan, scans[number], number, slices_per_scan, seed) for number in missing]
        for future in progress(as_completed(futures), name="simulate", unit="scan", total=len(missing)):
            future.result()
    return scans


def _write_scan(folder: Path, number: int, num_slices: int, seed: int) -> None:
    """Simulate a scan, match its kernels, and write both volumes; the slices are not adjacent."""
    scan = scan_continuum(number, num_slices=num_slices, seed=seed)
    matched = match_scan(scan.source_hu, scan.target_hu, spacing_mm=scan.spacing_mm)
    with complete_folder(folder) as growing:
        for name, hu in (("source", matched), ("target", scan.target_hu)):
            spacing_mm = (scan.config.thickness_mm(0), *scan.spacing_mm)
            write_hu(hu, growing / f"{name}.mha", spacing_mm=spacing_mm)


def _manifest(scans: list[Path]) -> pd.DataFrame:
    """One manifest of all scans; every `VALIDATION_SCANS`-th validates."""
    parts = []
    for number, scan in enumerate(progress(scans, name="pairs", unit="scan")):
        part = pair_named(scan / "source.mha", scan / "target.mha", split="z:1").manifest
        parts.append(part.assign(split="val" if number % VALIDATION_SCANS == 0 else "train"))
    return pd.concat(parts, ignore_index=True)
