"""Regions of source and target of split `train` that methods which change features learn from, in pairs and without."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.ensemble import Ensemble, has_unpaired, read_ensemble
from ltdiff.data.rois import Roi, extrude, random_rois
from ltdiff.data.slice_pairs import read_stacks
from ltdiff.evaluation.matched_regions import CONTENT_CLASSES_HU, matched_regions
from ltdiff.radiomics.parallel import RegionCut

NUM_ROIS = 300
"""Of either kernel, or a few more; so many in pairs, and so many without."""
MAX_SLICES = 100
"""Slices (or pairs) whose regions are measured, spread evenly over the training set."""
SEED = 1
"""Seed of the training regions, which lie on other slices than the scored ones."""
SOURCE, TARGET = "source", "target"


def training_regions(manifest: pd.DataFrame, *, depth: int, purpose: str) -> Iterator[tuple[str, RegionCut]]:
    """Random discs through stacks of `depth` slices, each with its role.

    Of pairs, the same discs of source and target. Where slices have no partner, discs on either side too, as many of each content
    class.
    What cannot be read is named in the log as left out of `purpose`.

    Raises:
        ValueError: the split lacks source or target, or none of one can be read.
    """
    unpaired = has_unpaired(manifest, "train")
    if unpaired:
        yield from _without_pairs(manifest, depth=depth, purpose=purpose)
    if not unpaired or ((manifest["split"] == "train") & manifest["pair_id"].notna()).any():
        yield from _of_pairs(manifest, depth=depth, purpose=purpose)


def _of_pairs(manifest: pd.DataFrame, *, depth: int, purpose: str) -> Iterator[tuple[str, RegionCut]]:
    num_pairs = int(((manifest["split"] == "train") & (manifest["role"] == TARGET) & manifest["pair_id"].notna()).sum())
    num_rois = math.ceil(NUM_ROIS / max(1, min(num_pairs, MAX_SLICES)))
    stacks = read_stacks(manifest, split="train", at_most=MAX_SLICES, purpose=purpose, depth=depth)
    for number, stack in enumerate(stacks):
        for roi in random_rois(stack.target_hu[[stack.centre]], num_rois=num_rois, seed=SEED + number):
            mask = np.broadcast_to(roi.mask, stack.target_hu.shape)
            for role, hu in ((SOURCE, stack.source_hu), (TARGET, stack.target_hu)):
                yield role, _cut(hu, mask, stack.spacing_mm)


def _without_pairs(manifest: pd.DataFrame, *, depth: int, purpose: str) -> Iterator[tuple[str, RegionCut]]:
    sides = {
        role: read_ensemble(manifest, role=role, split="train", at_most=MAX_SLICES, depth=depth, purpose=purpose)
        for role in (SOURCE, TARGET)
    }
    num_rois = math.ceil(NUM_ROIS / len(CONTENT_CLASSES_HU))
    drawn = matched_regions([side.hu for side in sides.values()], num_rois=num_rois, seed=SEED)
    for (role, side), discs in zip(sides.items(), drawn, strict=True):
        for cut in _cuts(side, discs, depth):
            yield role, cut


def _cuts(side: Ensemble, discs: list[Roi], depth: int) -> Iterator[RegionCut]:
    for roi in extrude(discs, blocks=side.blocks, depth=depth):
        stack = slice(roi.slice_index, roi.slice_index + len(roi.volume_mask))
        spacing_y, spacing_x = side.spacings_mm[roi.slice_index]
        yield _cut(side.hu[stack], roi.volume_mask, (float(spacing_y), float(spacing_x)))


def _cut(hu: NDArray[np.float32], mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> RegionCut:
    cut = RegionCut.of(hu, mask, spacing_mm)
    return cut._replace(hu=cut.hu.copy())  # not all of the stack is kept
