"""The sets of features that images are judged by, behind one interface: `pyradiomics`, `catalogue`, `ibsi`, `wavelet`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ltdiff.radiomics import catalogue, ibsi, pyradiomics, wavelet_set
from ltdiff.radiomics.config import CatalogueConfig, IbsiConfig
from ltdiff.radiomics.ibsi_chain import process_region
from ltdiff.radiomics.region import cut_region

Extract = Callable[[np.ndarray, np.ndarray, tuple[float, float]], dict[str, float]]
"""(HU (Z, Y, X), mask (Z, Y, X), PixelSpacing (y, x) in mm) → features, keyed "class_feature"."""


@dataclass(frozen=True)
class FeatureSet:
    """A set of features, its extractor, and the facts that a table states about it. `depth`: number of slices of a region.

    `image_types` says what is measured: HU as they are, or the response of filters. `of_whole_slices`: whether each whole slice
    is a region, too.
    """

    name: str
    features: tuple[str, ...]
    extract: Extract
    extractor: str
    extractor_version: str
    discretisation: str
    depth: int
    image_types: str = "Original images; no filter."
    of_whole_slices: bool = False


def _extract_plane(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    return pyradiomics.extract_features(hu[0], mask[0], spacing_mm=spacing_mm)


def _extract_catalogue(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    return catalogue.extract_catalogue(cut_region(hu, mask, spacing_mm=spacing_mm))[0]


JUDGED_IBSI_CLASSES = tuple(name for name in ibsi.CLASSES if name not in ("morph", "loc"))
"""Of voxel values in the region: its shape is that of the mask in every image, and the distance of slices is not known here."""


def _extract_ibsi(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    region = process_region(hu, mask, spacing_mm=(1.0, *spacing_mm), config=IbsiConfig())
    return ibsi.extract_ibsi(region, only=JUDGED_IBSI_CLASSES)[0]


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
    of_whole_slices=True,
)
IBSI = FeatureSet(
    name="ibsi",
    features=ibsi.feature_names(JUDGED_IBSI_CLASSES),
    extract=_extract_ibsi,
    extractor=ibsi.EXTRACTOR,
    extractor_version=ibsi.EXTRACTOR_VERSION,
    discretisation=IbsiConfig().discretisation,
    depth=5,
    of_whole_slices=True,
)
WAVELET = FeatureSet(
    name="wavelet",
    features=wavelet_set.feature_names(),
    extract=wavelet_set.extract_wavelet_set,
    extractor=pyradiomics.EXTRACTOR,
    extractor_version=pyradiomics.EXTRACTOR_VERSION,
    discretisation=wavelet_set.DISCRETISATION,
    depth=5,
    image_types=wavelet_set.IMAGE_TYPES,
)
FEATURE_SETS = {feature_set.name: feature_set for feature_set in (PYRADIOMICS, CATALOGUE, IBSI, WAVELET)}
