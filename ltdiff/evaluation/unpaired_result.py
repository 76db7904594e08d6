"""All that an evaluation without pairs measured: one table of the source before, of every method after, and of the floor.

The floor is what two halves of the target's own patients (or of the slices of one) differ by.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.rois import Roi
from ltdiff.evaluation.anatomy_kept import content_kept, structures_kept
from ltdiff.evaluation.feature_sample import FeatureSample
from ltdiff.evaluation.feature_values import TARGET, ExtractAll, feature_array
from ltdiff.evaluation.identifiability import UNKNOWN, Identifiability, identifiability
from ltdiff.evaluation.protocol_distance import measure_protocol, protocol_curves, protocol_distance
from ltdiff.evaluation.radiomic_distance import radiomic_distance
from ltdiff.evaluation.scoring import SOURCE, Harmonizer, describe_scoring
from ltdiff.evaluation.unpaired_endpoints import summarize_groups
from ltdiff.evaluation.unpaired_set import UnpairedSet
from ltdiff.inference.method import Slices
from ltdiff.radiomics.feature_sets import FEATURE_SETS

FeatureTable = NDArray[np.float64]

MIN_PATIENTS = 4
"""Of a target whose halves have two each, one to train on and one to be asked about."""


@dataclass(frozen=True)
class UnpairedResult:
    """All `tables` by the names of their files; and what a reader is shown and told.

    `planes_hu` are the slice (Y, X) of the region `shown` by method, the source's among them; `target_hu` is a slice of the
    target, of whoever. `facts` hold nothing that tells who a patient is.
    """

    tables: dict[str, pd.DataFrame]
    features: pd.DataFrame
    shown: Roi
    planes_hu: dict[str, Slices]
    target_hu: Slices
    facts: dict[str, Any]


def collect_unpaired_result(
    images: Mapping[str, Slices],
    *,
    unpaired_set: UnpairedSet,
    harmonizers: Mapping[str, Harmonizer],
    endpoints: pd.DataFrame,
    facts: Mapping[str, Any],
    extract_all: ExtractAll | None = None,
) -> UnpairedResult:
    """The result for `images` (N, Y, X) of the source's slices by method, the source's own among them, called SOURCE.

    `endpoints` is a table of `group_endpoints`.
    """
    source, target = unpaired_set.source, unpaired_set.target
    features = measure_features(images, unpaired_set, harmonizers, extract_all)
    halves = [target.select(unpaired_set.halves == half) for half in np.unique(unpaired_set.halves)]
    ensembles = [*((hu, source.spacings_mm) for hu in images.values()), *((one.hu, one.spacings_mm) for one in (target, *halves))]
    standardized = {name: hu for name, hu in images.items() if name != SOURCE}
    with ThreadPoolExecutor(unpaired_set.config.num_workers) as pool:  # SciPy's filters let another thread compute
        measured = pool.map(measure_protocol, *zip(*ensembles, strict=True))
        kept = pool.submit(content_kept, standardized, source_hu=source.hu, spacings_mm=source.spacings_mm)
        of_structures = pool.submit(
            structures_kept,
            standardized,
            source_hu=source.hu,
            spacings_mm=source.spacings_mm,
            lesions=unpaired_set.lesions,
            neighbours=unpaired_set.neighbours,
        )
        measures = dict(zip(images, measured, strict=False))
        of_target, *of_halves = measured
        content, structures = kept.result(), of_structures.result()
    floor = [protocol_distance(*of_halves)] if len(of_halves) == 2 else []
    rows = [{"method": name, **protocol_distance(measure, of_target)} for name, measure in measures.items()]
    protocols = pd.DataFrame(rows + [{"method": TARGET, **distances} for distances in floor])
    table = compare_features(features, unpaired_set).merge(protocols, on="method", how="left")
    shown = unpaired_set.shown
    return UnpairedResult(
        tables={
            "unpaired": table.merge(content, on="method", how="left"),
            "unpaired_structures": structures,
            "unpaired_curves": protocol_curves(measures, of_target),
            "unpaired_endpoints": endpoints,
            "unpaired_endpoint_groups": summarize_groups(endpoints),
            "unpaired_slices": pd.concat(
                [one.places.drop(columns="patient").assign(role=role) for role, one in (("source", source), ("target", target))]
            ),
        },
        features=_feature_table(features, unpaired_set),
        shown=shown,
        planes_hu={method: volume[shown.slice_index] for method, volume in images.items()},
        target_hu=target.hu[len(target.hu) // 2],
        facts={
            **describe_scoring(FEATURE_SETS[unpaired_set.config.features], seed=unpaired_set.config.seed),
            **unpaired_set.facts,
            "num_unpaired_rois": len(unpaired_set.source_rois),
            **facts,
        },
    )


def measure_features(
    images: Mapping[str, Slices],
    unpaired_set: UnpairedSet,
    harmonizers: Mapping[str, Harmonizer] | None = None,
    extract_all: ExtractAll | None = None,
) -> dict[str, FeatureTable]:
    """Features (regions, features) of every method's images, of those that change features (of SOURCE), and of the target."""
    config = unpaired_set.config
    names: list[str] = []
    values: dict[str, FeatureTable] = {}
    for of_side, ensemble, rois in (
        (images, unpaired_set.source, unpaired_set.source_rois),
        ({TARGET: unpaired_set.target.hu}, unpaired_set.target, unpaired_set.target_rois),
    ):
        of_rois, found = feature_array(
            list(of_side.values()),
            rois=rois,
            spacing_mm=ensemble.spacings_mm,
            feature_set=FEATURE_SETS[config.features],
            num_workers=config.num_workers,
            extract_all=extract_all,
        )
        values |= dict(zip(of_side, of_rois, strict=True))
        names = list(found)
    harmonized = {
        name: harmonizer.harmonize(pd.DataFrame(values[SOURCE], columns=names))[names].to_numpy(float)
        for name, harmonizer in (harmonizers or {}).items()
    }
    return {**{name: values[name] for name in images}, **harmonized, TARGET: values[TARGET]}


