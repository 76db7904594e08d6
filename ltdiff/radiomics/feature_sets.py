"""The sets of features behind one interface, for images that are judged and for the regions of a mask.

They are `pyradiomics`, `catalogue`, `ibsi` and `wavelet`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ltdiff.radiomics import catalogue, ibsi, pyradiomics, wavelet_set
from ltdiff.radiomics.config import CatalogueConfig, IbsiConfig
from ltdiff.radiomics.feature import choose_columns
from ltdiff.radiomics.ibsi_chain import process_region, reach_mm
from ltdiff.radiomics.pyradiomics_tags import ibsi_codes, ibsi_columns
from ltdiff.radiomics.region import cut_region
from ltdiff.radiomics.resampling import Spacing

Only = Sequence[str] | None
"""Classes and single features; None for all."""
Values = dict[str, float]
Extract = Callable[[np.ndarray, np.ndarray, tuple[float, float]], Values]
"""(HU (Z, Y, X), mask (Z, Y, X), PixelSpacing (y, x) in mm) → features, keyed "class_feature"."""
Measure = Callable[[np.ndarray, np.ndarray, Spacing, Only], tuple[Values, dict[str, str]]]
"""(HU (Z, Y, X), mask (Z, Y, X), spacing (z, y, x) in mm, which features) → these, and for each NaN among them the reason."""

THIN = "the region is a single pixel high or wide"
UNALTERED = "Original images; no filter."


@dataclass(frozen=True)
class FeatureSet:
    """A set of features with its settings, its extractor, and the facts that a table states about it.

    Images are judged by `features`, which `extract` measures in regions of `depth` slices whose distance is not known, and with
    `of_whole_slices` in whole slices. The regions of a mask have the features that `choose` names, all or some, and `measure`
    measures. `classes_in_space` says which classes of them need slices on a regular grid. `image_types` says what is measured:
    HU as they are, or the response of filters. `ibsi_ids` has the IBSI id of columns, `aggregation_ids` that of their
    aggregation. `reach_mm` says how far from a region along z its features see the image, of voxels of (z, y, x) mm.
    """

    name: str
    features: tuple[str, ...]
    extract: Extract
    extractor: str
    extractor_version: str
    discretisation: str
    depth: int
    choose: Callable[[Only], tuple[str, ...]]
    classes_in_space: Callable[[Only], set[str]]
    measure: Measure
    reach_mm: Callable[[Spacing], float]
    image_types: str = UNALTERED
    of_whole_slices: bool = False
    config: CatalogueConfig | IbsiConfig | None = None
    ibsi_ids: Mapping[str, str] = field(default_factory=dict)
    aggregation_ids: Mapping[str, str] = field(default_factory=dict)


def _extract(
    hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float], *, measure: Measure, only: Only = None
) -> dict[str, float]:
    """Slices count as 1 mm apart."""
    return measure(hu, mask, (1.0, *spacing_mm), only)[0]


def _choose_pyradiomics(only: Only = None) -> tuple[str, ...]:
    return choose_columns({name: name.split("_")[0] for name in pyradiomics.feature_names()}, only)


def _measure_in_plane(hu: np.ndarray, mask: np.ndarray, spacing_mm: Spacing, only: Only) -> tuple[Values, dict[str, str]]:
    names = _choose_pyradiomics(only)
    classes = dict.fromkeys(name.split("_")[0] for name in names)
    values = pyradiomics.extract_features(hu, mask, spacing_mm=spacing_mm, classes=tuple(classes))
    return _with_reasons({name: values[name] for name in names}, mask)


def _measure_wavelet_set(hu: np.ndarray, mask: np.ndarray, spacing_mm: Spacing, only: Only) -> tuple[Values, dict[str, str]]:
    return _with_reasons(wavelet_set.extract_wavelet_set(hu, mask, spacing_mm=spacing_mm, only=only), mask)


def _with_reasons(values: Values, mask: np.ndarray) -> tuple[Values, dict[str, str]]:
    reason = THIN if pyradiomics.is_thin(mask) else ibsi.ONE_VALUE
    return values, {name: reason for name, value in values.items() if np.isnan(value)}


def _measure_catalogue(
    hu: np.ndarray, mask: np.ndarray, spacing_mm: Spacing, only: Only, *, config: CatalogueConfig
) -> tuple[Values, dict[str, str]]:
    return catalogue.extract_catalogue(cut_region(hu, mask, spacing_mm=spacing_mm[1:]), config=config, only=only)


def _measure_ibsi(
    hu: np.ndarray, mask: np.ndarray, spacing_mm: Spacing, only: Only, *, config: IbsiConfig
) -> tuple[Values, dict[str, str]]:
    return ibsi.extract_ibsi(process_region(hu, mask, spacing_mm=spacing_mm, config=config), only=only)


def _nothing_in_space(_: Only) -> set[str]:
    return set()


def _nothing_beyond(_: Spacing) -> float:
    return 0.0


def _wavelet_reach_mm(spacing_mm: Spacing) -> float:
    return wavelet_set.MARGIN_PX * spacing_mm[0]


def _ibsi_reach_mm(spacing_mm: Spacing, *, config: IbsiConfig) -> float:
    return reach_mm(config, spacing_mm=spacing_mm)


JUDGED_IBSI_CLASSES = tuple(name for name in ibsi.CLASSES if name not in ("morph", "loc"))
"""Of voxel values in the region: its shape is that of the mask in every image, and the distance of slices is not known here."""


def catalogue_set(config: CatalogueConfig | None = None) -> FeatureSet:
    """The catalogue, by default with its default settings."""
    config = config or CatalogueConfig()
    measure = partial(_measure_catalogue, config=config)
    return FeatureSet(
        name="catalogue",
        features=catalogue.feature_names(),
        extract=partial(_extract, measure=measure),
        extractor=catalogue.EXTRACTOR,
        extractor_version=catalogue.EXTRACTOR_VERSION,
        discretisation=config.discretisation,
        depth=5,
        choose=catalogue.feature_names,
        classes_in_space=catalogue.classes_in_space,
        measure=measure,
        reach_mm=_nothing_beyond,
        of_whole_slices=True,
        config=config,
        ibsi_ids=catalogue.ibsi_ids(),
    )


def ibsi_set(config: IbsiConfig | None = None) -> FeatureSet:
    """IBSI's features after image processing, by default with its default settings."""
    config = config or IbsiConfig()
    measure = partial(_measure_ibsi, config=config)
    return FeatureSet(
        name="ibsi",
        features=ibsi.feature_names(JUDGED_IBSI_CLASSES),
        extract=partial(_extract, measure=measure, only=JUDGED_IBSI_CLASSES),
        extractor=ibsi.EXTRACTOR,
        extractor_version=ibsi.EXTRACTOR_VERSION,
        discretisation=config.discretisation,
        depth=5,
        choose=ibsi.feature_names,
        classes_in_space=partial(ibsi.classes_in_space, config=config),
        measure=measure,
        reach_mm=partial(_ibsi_reach_mm, config=config),
        of_whole_slices=True,
        config=config,
        ibsi_ids=ibsi.ibsi_ids(),
        aggregation_ids=ibsi.aggregation_ids(),
    )


