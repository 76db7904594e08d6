"""Slice pairs of a manifest in memory, for what is fitted to a sample of them."""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from ltdiff.data.manifest import (
    evenly_spaced,
    evenly_spaced_adjacent_pairs,
    in_plane_spacing_mm,
    read_hu,
    slice_numbers,
    smallest_step_mm,
)
from ltdiff.data.patches import VALIDATING_COLUMNS, MakeSource, columns_of
from ltdiff.data.slice_items import paired_rows, targets_without_pair

logger = logging.getLogger(__name__)

MAX_VALIDATION_PAIRS = 64
"""More pairs than this, spread evenly, hardly change what is fitted to them or measured on them."""
MADE_SEED = 3
"""Of the sources that are made for targets without a pair."""


class PairStack(NamedTuple):
    """Source and target (Z, Y, X) in HU of slices that follow each other, with PixelSpacing (y, x); the pair in question is
    number `centre`, and `place` says of which pair of series it is and which slice of the source's.
    """

    source_hu: np.ndarray
    target_hu: np.ndarray
    spacing_mm: tuple[float, float]
    centre: int
    place: tuple[str, int]


def read_stacks(
    manifest: pd.DataFrame,
    *,
    split: str,
    at_most: int,
    purpose: str,
    depth: int = 1,
    choose: Callable[..., np.ndarray] = evenly_spaced,
) -> Iterator[PairStack]:
    """Pairs of a split, spread evenly (or as `choose` does), each with those of its neighbours among `depth` slices that are in
    the split too.

    A stack that cannot be read is named in the log as left out of `purpose`.

    Raises:
        ValueError: the split holds no pair.
    """
    sources, targets = paired_rows(manifest, split=split)
    if sources.empty:
        raise ValueError(f"the manifest has no pair in its split {split!r}")
    order = sources.sort_values(["series_uid", "z_mm"], kind="stable").index
    sources, targets = (rows.loc[order].reset_index(drop=True) for rows in (sources, targets))
    series = sources["series_uid"] + " " + targets["series_uid"]
    steps_mm = manifest.groupby("series_uid")["z_mm"].agg(smallest_step_mm)
    numbers = slice_numbers(manifest, sources)
    for i in choose(len(sources), at_most=at_most):
        step_mm = steps_mm[sources["series_uid"][i]]
        reach_mm = (depth // 2 + 0.5) * step_mm
        away_mm = (sources["z_mm"] - sources["z_mm"][i]).abs()
        near = sources[(series == series[i]) & ((away_mm < reach_mm) | (sources.index == i))].sort_values("z_mm").index
        try:
            source_hu, target_hu = (
                np.stack([read_hu(row) for _, row in rows.loc[near].iterrows()]) for rows in (sources, targets)
            )
        except ValueError as error:
            logger.warning("left out of %s: %s", purpose, error)
            continue
        place = series[i], int(numbers[i])
        yield PairStack(source_hu, target_hu, in_plane_spacing_mm(sources.loc[i]), near.get_loc(i), place)


class ValidationPair(NamedTuple):
    """Source and target (Y, X) in HU with PixelSpacing (y, x), the columns that no training has seen, and the place of
    `PairStack`.
    """

    source_hu: np.ndarray
    target_hu: np.ndarray
    spacing_mm: tuple[float, float]
    columns: slice
    place: tuple[str, int]


def has_validation_pairs(manifest: pd.DataFrame) -> bool:
    """Tell whether the manifest has pairs of split `val`."""
    return bool(((manifest["split"] == "val") & manifest["pair_id"].notna()).any())


def read_validation_pairs(
    manifest: pd.DataFrame,
    *,
    split: str = "val",
    at_most: int = MAX_VALIDATION_PAIRS,
    purpose: str,
    make_source: MakeSource | None = None,
) -> list[ValidationPair]:
    """Read pairs of a split, spread in twos; without pairs of split `val`, the validating columns of training pairs.

    Where the manifest has no pair at all, `make_source` makes the sources of its targets.
    """
    if make_source is not None and not manifest["pair_id"].notna().any():
        return _read_made_pairs(manifest, split=split, at_most=at_most, purpose=purpose, make_source=make_source)
    is_cut = split == "val" and not has_validation_pairs(manifest)
    pairs = []
    for stack in read_stacks(
        manifest, split="train" if is_cut else split, at_most=at_most, purpose=purpose, choose=evenly_spaced_adjacent_pairs
    ):
        source_hu, target_hu = stack.source_hu[0], stack.target_hu[0]
        columns = slice(*columns_of(target_hu.shape[1], VALIDATING_COLUMNS)) if is_cut else slice(None)
        pairs.append(ValidationPair(source_hu, target_hu, stack.spacing_mm, columns, stack.place))
    return pairs


def _read_made_pairs(
    manifest: pd.DataFrame, *, split: str, at_most: int, purpose: str, make_source: MakeSource
) -> list[ValidationPair]:
    is_cut = split == "val" and not (manifest["split"] == "val").any()
    targets = targets_without_pair(manifest, split="train" if is_cut else split)
    if targets.empty:
        raise ValueError(f"the manifest has no pair in its split {split!r}")
    targets = targets.sort_values(["series_uid", "z_mm"], kind="stable")
    numbers = slice_numbers(manifest, targets)
    pairs = []
    for i in evenly_spaced_adjacent_pairs(len(targets), at_most=at_most):
        row = targets.iloc[i]
        spacing_mm = in_plane_spacing_mm(row)
        try:
            target_hu = read_hu(row)
        except ValueError as error:
            logger.warning("left out of %s: %s", purpose, error)
            continue
        columns = slice(*columns_of(target_hu.shape[1], VALIDATING_COLUMNS)) if is_cut else slice(None)
        source_hu = make_source(target_hu, spacing_mm)(target_hu, (0, 0), np.random.default_rng([MADE_SEED, int(i)]))
        pairs.append(ValidationPair(source_hu, target_hu, spacing_mm, columns, (row["series_uid"], int(numbers[i]))))
    return pairs


def find_neighbours(places: Iterable[tuple[Hashable, int]]) -> list[tuple[int, int]]:
    """Indices (i, j) of slices that follow each other; for each its series and its number there."""
    indices = {place: i for i, place in enumerate(places)}
    following = ((i, (series, number + 1)) for (series, number), i in indices.items())
    return [(i, indices[place]) for i, place in following if place in indices]
