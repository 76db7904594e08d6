"""The features of IBSI 1: those with reference values, by the tags of IBSI's tables, after IBSI's image processing.

A feature's column is `class_tag`, of textures `class_tag_aggregation` (ids: `AGGREGATION_IDS`). The aggregations of matrices are:

- cm (GLCM), rlm (GLRLM): `2D_avg` mean over slices and directions, `2D_comb` over slices, their directions merged, `2_5D_avg`
  over directions, their slices merged, `2_5D_comb` all merged, `3D_avg` mean over the 13 directions in space, `3D_comb` these
  merged.
- szm (GLSZM), dzm (GLDZM), ngt (NGTDM), ngl (NGLDM): `2D` mean over slices, `2_5D` slices merged, `3D` in space.

The others: morph (morphology), loc (local intensity), stat (statistics), ih (histogram of grey levels), ivh (intensity-volume
histogram). What a region does not define is NaN, with a reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

import numpy as np

from ltdiff import __version__
from ltdiff.radiomics import (
    cooccurrence,
    distance_zone,
    intensity_statistics,
    intensity_volume,
    local_intensity,
    morphology,
    neighbour_difference,
    neighbouring_dependence,
    run_length,
    size_zone,
)
from ltdiff.radiomics.config import IbsiConfig
from ltdiff.radiomics.feature import Feature, choose_columns
from ltdiff.radiomics.ibsi_chain import ProcessedRegion
from ltdiff.radiomics.level_matrix import LevelMatrices
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D, Levels, Shift

EXTRACTOR = "ltdiff ibsi"
EXTRACTOR_VERSION = __version__
IN_PLANE, IN_SPACE = tuple(DIRECTIONS_2D.values()), tuple(DIRECTIONS_3D.values())
CLASSES_IN_PLANE = ("stat", "ih", "ivh")
AGGREGATION_IDS = {
    "2D_avg": "BTW3",
    "2D_comb": "SUJT",
    "2_5D_avg": "JJUI",
    "2_5D_comb": "ZW7Z",
    "3D_avg": "ITBB",
    "3D_comb": "IAZD",
    "2D": "8QNN",
    "2_5D": "62GR",
    "3D": "KOBO",
}
"""Aggregation → IBSI id."""

ONE_SLICE = "the region lies in one slice"
ONE_VALUE = "all voxels of the region are alike to this feature"

Table = Mapping[str, Feature[Any]]
Directions = Sequence[Sequence[Shift]]
"""Groups of directions; those of a group are counted in one matrix."""


class _Textures:
    """What the matrices of a region are counted from; its slices without voxels are left out."""

    def __init__(self, region: ProcessedRegion) -> None:
        self.levels = region.levels
        self.slices = [plane[None] for plane in self.levels if plane.any()]
        self.num_levels = int(self.levels.max())
        self._shape_mask = region.shape_mask[region.inner_box]

    @cached_property
    def zones_in_plane(self) -> size_zone.Zones:
        return size_zone.find_zones(self.levels, IN_PLANE)

    @cached_property
    def zones_in_space(self) -> size_zone.Zones:
        return size_zone.find_zones(self.levels, IN_SPACE)

    def border_distance(self, *, in_space: bool) -> Levels:
        """Distance of each voxel that is measured to the border of the shape (N,)."""
        return distance_zone.measure_border_distance(self._shape_mask, in_space=in_space)[self.levels > 0]


def _co_occurrences(t: _Textures, levels: Levels, directions: Directions) -> list[cooccurrence.CoOccurrences]:
    """The matrices of the directions in which there are pairs."""
    with_pairs = [group for group in directions if any(cooccurrence.has_pair(levels, shift) for shift in group)]
    return [cooccurrence.count_co_occurrences(levels, with_pairs, num_levels=t.num_levels)] if with_pairs else []


def _run_lengths(_: _Textures, levels: Levels, directions: Directions) -> list[LevelMatrices]:
    return [run_length.count_runs(levels, directions)]


def _in_directions(count: Callable[[_Textures, Levels, Directions], list[Any]]) -> Mapping[str, Callable[[_Textures], list[Any]]]:
    """The six aggregations of matrices that have a direction."""
    each_in_plane, each_in_space = [[d] for d in IN_PLANE], [[d] for d in IN_SPACE]
    return {
        "2D_avg": lambda t: [part for plane in t.slices for part in count(t, plane, each_in_plane)],
        "2D_comb": lambda t: [part for plane in t.slices for part in count(t, plane, [IN_PLANE])],
        "2_5D_avg": lambda t: count(t, t.levels, each_in_plane),
        "2_5D_comb": lambda t: count(t, t.levels, [IN_PLANE]),
        "3D_avg": lambda t: count(t, t.levels, each_in_space),
        "3D_comb": lambda t: count(t, t.levels, [IN_SPACE]),
    }


_TEXTURES: Mapping[str, tuple[Table, Mapping[str, Callable[[_Textures], list[Any]]]]] = {
    "cm": (cooccurrence.IBSI_FEATURES, _in_directions(_co_occurrences)),
    "rlm": (run_length.IBSI_FEATURES, _in_directions(_run_lengths)),
    "szm": (
        size_zone.FEATURES,
        {
            "2D": lambda t: [size_zone.count_sizes(t.zones_in_plane, num_slices=len(t.levels))],
            "2_5D": lambda t: [size_zone.count_sizes(t.zones_in_plane)],
            "3D": lambda t: [size_zone.count_sizes(t.zones_in_space)],
        },
    ),
    "dzm": (
        distance_zone.FEATURES,
        {
            "2D": lambda t: [
                distance_zone.count_distances(t.zones_in_plane, t.border_distance(in_space=False), num_slices=len(t.levels))
            ],
            "2_5D": lambda t: [distance_zone.count_distances(t.zones_in_plane, t.border_distance(in_space=False))],
            "3D": lambda t: [distance_zone.count_distances(t.zones_in_space, t.border_distance(in_space=True))],
        },
    ),
    "ngt": (
        neighbour_difference.IBSI_FEATURES,
        {
            "2D": lambda t: [neighbour_difference.neighbour_differences(plane, size=(1, 3, 3)) for plane in t.slices],
            "2_5D": lambda t: [neighbour_difference.neighbour_differences(t.levels, size=(1, 3, 3))],
            "3D": lambda t: [neighbour_difference.neighbour_differences(t.levels, size=(3, 3, 3))],
        },
    ),
    "ngl": (
        neighbouring_dependence.FEATURES,
        {
            "2D": lambda t: [neighbouring_dependence.count_dependences(t.levels, IN_PLANE, by_slice=True)],
            "2_5D": lambda t: [neighbouring_dependence.count_dependences(t.levels, IN_PLANE)],
            "3D": lambda t: [neighbouring_dependence.count_dependences(t.levels, IN_SPACE)],
        },
    ),
}
_OTHERS: Mapping[str, tuple[Table, Callable[[ProcessedRegion], Any]]] = {
    "morph": (
        morphology.FEATURES,
        lambda r: morphology.Shape(r.shape_mask, intensity_mask=r.intensity_mask, values=r.values, spacing_mm=r.spacing_mm),
    ),
    "loc": (local_intensity.FEATURES, lambda r: local_intensity.LocalIntensities(r.image, r.intensity_mask, r.spacing_mm)),
    "stat": (intensity_statistics.STATISTICS, lambda r: r.values),
    "ih": (intensity_statistics.HISTOGRAM, lambda r: intensity_statistics.LevelHistogram(r.levels[r.levels > 0])),
    "ivh": (intensity_volume.FEATURES, lambda r: r.intensity_volume),
}
_NAMES: Mapping[str, Mapping[str, Feature[Any]]] = {
    name: {f"{name}_{tag}": feature for tag, feature in table.items()} for name, (table, _) in _OTHERS.items()
} | {
    name: {f"{name}_{tag}_{aggregation}": feature for aggregation in aggregations for tag, feature in table.items()}
    for name, (table, aggregations) in _TEXTURES.items()
}
CLASSES = tuple(_NAMES)


def feature_names(only: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns of all features, class by class, or `only` those of some classes and single features.

    Raises:
        ValueError: a name that is neither.
    """
    return choose_columns({column: name for name, columns in _NAMES.items() for column in columns}, only)


