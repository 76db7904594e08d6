"""Slice pairs of a manifest in memory, for what is fitted to a sample of them at once."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd

from ltdiff.data.manifest import in_plane_spacing_mm, read_hu, spread_evenly
from ltdiff.data.stream import make_items

logger = logging.getLogger(__name__)


class SlicePair(NamedTuple):
    """Source and target (Y, X) in HU with PixelSpacing (y, x)."""

    source_hu: np.ndarray
    target_hu: np.ndarray
    spacing_mm: tuple[float, float]


def read_pairs(manifest: pd.DataFrame, *, split: str, at_most: int, purpose: str) -> list[SlicePair]:
    """Pairs of a split, spread evenly; those that cannot be read are named in the log as left out of `purpose`.

    Raises:
        ValueError: the split holds none.
    """
    items = make_items(manifest, split=split, pairs=True)
    pairs = []
    for i in spread_evenly(len(items), at_most=at_most):
        source, target = items[i]["source"], items[i]["target"]
        try:
            pairs.append(SlicePair(read_hu(source), read_hu(target), in_plane_spacing_mm(source)))
        except ValueError as error:
            logger.warning("left out of %s: %s", purpose, error)
    return pairs