def feature_set_of(name: str, *, catalogue_config: CatalogueConfig, ibsi_config: IbsiConfig) -> FeatureSet:
    """The set of a name in `FEATURE_SETS`; of those with settings, with these."""
    match name:
        case "catalogue":
            return catalogue_set(catalogue_config)
        case "ibsi":
            return ibsi_set(ibsi_config)
        case _:
            return FEATURE_SETS[name]


_PYRADIOMICS_IDS, _PYRADIOMICS_AGGREGATIONS = ibsi_codes(ibsi_columns(pyradiomics.feature_names(), within="2_5D"))
PYRADIOMICS = FeatureSet(
    name="pyradiomics",
    features=_choose_pyradiomics(),
    extract=partial(_extract, measure=_measure_in_plane),
    extractor=pyradiomics.EXTRACTOR,
    extractor_version=pyradiomics.EXTRACTOR_VERSION,
    discretisation=pyradiomics.DISCRETISATION,
    depth=1,
    choose=_choose_pyradiomics,
    classes_in_space=_nothing_in_space,
    measure=_measure_in_plane,
    reach_mm=_nothing_beyond,
    ibsi_ids=_PYRADIOMICS_IDS,
    aggregation_ids=_PYRADIOMICS_AGGREGATIONS,
)
CATALOGUE = catalogue_set()
IBSI = ibsi_set()
_WAVELET_IDS, _WAVELET_AGGREGATIONS = wavelet_set.ibsi_codes()
WAVELET = FeatureSet(
    name="wavelet",
    features=wavelet_set.feature_names(),
    extract=partial(_extract, measure=_measure_wavelet_set),
    extractor=wavelet_set.EXTRACTOR,
    extractor_version=wavelet_set.EXTRACTOR_VERSION,
    discretisation=wavelet_set.DISCRETISATION,
    depth=5,
    choose=wavelet_set.feature_names,
    classes_in_space=wavelet_set.classes_in_space,
    measure=_measure_wavelet_set,
    reach_mm=_wavelet_reach_mm,
    image_types=wavelet_set.IMAGE_TYPES,
    ibsi_ids=_WAVELET_IDS,
    aggregation_ids=_WAVELET_AGGREGATIONS,
)
FEATURE_SETS = {feature_set.name: feature_set for feature_set in (PYRADIOMICS, CATALOGUE, IBSI, WAVELET)}
