"""PyRadiomics' features in space, computed from our matrices: the same values, in a fraction of the time.

First order, GLCM but for MCC, GLRLM, GLSZM and NGTDM; bins start at a multiple of their width, matrices have 13 directions and
the distance 1, features are the mean over the directions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ltdiff.radiomics import cooccurrence, intensity_statistics, neighbour_difference, pyradiomics, run_length, size_zone
from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.level_matrix import LevelMatrices
from ltdiff.radiomics.neighbour_difference import NeighbourDifferences, neighbour_differences
from ltdiff.radiomics.pyradiomics_tags import TAGS
from ltdiff.radiomics.region import DIRECTIONS_3D, Floats, Levels, Shift, find_box
from ltdiff.radiomics.resampling import Spacing

CLASSES = ("firstorder", "glcm", "glrlm", "glszm", "ngtdm")
_LEFT_OUT = ("glcm_MCC",)
_EACH, _ALL = [[shift] for shift in DIRECTIONS_3D.values()], tuple(DIRECTIONS_3D.values())
_WITHOUT_DIVISOR = {
    "glcm_Correlation": 1.0,
    "glcm_Imc1": 0.0,
    "ngtdm_Busyness": 0.0,
    "ngtdm_Coarseness": 1e6,
    "ngtdm_Contrast": 0.0,
    "ngtdm_Strength": 0.0,
}
"""What PyRadiomics takes where our features are NaN, as in a direction in which all pairs are alike."""


@dataclass(frozen=True, eq=False)
class _Region:
    """Values (N,) of a region's voxels, sorted, and grey levels (Z, Y, X) in the box round it."""

    values: Floats
    levels: Levels

    @cached_property
    def histogram(self) -> intensity_statistics.LevelHistogram:
        return intensity_statistics.LevelHistogram(self.levels[self.levels > 0])

    @cached_property
    def with_pairs(self) -> list[list[Shift]]:
        """The directions in which voxels touch."""
        return [group for group in _EACH if cooccurrence.has_pair(self.levels, group[0])]

    @cached_property
    def run_lengths(self) -> LevelMatrices | None:
        """The matrices of the directions in which any line holds two voxels, if there are any: PyRadiomics has no others."""
        shifts = [group for group in _EACH if group in self.with_pairs or _shares_line(self.levels, group[0])]
        return run_length.count_runs(self.levels, shifts) if shifts else None

    @cached_property
    def neighbour_differences(self) -> NeighbourDifferences:
        """Voxels without neighbours count, too, as such that do not differ from any: PyRadiomics has them, IBSI does not."""
        found = neighbour_differences(self.levels, size=(3, 3, 3))
        if found.num_voxels == len(self.values):
            return found
        number = np.bincount(self.levels[self.levels > 0])
        occupied = np.flatnonzero(number)
        s = np.zeros(len(occupied))
        s[np.searchsorted(occupied, found.level)] = found.s
        return NeighbourDifferences(occupied, number[occupied] / len(self.values), s, len(self.values))

    @cached_property
    def co_occurrences(self) -> cooccurrence.CoOccurrences | None:
        """The matrices of the directions in which there are pairs, if there are any."""
        return cooccurrence.count_co_occurrences(self.levels, self.with_pairs) if self.with_pairs else None


def _shares_line(levels: Levels, shift: Shift) -> bool:
    """Return True if two voxels of the region lie on one line along a shift, which need not touch."""
    places = np.argwhere(levels)
    axis = int(np.flatnonzero(shift)[0])
    starts = places - places[:, [axis]] * shift[axis] * np.array(shift)
    return len(np.unique(starts, axis=0)) < len(starts)


_MATRICES: Mapping[str, tuple[Mapping[str, Feature[Any]], Callable[[_Region], Any]]] = {
    "stat": (intensity_statistics.STATISTICS, lambda r: r.values),
    "ih": (intensity_statistics.HISTOGRAM, lambda r: r.histogram),
    "cm": (cooccurrence.IBSI_FEATURES, lambda r: r.co_occurrences),
    "rlm": (run_length.IBSI_FEATURES, lambda r: r.run_lengths),
    "szm": (size_zone.FEATURES, lambda r: size_zone.count_sizes(size_zone.find_zones(r.levels, _ALL))),
    "ngt": (neighbour_difference.IBSI_FEATURES, lambda r: r.neighbour_differences),
}
"""Class in the tags of `TAGS` → its features, and what they are computed from."""


def feature_names(classes: Sequence[str] = CLASSES) -> list[str]:
    """The keys of `extract_features_in_space`, PyRadiomics' names in its order."""
    return [name for name in pyradiomics.feature_names(classes) if name not in _LEFT_OUT]


def extract_features_in_space(
    image: np.ndarray, mask: np.ndarray, *, spacing_mm: Spacing, bin_width: float, classes: Sequence[str] = CLASSES
) -> dict[str, float]:
    """As `pyradiomics.extract_features(…, in_plane=False)`, without MCC: arguments, NaN and errors are those."""
    box = find_box(mask)
    inside = mask[box].astype(bool)
    values = image[box].astype(np.float64)
    pyradiomics.check_range(values[inside], bin_width)
    names = feature_names(classes)
    if pyradiomics.is_thin(inside):
        return dict.fromkeys(names, math.nan)
    bins = np.floor(values / bin_width)
    levels = np.where(inside, bins - bins[inside].min() + 1, 0).astype(np.int64)
    region = _Region(np.sort(values[inside]), levels)
    prepared: dict[str, Any] = {}
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in names:
            found[name] = _compute(name, region, prepared, voxel_mm3=math.prod(spacing_mm))
    return pyradiomics.without_undefined(found, region.values, bin_width)


def _compute(name: str, region: _Region, prepared: dict[str, Any], *, voxel_mm3: float) -> float:
    if name == "firstorder_Kurtosis":  # not the excess
        return _compute_tag("stat_kurt", region, prepared) + 3
    if name == "firstorder_TotalEnergy":
        return _compute_tag("stat_energy", region, prepared) * voxel_mm3
    return _compute_tag(TAGS[name], region, prepared, undefined=_WITHOUT_DIVISOR.get(name, math.nan))


def _compute_tag(tag: str, region: _Region, prepared: dict[str, Any], *, undefined: float = math.nan) -> float:
    """A feature by IBSI's tag, mean over the matrices; `undefined` stands for a matrix that does not define it."""
    of_class, name = tag.split("_", 1)
    features, prepare = _MATRICES[of_class]
    if of_class not in prepared:
        prepared[of_class] = prepare(region)
    if prepared[of_class] is None:
        return math.nan
    values = np.atleast_1d(features[name].compute(prepared[of_class]))
    return float(np.where(np.isnan(values), undefined, values).mean())
