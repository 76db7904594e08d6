"""The two sets of features that images are judged by, behind one interface: `pyradiomics` and `catalogue`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ltdiff.radiomics import catalogue, pyradiomics
from ltdiff.radiomics.config import CatalogueConfig
from ltdiff.radiomics.region import cut_region

Extract = Callable[[np.ndarray, np.ndarray, tuple[float, float]], dict[str, float]]
"""(HU (Z, Y, X), mask (Z, Y, X), PixelSpacing (y, x) in mm) → features, keyed "class_feature"."""


@dataclass(frozen=True)
class FeatureSet:
    """A set of features, its extractor, and the facts that a table states about it. `depth`: number of slices of a region."""

    name: str
    features: tuple[str, ...]
    extract: Extract
    extractor: str
    extractor_version: str
    discretisation: str
    depth: int


def _extract_plane(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    return pyradiomics.extract_features(hu[0], mask[0], spacing_mm=spacing_mm)


def _extract_catalogue(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    return catalogue.extract_catalogue(cut_region(hu, mask, spacing_mm=spacing_mm))[0]


PYRADIOMICS = FeatureSet(
    name="pyradiomics",
    features=tuple(pyradiomics.feature_names()),
    extract=_extract_plane,
    extractor=pyradiomics.EXTRACTOR,
    extractor_version=pyradiomics.EXTRACTOR_VERSION,
    discretisation=pyradiomics.DISCRETISATION,
    depth=1,
)
CATALOGUE = FeatureSet(
    name="catalogue",
    features=catalogue.feature_names(),
    extract=_extract_catalogue,
    extractor=catalogue.EXTRACTOR,
    extractor_version=catalogue.EXTRACTOR_VERSION,
    discretisation=CatalogueConfig().discretisation,
    depth=5,
)
FEATURE_SETS = {feature_set.name: feature_set for feature_set in (PYRADIOMICS, CATALOGUE)}
