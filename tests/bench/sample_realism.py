"""How much the samples of a model are like the targets: a classifier, spectra, kurtosis and the likeness of neighbours.

    python tests/bench/sample_realism.py PAIRS --model MODEL

For the residual flow and for Gaussian noise with the residual's spectrum. The classifier, a small network, learns from patches of
the training and validation pairs to tell sample from target; its AUC is that of the pairs of split `test`: .5 if it cannot.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from ltdiff.data.manifest import read_manifest
from ltdiff.data.slice_pairs import ValidationPair, find_neighbours, read_validation_pairs
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.physics.spectrum import half_overlapping_windows, radial_frequency, tapered_power

PATCH_PX, BATCH_SIZE, NUM_STEPS = 48, 16, 1500
WINDOW_PX, NUM_FREQUENCIES = 32, 12
LUNG_HU, SOFT_HU = (-950.0, -700.0), (-50.0, 150.0)
EDGE_HU = 60.0
"""Least roughness of A' that counts as an edge."""
Images = list[NDArray[np.float32]]


def classifier() -> nn.Module:
    """Patches (B, 1, PATCH_PX, PATCH_PX) → logits (B, 1)."""
    layers: list[nn.Module] = []
    for a, b in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1))


def patches(images: Images, places: Sequence[tuple[int, int, int]]) -> Tensor:
    """Patches at (image, top, left), of about unit size."""
    cut = [images[i][y : y + PATCH_PX, x : x + PATCH_PX] for i, y, x in places]
    return torch.from_numpy(np.stack(cut))[:, None].clamp(-1000, 400) / 200


def body_places(images: Images, random: np.random.Generator, num: int) -> list[tuple[int, int, int]]:
    """Places of patches that show little air outside."""
    places: list[tuple[int, int, int]] = []
    while len(places) < num:
        i = int(random.integers(len(images)))
        y, x = (int(random.integers(side - PATCH_PX)) for side in images[i].shape)
        if (images[i][y : y + PATCH_PX, x : x + PATCH_PX] > -950).mean() > 0.7:
            places.append((i, y, x))
    return places


def auc(trained: tuple[Images, Images], tested: tuple[Images, Images]) -> float:
    """AUC of telling the second of each pair of image lists, samples, from the first, targets."""
    torch.manual_seed(0)
    random, network = np.random.default_rng(0), classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for step in range(NUM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / NUM_STEPS)
        x = torch.cat([patches(images, body_places(trained[0], random, BATCH_SIZE)) for images in trained])
        x = torch.rot90(x, int(random.integers(4)), (2, 3))
        y = torch.arange(2).repeat_interleave(BATCH_SIZE)[:, None].float()
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(network(x), y).backward()
        optimizer.step()
    places = body_places(tested[0], random, 400)
    with torch.inference_mode():
        logits = torch.cat([network(patches(images, places)) for images in tested])
    return float(roc_auc_score(np.repeat([0, 1], len(places)), logits[:, 0].numpy()))


def tissue_spectra(images: Images, means: Images) -> dict[str, NDArray[np.float64]]:
    """Power by frequency of B − A' or sample − A', in windows that are mostly of one kind."""
    sums: dict[str, list[NDArray[np.float64]]] = {"lung": [], "soft tissue": [], "edges": []}
    for image, mean in zip(images, means, strict=True):
        smooth = ndimage.uniform_filter(mean, 5)
        rough = np.sqrt(np.maximum(ndimage.uniform_filter(mean**2, 5) - smooth**2, 0))
        residual = half_overlapping_windows(image - mean, (WINDOW_PX, WINDOW_PX))
        power = tapered_power(residual - residual.mean(axis=(1, 2), keepdims=True))
        kinds = {
            "lung": (smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1]) & (rough < EDGE_HU),
            "soft tissue": (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]) & (rough < EDGE_HU),
            "edges": rough > 2 * EDGE_HU,
        }
        for name, is_kind in kinds.items():
            share = half_overlapping_windows(is_kind.astype(np.float64), (WINDOW_PX, WINDOW_PX)).mean(axis=(1, 2))
            sums[name] += list(power[share > (0.3 if name == "edges" else 0.8)])
    bins = np.rint(radial_frequency((WINDOW_PX, WINDOW_PX)) / np.sqrt(0.5) * (NUM_FREQUENCIES - 1)).astype(int).ravel()
    counts = np.bincount(bins)
    return {
        name: np.bincount(bins, np.mean(powers, axis=0).ravel()) / counts if powers else np.full(NUM_FREQUENCIES, np.nan)
        for name, powers in sums.items()
    }


def kurtosis(residuals: Images) -> float:
    """Mean kurtosis, cut at 8 σ: 3 for Gaussian noise."""
    cut = [np.clip(one, -8, 8) for one in residuals]
    return float(np.mean([np.mean(one**4) / np.mean(one**2) ** 2 for one in cut]))


def correlation(residuals: Images, pairs: Sequence[ValidationPair]) -> float:
    """Mean correlation of the residuals of slices that follow each other."""
    neighbours = find_neighbours(pair.place for pair in pairs)
    values = [
        np.corrcoef(np.clip(residuals[i], -4, 4).ravel(), np.clip(residuals[j], -4, 4).ravel())[0, 1] for i, j in neighbours
    ]
    return float(np.mean(values)) if values else float("nan")


def main() -> None:
    """Print one row for each kind of sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    manifest = read_manifest(options.pairs)
    mean_of = Standardizer.load(options.model, InferenceConfig(output="mean"))
    residual = mean_of.procedure.residual
    if residual is None or residual.flow is None or not residual.flow.gain:
        raise SystemExit(f"{options.model} does not draw by its flow")
    gaussian = replace(residual, flow=replace(residual.flow, gain=()))
    samplers = {name: mean_of.used_otherwise(residual=one) for name, one in {"flow": residual, "Gaussian": gaussian}.items()}
    pairs = {
        split: read_validation_pairs(manifest, split=split, at_most=48, purpose="the comparison")
        for split in ("train", "val", "test")
    }
    means = {
        split: [mean_of.standardize(pair.source_hu[None], pair.spacing_mm, first_slice=pair.place[1])[0] for pair in of_split]
        for split, of_split in pairs.items()
    }
    targets = {split: [pair.target_hu for pair in of_split] for split, of_split in pairs.items()}
    rows = []
    for name, each in samplers.items():
        drawn = {
            split: next(
                each.samples(
                    [pair.source_hu for pair in of_split],
                    [pair.spacing_mm for pair in of_split],
                    numbers=[pair.place[1] for pair in of_split],
                    num=1,
                )
            )
            for split, of_split in pairs.items()
        }
        real, made = (tissue_spectra(images["test"], means["test"]) for images in (targets, drawn))
        whitening = [residual.noise.whitening(mean) for mean in means["test"]]
        real_r, made_r = (
            [(image - mean) / sigma for image, mean, sigma in zip(images["test"], means["test"], whitening, strict=True)]
            for images in (targets, drawn)
        )
        rows.append(
            {
                "samples": name,
                "AUC": auc((targets["train"] + targets["val"], drawn["train"] + drawn["val"]), (targets["test"], drawn["test"])),
                **{f"spectrum, {tissue}": np.max(np.abs(made[tissue] - real[tissue])) / np.max(real[tissue]) for tissue in real},
                "kurtosis ratio": kurtosis(made_r) / kurtosis(real_r),
                "neighbours": correlation(made_r, pairs["test"]),
                "of real ones": correlation(real_r, pairs["test"]),
            }
        )
    sys.stdout.write(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3f") + "\n")


if __name__ == "__main__":
    main()