def identify_source(features: Mapping[str, FeatureTable], unpaired_set: UnpairedSet) -> dict[str, Identifiability]:
    """How well the source can be told from the target by its `features` (of `measure_features`), for every method."""
    target, seed = FeatureSample(features[TARGET], unpaired_set.target_groups), unpaired_set.config.seed
    return {
        name: identifiability(FeatureSample(values, unpaired_set.source_groups), target, seed=seed)
        for name, values in features.items()
        if name != TARGET
    }


def compare_features(features: Mapping[str, FeatureTable], unpaired_set: UnpairedSet) -> pd.DataFrame:
    """Columns method, auc, auc_low, auc_high and frd; the row TARGET is the floor.

    The FRD is the mean of those to the two halves, which have as many regions as the source. The floor has no AUC where a half
    shows one patient and the other another: it would be that of telling patients apart.
    """
    slices = np.array([roi.slice_index for roi in unpaired_set.target_rois])
    target = FeatureSample(features[TARGET], unpaired_set.target_groups)
    of_halves = unpaired_set.halves[slices]
    halves = []
    for half in np.unique(of_halves):
        groups = np.zeros(len(unpaired_set.halves), int)
        chosen = unpaired_set.halves == half
        groups[chosen] = unpaired_set.target.select(chosen).groups  # of a single patient smaller blocks
        halves.append(FeatureSample(features[TARGET], groups[slices]).select(of_halves == half))
    rows = []
    for name, told in identify_source(features, unpaired_set).items():
        sample = FeatureSample(features[name], unpaired_set.source_groups)
        rows.append((name, *told, float(np.mean([radiomic_distance(sample, half, reference=target) for half in halves]))))
    if len(halves) == 2:
        tells_patients = 1 < unpaired_set.target.places["patient"].nunique() < MIN_PATIENTS
        told = UNKNOWN if tells_patients else identifiability(*halves, seed=unpaired_set.config.seed)
        rows.append((TARGET, *told, radiomic_distance(*halves, reference=target)))
    return pd.DataFrame(rows, columns=["method", "auc", "auc_low", "auc_high", "frd"])


def _feature_table(features: Mapping[str, FeatureTable], unpaired_set: UnpairedSet) -> pd.DataFrame:
    """One row per method and region: its content class, slice and label, and its features."""
    names = list(FEATURE_SETS[unpaired_set.config.features].features)
    tables = []
    for name, values in features.items():
        rois = unpaired_set.target_rois if name == TARGET else unpaired_set.source_rois
        regions = pd.DataFrame([(name, roi.roi_set, roi.slice_index, roi.label) for roi in rois])
        regions.columns = ["method", "roi_set", "slice_index", "label"]
        tables.append(pd.concat([regions, pd.DataFrame(values, columns=names)], axis=1))
    return pd.concat(tables, ignore_index=True)
