"""A feature: its IBSI id, its formula and the function that computes it; which ones are chosen; sums that several need."""

from collections.abc import Callable, Mapping, Sequence
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


def choose_columns(class_of: Mapping[str, str], only: Sequence[str] | None) -> tuple[str, ...]:
    """All columns of a set, which `class_of` maps to their classes, or `only` those of some classes and single features.

    Raises:
        ValueError: a name that is neither.
    """
    if only is None:
        return tuple(class_of)
    classes = dict.fromkeys(class_of.values())
    if unknown := [name for name in only if name not in classes and name not in class_of]:
        raise ValueError(f"there is no feature or class of features {unknown[0]!r}; the classes are {', '.join(classes)}")
    chosen = set(only)
    return tuple(column for column, name in class_of.items() if column in chosen or name in chosen)


def entropies(p: Floats) -> Floats:
    """−Σ p log₂ p over the last axis; 0 log 0 is 0."""
    return 0.0 - (p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)  # not −0


def sum_by(index: Levels, weights: NDArray[np.floating] | NDArray[np.integer], size: int) -> Floats:
    """Sums of the weights (K,) that share an index: (size,)."""
    return np.asarray(np.bincount(index, weights, size), np.float64)
