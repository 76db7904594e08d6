"""LTDiff++ beside a residual CNN on simulated pairs whose source was noise-reduced, or not: a table of all settings.

    python tests/bench/noise_reduced_pairs.py OUT [--minutes 8] [--seeds 0,1,2] [--only total_variation,fbp_near]

Each setting: six patients, of which four train, one validates and one is scored; the source of every slice is the target's
raw data, with another kernel and its noise taken away. Each method trains for as long on one core. OUT/table.md is written
anew after each setting; the same command goes on where it was stopped.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pydicom
import torch
from method_table import compare, make_table
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from ltdiff.data.manifest import write_manifest
from ltdiff.data.pairing import pair_archive
from ltdiff.model.blocks import ResidualBlock
from ltdiff.physics.noise_reduction import diffuse, smooth_total_variation
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.dataset import SOURCE_NAME, simulate
from ltdiff.simulation.reconstruction import scan_patient

Image = NDArray[np.float32]
Denoise = Callable[[Image], Image]
"""A slice (Y, X) in HU → the same with less noise."""
BASE = SimulationConfig(num_patients=6, num_slices=12, num_lesions=4)
DENOISER_SEED, DENOISER_STEPS = 1000, 300
METHODS = "source,linear,residual_cnn,ltdiff"


@dataclass(frozen=True)
class Setting:
    """Kernels and dose of the scans, and what was done to the source."""

    config: SimulationConfig
    denoise: Denoise | None = None


def average_similar_patches(hu: Image, *, strength_hu: float, reach_px: int = 4) -> Image:
    """Non-local means (Buades 2005): patches of 5 × 5 pixels, compared within `reach_px`."""
    total, weights = np.zeros_like(hu), np.zeros_like(hu)
    for shift in np.ndindex(2 * reach_px + 1, 2 * reach_px + 1):
        other = np.roll(hu, (shift[0] - reach_px, shift[1] - reach_px), axis=(0, 1))
        weight = np.exp(-ndimage.uniform_filter((other - hu) ** 2, size=5) / strength_hu**2)
        total += weight * other
        weights += weight
    return np.asarray(total / weights, np.float32)


class TrainedDenoiser:
    """A small network that learned to take the noise of another scan's kernel and dose away: deep-learning reconstruction's
    stand-in. It is trained on a patient that no setting has: the image of a dose, against that of twelve times the dose.
    """

    def __init__(self, config: SimulationConfig) -> None:
        torch.manual_seed(0)
        layers = (
            torch.nn.Conv2d(1, 24, 3, padding=1),
            ResidualBlock(24),
            ResidualBlock(24),
            torch.nn.Conv2d(24, 1, 3, padding=1),
        )
        self.network = torch.nn.Sequential(*layers)
        own = replace(config, num_patients=1, num_slices=4, num_lesions=4, seed=DENOISER_SEED)
        noisy, clean = (
            torch.from_numpy(scan_patient(replace(own, doses=(dose,)), 0).source_hu)[:, None] / 100
            for dose in (config.doses[0], 12 * config.doses[0])
        )
        optimizer, random = torch.optim.Adam(self.network.parameters(), 1e-3), np.random.default_rng(0)
        for _ in range(DENOISER_STEPS):
            y, x = random.integers(0, noisy.shape[-1] - 96, 2)
            patch, goal = (image[:, :, y : y + 96, x : x + 96] for image in (noisy, clean))
            optimizer.zero_grad()
            functional.l1_loss(patch + self.network(patch), goal).backward()
            optimizer.step()

    @torch.no_grad()
    def __call__(self, hu: Image) -> Image:
        """(Y, X) in HU."""
        x = torch.from_numpy(hu)[None, None] / 100
        return np.asarray(100 * (x + self.network(x))[0, 0], np.float32)


@lru_cache
def train_denoiser(config: SimulationConfig) -> TrainedDenoiser:
    """Train one, once."""
    return TrainedDenoiser(config)


def settings(seed: int) -> dict[str, Setting]:
    """By name; every one with another dose than its neighbours."""

    def make(dose: float, source: str = "smooth", denoise: Denoise | None = None) -> Setting:
        return Setting(replace(BASE, seed=seed, doses=(dose,), source_kernel=source), denoise)

    def iterative(num_iterations: int, edge_hu: float) -> Denoise:
        return partial(diffuse, num_steps=num_iterations, edge_hu=edge_hu)

    learned = make(0.06, "standard")
    return {
        "fbp_near": make(0.08, "standard"),
        "fbp_far": make(0.05),
        "iterative_weak": make(0.08, denoise=iterative(2, 40.0)),
        "iterative_medium": make(0.06, denoise=iterative(5, 40.0)),
        "iterative_strong": make(0.05, denoise=iterative(6, 60.0)),
        "non_local_means": make(0.08, "standard", partial(average_similar_patches, strength_hu=40.0)),
        "total_variation": make(0.06, "standard", partial(smooth_total_variation, weight_hu=25.0, num_iterations=40)),
        "learned": replace(learned, denoise=lambda hu: train_denoiser(learned.config)(hu)),
    }


def reduce_series(folder: Path, denoise: Denoise) -> None:
    """Take the noise out of every slice of a simulated series."""
    for path in sorted(folder.glob("*.dcm")):
        slice_ = pydicom.dcmread(path)
        hu = slice_.pixel_array * np.float32(slice_.RescaleSlope) + np.float32(slice_.RescaleIntercept)
        is_scanned = hu > hu.min()  # outside the scan field stays what it is
        reduced = np.where(is_scanned, denoise(hu), hu)
        stored = np.rint((reduced - float(slice_.RescaleIntercept)) / float(slice_.RescaleSlope))
        info = np.iinfo(slice_.pixel_array.dtype)
        slice_.PixelData = np.clip(stored, info.min, info.max).astype(slice_.pixel_array.dtype).tobytes()
        slice_.save_as(path)


def make_pairs(setting: Setting, folder: Path) -> Path:
    """Simulate a setting's patients, once; the manifest of their pairs."""
    manifest = folder / "pairs.parquet"
    if not manifest.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for patient in simulate(folder / "scans", config=setting.config):
            if setting.denoise is not None:
                reduce_series(patient / SOURCE_NAME, setting.denoise)
        target = setting.config.target_kernel
        write_manifest(pair_archive(folder / "scans", target_kernel=target, split="patient:0.67").manifest, manifest)
    return manifest


def run(name: str, seed: int, minutes: float, folder: Path) -> Path:
    """Make the pairs of a setting and compare the methods on them."""
    pairs = make_pairs(settings(seed)[name], folder)
    return compare([pairs, "--methods", METHODS], folder / "comparison", minutes=minutes, seed=seed)


if __name__ == "__main__":
    make_table(__doc__, names=settings(0), seeds="0,1,2", run=run)