def classes_in_space(only: Sequence[str] | None = None, *, config: IbsiConfig) -> set[str]:
    """The classes with features among `feature_names(only)` that need a regular grid in space: all if it is resampled."""
    is_resampled = config.spacing_mm is not None and config.resample == "space"
    return {column.split("_")[0] for column in feature_names(only)} - (set() if is_resampled else set(CLASSES_IN_PLANE))


def ibsi_ids() -> dict[str, str]:
    """Column → IBSI id."""
    return {column: feature.ibsi for columns in _NAMES.values() for column, feature in columns.items()}


def aggregation_ids() -> dict[str, str]:
    """Column → IBSI id of its aggregation, of textures."""
    return {
        f"{name}_{tag}_{aggregation}": AGGREGATION_IDS[aggregation]
        for name, (table, aggregations) in _TEXTURES.items()
        for aggregation in aggregations
        for tag in table
    }


def extract_ibsi(region: ProcessedRegion, *, only: Sequence[str] | None = None) -> tuple[dict[str, float], dict[str, str]]:
    """The features of a region by column, in the order of `feature_names(only)`, and for each NaN among them the reason.

    Raises:
        ValueError: a feature that there is not; too many grey levels (see `ProcessedRegion.levels`).
    """
    names = feature_names(only)
    with np.errstate(divide="ignore", invalid="ignore"):  # a matrix without entries, a single level: NaN
        found = dict(_compute(region, set(names)))
    values = {name: found[name] for name in names}
    is_flat = len(region.levels) == 1
    reasons = {
        name: ONE_SLICE if is_flat and ("_3D" in name or name.startswith("morph_vol")) else ONE_VALUE
        for name in names
        if math.isnan(values[name])
    }
    return values, reasons


def _compute(region: ProcessedRegion, wanted: AbstractSet[str]) -> Iterator[tuple[str, float]]:
    for name, (table, prepare) in _OTHERS.items():
        if not wanted.isdisjoint(_NAMES[name]):
            prepared = prepare(region)
            yield from ((f"{name}_{tag}", float(feature.compute(prepared))) for tag, feature in table.items())
    textures = _Textures(region)
    for name, (table, aggregations) in _TEXTURES.items():
        for aggregation, count in aggregations.items():
            columns = {f"{name}_{tag}_{aggregation}": feature for tag, feature in table.items()}
            if wanted.isdisjoint(columns):
                continue
            is_undefined = aggregation.startswith("3D") and len(region.levels) == 1
            matrices = [] if is_undefined else count(textures)
            yield from ((column, _average(feature, matrices)) for column, feature in columns.items())


def _average(feature: Feature[Any], matrices: Sequence[Any]) -> float:
    """Mean of a feature over the matrices that define it, NaN where none does."""
    values = np.concatenate([np.atleast_1d(feature.compute(each)) for each in matrices]) if matrices else np.empty(0)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
