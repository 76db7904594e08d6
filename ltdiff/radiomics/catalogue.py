"""The feature catalogue: 1,401 features in seven classes and 49 of gradient orientations, IBEX's categories.

A feature's column is `class_direction_offset_feature`, or `class_feature` where there is no direction. The eight classes:

- GLCM25D, GLCM3D: co-occurrences at offsets of 1, 4 and 7 voxels, along each direction and along all of them together (`sum`,
  IBEX's −333): 4 directions in the plane, pairs counted over all slices; 13 in space.
- GLRLM25D: runs along 0° and 90°, and both together, over all slices.
- ID: statistics, percentiles and quantiles of HU. IH: of the histogram of HU. GOH: of the histogram of gradient orientations.
- NID25D, NID3D: differences to the 8 neighbours in the plane, to the 26 in space.

What a region does not define is NaN, with a reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from ltdiff import __version__
from ltdiff.radiomics import cooccurrence, intensity_direct, neighbour_difference, run_length
from ltdiff.radiomics.config import CatalogueConfig
from ltdiff.radiomics.feature import Feature, choose_columns
from ltdiff.radiomics.histogram import (
    HISTOGRAM_FEATURES,
    ORIENTATION_HISTOGRAM,
    PERCENTILE_FEATURES,
    PERCENTILE_IDS,
    describe,
    gradient_orientations,
    percentiles,
)
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D, Levels, Region, Shift

EXTRACTOR = "ltdiff catalogue"
EXTRACTOR_VERSION = __version__
OFFSETS = (1, 4, 7)
SUM = "sum"
RUN_DIRECTIONS = ("0", "90")
IN_PLANE, IN_SPACE = (1, 3, 3), (3, 3, 3)
CLASSES_IN_SPACE = ("GLCM3D", "NID3D")

ONE_SLICE = "the region lies in one slice"
NO_PAIR = "the region holds no two voxels at this direction and offset"
NO_NEIGHBOURS = "no voxel of the region has a neighbour in it"
NO_GRADIENT = "the image does not rise anywhere in the region"
ONE_VALUE = "all voxels of the region are alike to this feature"


class _Prepared:
    """A region and its grey levels, which several classes share and which are computed once."""

    def __init__(self, region: Region, config: CatalogueConfig) -> None:
        self.region, self.config = region, config
        self.is_flat = region.mask.shape[0] == 1

    @cached_property
    def levels(self) -> Levels:
        return self.region.discretise(self.config.bin_width)


_Column = tuple[str, float, str]
"""Name, value, and why the value is NaN if it is."""


def feature_names(only: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns of all 1,450 features, class by class, or `only` those of some classes and single features.

    Raises:
        ValueError: a name that is neither.
    """
    return choose_columns(_class_of(), only)


@cache
def _class_of() -> dict[str, str]:
    """Column → class. Thousands of small regions ask for it."""
    return {column: name for name, members in _CLASSES.items() for column in members.names}


def classes_in_space(only: Sequence[str] | None = None) -> set[str]:
    """The classes with features among `feature_names(only)` that compare voxels of different slices."""
    wanted = set(feature_names(only))
    return {name for name in CLASSES_IN_SPACE if not wanted.isdisjoint(_CLASSES[name].names)}


