"""A feature: its IBSI id, its formula, and the function that computes it; and sums that several classes of features need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltdiff.radiomics.region import Floats, Levels

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Feature(Generic[Prepared]):
    """`compute` takes what its class prepares of a region (matrices, voxel values) and returns a value, or one per matrix.

    `ibsi` is the id of the Image Biomarker Standardisation Initiative where its definition is the same, else "".
    """

    ibsi: str
    formula: str
    compute: Callable[[Prepared], Any]


def entropies(p: Floats) -> Floats:
    """−Σ p log₂ p over the last axis; 0 log 0 is 0."""
    return 0.0 - (p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)  # not −0


def sum_by(index: Levels, weights: NDArray[np.floating] | NDArray[np.integer], size: int) -> Floats:
    """Sums of the weights (K,) that share an index: (size,)."""
    return np.asarray(np.bincount(index, weights, size), np.float64)
