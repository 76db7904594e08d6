"""The feature catalogue: 1,401 features in seven classes and 49 of gradient orientations, IBEX's categories.

A feature's column is `class_direction_offset_feature`, or `class_feature` where there is no direction. The eight classes:

- GLCM25D, GLCM3D: co-occurrences at offsets of 1, 4 and 7 voxels, along each direction and along all of them together (`sum`,
  IBEX's −333): 4 directions in the plane, pairs counted over all slices; 13 in space.
- GLRLM25D: runs along 0° and 90°, and both together, over all slices.
- ID: statistics, percentiles and quantiles of HU. IH: of the histogram of HU. GOH: of the histogram of gradient orientations.
- NID25D, NID3D: differences to the 8 neighbours in the plane, to the 26 in space.

What a region does not define is NaN, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ltdiff import __version__
from ltdiff.radiomics import cooccurrence, intensity, neighbour_difference, run_length
from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.histogram import (
    HISTOGRAM_FEATURES,
    INTENSITY_HISTOGRAM,
    ORIENTATION_HISTOGRAM,
    PERCENTILE_FEATURES,
    PERCENTILE_IDS,
    Histogram,
    describe,
    gradient_orientations,
    percentiles,
)
from ltdiff.radiomics.matrices import (
    DIRECTIONS_2D,
    DIRECTIONS_3D,
    Shift,
    count_co_occurrences,
    count_runs,
    neighbour_differences,
)
from ltdiff.radiomics.region import Levels, Region

EXTRACTOR = "ltdiff catalogue"
EXTRACTOR_VERSION = __version__
OFFSETS = (1, 4, 7)
SUM = "sum"
RUN_DIRECTIONS = ("0", "90")
IN_PLANE, IN_SPACE = (1, 3, 3), (3, 3, 3)

ONE_SLICE = "the region lies in one slice"
NO_PAIR = "the region holds no two voxels at this direction and offset"
NO_NEIGHBOURS = "no voxel of the region has a neighbour in it"
NO_GRADIENT = "the image does not rise anywhere in the region"
ONE_VALUE = "all voxels of the region are alike to this feature"


@dataclass(frozen=True)
class CatalogueConfig:
    """How HU are discretised.

    Args:
        bin_width: HU per grey level of GLCM, GLRLM, NID, entropy and uniformity.
        histogram: bins of IH, in HU. IBEX's example for CT, −150 … 1000 in bins of 10, flattens every region of lung.
    """

    bin_width: float = 25.0
    histogram: Histogram = INTENSITY_HISTOGRAM

    def __post_init__(self) -> None:
        """Refuse bins without a width."""
        if not self.bin_width > 0:
            raise ValueError(f"bin_width must be above 0, got {self.bin_width}")

    @property
    def discretisation(self) -> str:
        """The convention, as it is written into every table."""
        h = self.histogram
        return (
            f"fixed bins of {self.bin_width:g} HU that start at a multiple of their width (PyRadiomics; IBSI's fixed bin size "
            f"starts them at the region's minimum); histogram {h.low:g} … {h.high:g} HU in bins of {h.width:g}; no resampling, "
            "no normalisation; matrices symmetric"
        )


class _Prepared:
    """What several classes need of a region, made once."""

    def __init__(self, region: Region, config: CatalogueConfig) -> None:
        self.region = region
        self.config = config

    @cached_property
    def levels(self) -> Levels:
        return self.region.discretise(self.config.bin_width)

    @property
    def is_flat(self) -> bool:
        """The region lies in one slice."""
        return self.region.mask.shape[0] == 1


_Column = tuple[str, float, str]
"""Name, value, and why the value is NaN if it is."""


def feature_names() -> list[str]:
    """The columns of all 1,450 features, class by class."""
    return [name for of_class in _CLASSES.values() for name in of_class.names]


def feature_classes() -> tuple[str, ...]:
    """The eight classes."""
    return tuple(_CLASSES)


def extract_catalogue(
    region: Region, *, config: CatalogueConfig | None = None, classes: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """The features of a region by column, all classes or some; and for each NaN among them the reason.

    Raises:
        ValueError: a class that there is not; too many grey levels (see `Region.discretise`).
    """
    names = feature_classes() if classes is None else classes
    if unknown := set(names) - set(_CLASSES):
        raise ValueError(
            f"there are no features of the class {', '.join(sorted(unknown))}; it is one of {', '.join(_CLASSES)}"
        )
    prepared = _Prepared(region, config or CatalogueConfig())
    columns = [column for name in names for column in _CLASSES[name].compute(prepared)]
    values = {name: float(value) for name, value, _ in columns}
    reasons = {name: reason for name, value, reason in columns if math.isnan(value)}
    return values, reasons


def ibsi_ids() -> dict[str, str]:
    """Column → IBSI id, of the features that IBSI defines likewise."""
    return {name: ibsi for of_class in _CLASSES.values() for name, ibsi in of_class.ibsi.items()}


@dataclass(frozen=True)
class _Class:
    """One class: its columns, how they are computed, and the IBSI ids of those that have one."""

    names: tuple[str, ...]
    compute: Callable[[_Prepared], Iterator[_Column]]
    ibsi: Mapping[str, str]


def _co_occurrence_class(name: str, directions: dict[str, Shift], *, is_3d: bool) -> _Class:
    """Every direction and their sum at every offset."""
    keys = [(direction, offset) for direction in (*directions, SUM) for offset in OFFSETS]
    shifts = [
        [_multiply(directions[d], offset) for d in (directions if direction == SUM else (direction,))]
        for direction, offset in keys
    ]
    names = tuple(f"{name}_{d}_{offset}_{feature}" for d, offset in keys for feature in cooccurrence.FEATURES)

    def compute(prepared: _Prepared) -> Iterator[_Column]:
        if is_3d and prepared.is_flat:
            yield from ((column, math.nan, ONE_SLICE) for column in names)
            return
        matrices = count_co_occurrences(prepared.levels, shifts)
        undefined = matrices.is_empty.copy()
        for offset in OFFSETS if is_3d else ():  # without a pair across the plane, the sum would be that of the plane
            across = [keys.index((name, offset)) for name, shift in directions.items() if shift[0]]
            undefined[keys.index((SUM, offset))] = undefined[across].all()
        values = np.stack([feature.compute(matrices) for feature in cooccurrence.FEATURES.values()], axis=1)
        values[undefined] = np.nan
        reasons = np.where(undefined, NO_PAIR, ONE_VALUE).repeat(len(cooccurrence.FEATURES))
        yield from zip(names, values.ravel(), reasons, strict=True)

    return _Class(names, compute, _ids(names, cooccurrence.FEATURES))


def _run_length_class(name: str) -> _Class:
    directions = (*RUN_DIRECTIONS, SUM)
    shifts = [
        [DIRECTIONS_2D[d] for d in (RUN_DIRECTIONS if direction == SUM else (direction,))] for direction in directions
    ]
    names = tuple(f"{name}_{direction}_{feature}" for direction in directions for feature in run_length.FEATURES)

    def compute(prepared: _Prepared) -> Iterator[_Column]:
        matrices = count_runs(prepared.levels, shifts)
        values = np.stack([feature.compute(matrices) for feature in run_length.FEATURES.values()], axis=1)
        yield from ((column, value, ONE_VALUE) for column, value in zip(names, values.ravel(), strict=True))

    return _Class(names, compute, _ids(names, run_length.FEATURES))


def _intensity_class(name: str) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in (*intensity.FEATURES, *PERCENTILE_FEATURES))

    def compute(prepared: _Prepared) -> Iterator[_Column]:
        x = intensity.Intensities(prepared.region, prepared.levels)
        values = [feature.compute(x) for feature in intensity.FEATURES.values()]
        values += percentiles(x.values).values()
        yield from ((column, value, ONE_VALUE) for column, value in zip(names, values, strict=True))

    return _Class(
        names, compute, _ids(names, intensity.FEATURES) | {f"{name}_{p}": i for p, i in PERCENTILE_IDS.items()}
    )


def _histogram_class(name: str, describe_region: Callable[[_Prepared], dict[str, float]], *, reason: str) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in HISTOGRAM_FEATURES)

    def compute(prepared: _Prepared) -> Iterator[_Column]:
        yield from zip(names, describe_region(prepared).values(), [reason] * len(names), strict=True)

    return _Class(names, compute, {})


def _neighbour_difference_class(name: str, size: tuple[int, int, int]) -> _Class:
    names = tuple(f"{name}_{feature}" for feature in neighbour_difference.FEATURES)

    def compute(prepared: _Prepared) -> Iterator[_Column]:
        if size == IN_SPACE and prepared.is_flat:
            yield from ((column, math.nan, ONE_SLICE) for column in names)
            return
        differences = neighbour_differences(prepared.levels, size=size)
        reason = ONE_VALUE if differences.num_voxels else NO_NEIGHBOURS
        for column, feature in zip(names, neighbour_difference.FEATURES.values(), strict=True):
            yield column, feature.compute(differences), reason

    return _Class(names, compute, _ids(names, neighbour_difference.FEATURES))


def _ids(names: tuple[str, ...], table: Mapping[str, Feature]) -> dict[str, str]:
    found = {name: table.get(name.rsplit("_", 1)[1]) for name in names}
    return {name: feature.ibsi for name, feature in found.items() if feature and feature.ibsi}


def _multiply(shift: Shift, offset: int) -> Shift:
    z, y, x = (step * offset for step in shift)
    return z, y, x


_CLASSES: dict[str, _Class] = {
    "GLCM25D": _co_occurrence_class("GLCM25D", dict(DIRECTIONS_2D), is_3d=False),
    "GLCM3D": _co_occurrence_class("GLCM3D", dict(DIRECTIONS_3D), is_3d=True),
    "GLRLM25D": _run_length_class("GLRLM25D"),
    "ID": _intensity_class("ID"),
    "IH": _histogram_class("IH", lambda p: describe(p.region.values_hu, p.config.histogram), reason=ONE_VALUE),
    "NID25D": _neighbour_difference_class("NID25D", IN_PLANE),
    "NID3D": _neighbour_difference_class("NID3D", IN_SPACE),
    "GOH": _histogram_class(
        "GOH", lambda p: describe(gradient_orientations(p.region), ORIENTATION_HISTOGRAM), reason=NO_GRADIENT
    ),
}