def extract_catalogue(
    region: Region, *, config: CatalogueConfig | None = None, only: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """The features of a region by column, in the order of `feature_names(only)`, and for each NaN among them the reason.

    Raises:
        ValueError: a feature that there is not; too many grey levels (see `Region.discretise`).
    """
    names = feature_names(only)
    wanted = set(names)
    prepared = _Prepared(region, config or CatalogueConfig())
    found = {
        name: (float(value), reason)
        for of_class in _CLASSES.values()
        if not wanted.isdisjoint(of_class.names)
        for name, value, reason in of_class.compute(prepared, wanted)
    }
    values = {name: found[name][0] for name in names}
    reasons = {name: found[name][1] for name in names if math.isnan(values[name])}
    return values, reasons


def ibsi_ids() -> dict[str, str]:
    """Column → IBSI id, of the features that IBSI defines likewise."""
    return {name: ibsi for of_class in _CLASSES.values() for name, ibsi in of_class.ibsi.items()}


@dataclass(frozen=True)
class _Class:
    """One class: its columns, how they are computed (at least those that are wanted), and the IBSI ids of those that have one."""

    names: tuple[str, ...]
    compute: Callable[[_Prepared, AbstractSet[str]], Iterator[_Column]]
    ibsi: Mapping[str, str]


def _co_occurrence_class(name: str, directions: Mapping[str, Shift], *, is_3d: bool) -> _Class:
    """Every direction and their sum at every offset."""
    shifts = {
        (direction, offset): [_multiply(directions[d], offset) for d in (directions if direction == SUM else (direction,))]
        for direction in (*directions, SUM)
        for offset in OFFSETS
    }
    columns = {(*key, f): f"{name}_{key[0]}_{key[1]}_{f}" for key in shifts for f in cooccurrence.FEATURES}
    names = tuple(columns.values())

    def compute(prepared: _Prepared, wanted: AbstractSet[str]) -> Iterator[_Column]:
        keys = [key for key in shifts if any(columns[*key, f] in wanted for f in cooccurrence.FEATURES)]
        features = [f for f in cooccurrence.FEATURES if any(columns[*key, f] in wanted for key in keys)]
        if is_3d and prepared.is_flat:
            yield from ((columns[*key, f], math.nan, ONE_SLICE) for key in keys for f in features)
            return
        matrices = cooccurrence.count_co_occurrences(prepared.levels, [shifts[key] for key in keys])
        undefined = matrices.is_empty | [is_3d and not _reaches_across(prepared.levels, shifts[key]) for key in keys]
        for f in features:
            values = cooccurrence.FEATURES[f].compute(matrices)
            for key, value, is_undefined in zip(keys, values, undefined, strict=True):
                yield columns[*key, f], math.nan if is_undefined else value, NO_PAIR if is_undefined else ONE_VALUE

    return _Class(names, compute, _ids(names, cooccurrence.FEATURES))


def _reaches_across(levels: Levels, shifts: Sequence[Shift]) -> bool:
    """Return True if there are pairs across the slices; without any, all directions in space are those of the plane."""
    return len(shifts) == 1 or any(cooccurrence.has_pair(levels, shift) for shift in shifts if shift[0])


def _run_length_class(name: str) -> _Class:
    directions = (*RUN_DIRECTIONS, SUM)
    shifts = [[DIRECTIONS_2D[d] for d in (RUN_DIRECTIONS if direction == SUM else (direction,))] for direction in directions]
    names = tuple(f"{name}_{direction}_{feature}" for direction in directions for feature in run_length.FEATURES)

    def compute(prepared: _Prepared, _: AbstractSet[str]) -> Iterator[_Column]:
        matrices = run_length.count_runs(prepared.levels, shifts)
        values = np.stack([feature.compute(matrices) for feature in run_length.FEATURES.values()], axis=1)
        yield from ((column, value, ONE_VALUE) for column, value in zip(names, values.ravel(), strict=True))

    return _Class(names, compute, _ids(names, run_length.FEATURES))


def _intensity_class(name: str) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in (*intensity_direct.FEATURES, *PERCENTILE_FEATURES))

    def compute(prepared: _Prepared, wanted: AbstractSet[str]) -> Iterator[_Column]:
        x = intensity_direct.Intensities(prepared.region, prepared.levels)
        for feature_name, feature in intensity_direct.FEATURES.items():
            if (column := f"{name}_{feature_name}") in wanted:  # the local ones take their time
                yield column, feature.compute(x), ONE_VALUE
        yield from ((f"{name}_{feature}", value, ONE_VALUE) for feature, value in percentiles(x.values).items())

    return _Class(names, compute, _ids(names, intensity_direct.FEATURES) | {f"{name}_{p}": i for p, i in PERCENTILE_IDS.items()})


def _histogram_class(name: str, describe_region: Callable[[_Prepared], dict[str, float]], *, reason: str) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in HISTOGRAM_FEATURES)

    def compute(prepared: _Prepared, _: AbstractSet[str]) -> Iterator[_Column]:
        yield from zip(names, describe_region(prepared).values(), [reason] * len(names), strict=True)

    return _Class(names, compute, {})


def _neighbour_difference_class(name: str, size: tuple[int, int, int]) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in neighbour_difference.FEATURES)

    def compute(prepared: _Prepared, _: AbstractSet[str]) -> Iterator[_Column]:
        if size == IN_SPACE and prepared.is_flat:
            yield from ((column, math.nan, ONE_SLICE) for column in names)
            return
        differences = neighbour_difference.neighbour_differences(prepared.levels, size=size)
        reason = ONE_VALUE if differences.num_voxels else NO_NEIGHBOURS
        for column, feature in zip(names, neighbour_difference.FEATURES.values(), strict=True):
            yield column, feature.compute(differences), reason

    return _Class(names, compute, _ids(names, neighbour_difference.FEATURES))


def _ids(names: tuple[str, ...], table: Mapping[str, Feature[Any]]) -> dict[str, str]:
    found = {name: table.get(name.rsplit("_", 1)[1]) for name in names}
    return {name: feature.ibsi for name, feature in found.items() if feature and feature.ibsi}


def _multiply(shift: Shift, offset: int) -> Shift:
    z, y, x = (step * offset for step in shift)
    return z, y, x


_CLASSES: dict[str, _Class] = {
    "GLCM25D": _co_occurrence_class("GLCM25D", DIRECTIONS_2D, is_3d=False),
    "GLCM3D": _co_occurrence_class("GLCM3D", DIRECTIONS_3D, is_3d=True),
    "GLRLM25D": _run_length_class("GLRLM25D"),
    "ID": _intensity_class("ID"),
    "IH": _histogram_class("IH", lambda p: describe(p.region.values_hu, p.config.histogram), reason=ONE_VALUE),
    "NID25D": _neighbour_difference_class("NID25D", IN_PLANE),
    "NID3D": _neighbour_difference_class("NID3D", IN_SPACE),
    "GOH": _histogram_class(
        "GOH", lambda p: describe(gradient_orientations(p.region), ORIENTATION_HISTOGRAM), reason=NO_GRADIENT
    ),
}
