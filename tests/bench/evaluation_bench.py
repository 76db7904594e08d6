"""From the array of features to all tables on the disk, intervals included; one core."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import Benchmark, seconds, state

from ltdiff.data.rois import Roi
from ltdiff.evaluation.error_ratio import largest_shares, remaining_error_ratios
from ltdiff.evaluation.feature_values import TARGET, FeatureArray
from ltdiff.evaluation.paper import GROUPS, group_ccc
from ltdiff.evaluation.scoring import feature_tables, reproducible_shares
from ltdiff.radiomics.feature_sets import CATALOGUE

NUM_SETS, NUM_SLICES = 5, 20
UNDEFINED = 0.01
"""Share of the features that a region does not define."""


def make_features(*, num_methods: int, num_rois: int, num_features: int) -> FeatureArray:
    """Features over eleven orders of magnitude, and methods of which each is worse than the one before."""
    rng = np.random.default_rng(0)
    rois = tuple(Roi(f"set{i * NUM_SETS // num_rois}", i % NUM_SLICES, None, f"region{i}") for i in range(num_rois))
    classes = [name for group in GROUPS.values() for name in group]
    names = tuple(f"{classes[i * len(classes) // num_features]}_F{i}" for i in range(num_features))
    target = rng.normal(10, 3, (num_rois, num_features)) * 10.0 ** rng.integers(-3, 8, num_features)
    values = np.stack([target * rng.normal(1, 0.02 * k, target.shape) for k in range(num_methods)])
    values[:, rng.random(target.shape) < UNDEFINED] = np.nan
    methods = (TARGET, *(f"method{k}" for k in range(1, num_methods)))
    return FeatureArray(values, methods, rois, replace(CATALOGUE, features=names))


def write_tables(features: FeatureArray, folder: Path) -> None:
    """All tables of a comparison that are computed from features."""
    ccc, feature_ccc, relative_error = feature_tables(features, seed=0)
    tables = [
        ccc,
        feature_ccc,
        relative_error,
        reproducible_shares(feature_ccc),
        group_ccc(feature_ccc),
        remaining_error_ratios(features, method="method1"),
        largest_shares(features),
    ]
    for number, table in enumerate(tables):
        table.to_csv(folder / f"{number}.csv", index=False)
    features.to_table().to_parquet(folder / "features.parquet", index=False)


def benchmarks() -> list[Benchmark]:
    """A comparison of many methods, and one by the whole catalogue."""
    rows = []
    for num_methods, num_rois, num_features in ((12, 500, 100), (4, 400, 1450)):
        features = make_features(num_methods=num_methods, num_rois=num_rois, num_features=num_features)
        with TemporaryDirectory() as folder:
            write = partial(write_tables, features, Path(folder))
            rates = [features.values.size / seconds(write) for _ in range(6)][1:]
        rows.append(state(f"tables of {num_methods} × {num_rois} × {num_features} features", rates, unit="values/s"))
    return rows
