"""From images to tables: features of every region, CCC, relative error and image metrics of every method.

Images are compared as they are given. What a viewer or a feature extractor will see is whole HU, as DICOM stores
them, inside the range that the target series can store: round and clip before scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd

from ltdiff.data.rois import Roi, VolumeRoi
from ltdiff.evaluation import image_metrics
from ltdiff.evaluation.concordance import Concordance, ccc_across_features, ccc_across_rois, ccc_per_column
from ltdiff.radiomics.feature_sets import PYRADIOMICS, FeatureSet
from ltdiff.radiomics.parallel import RegionCut, extract_regions

SOURCE = "source"  # the method whose features a `Harmonizer` starts from
TARGET = "target"  # the method name of the target's own rows in the feature table
RELATIVE_ERROR_EPSILON = 1e-6  # of features that are 0 in the target
REPRODUCIBLE_CCC = (0.85, 0.90)
CCC_COLUMNS = (
    "method",
    "roi_set",
    "feature_set",
    "feature_class",
    "definition",
    "ccc_mean",
    "ccc_sd",
    "ci_low",
    "ci_high",
    "num_features",
    "num_rois",
)
_DEFINITIONS: dict[str, Callable[..., Concordance]] = {
    "across_rois": ccc_across_rois,
    "across_features": ccc_across_features,
}
_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mae_hu": image_metrics.mae_hu,
    "rmse_hu": image_metrics.rmse_hu,
    "bias_hu": image_metrics.bias_hu,
    "psnr_db": image_metrics.psnr_db,
    "ssim": image_metrics.ssim,
}


@dataclass(frozen=True)
class Scores:
    """The tables of one evaluation.

    `features`: one row per method (and the target), region and feature. `ccc`: CCC_COLUMNS. `feature_ccc`: the CCC
    across regions of each feature. `relative_error`: median over regions and features of a class of
    |f(A') − f(B)| / max(|f(B)|, RELATIVE_ERROR_EPSILON). `image_metrics`: one row per method, over all slices.
    """

    features: pd.DataFrame
    ccc: pd.DataFrame
    feature_ccc: pd.DataFrame
    relative_error: pd.DataFrame
    image_metrics: pd.DataFrame
    rois: tuple[Roi | VolumeRoi, ...]
    feature_set: FeatureSet
    seed: int


class Harmonizer(Protocol):
    """A method that changes features instead of images."""

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Features of the source's regions (rois, features) → as if they were the target's."""


ExtractAll = Callable[[Sequence[RegionCut], FeatureSet], list[dict[str, float]]]
"""Features of many regions, in their order."""


def score(
    images: Mapping[str, np.ndarray],
    *,
    target_hu: np.ndarray,
    spacing_mm: Sequence[float] | np.ndarray,
    rois: Sequence[Roi | VolumeRoi],
    feature_set: FeatureSet = PYRADIOMICS,
    harmonizers: Mapping[str, Harmonizer] | None = None,
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = False,
    extract_all: ExtractAll | None = None,
) -> Scores:
    """Score each method's `images` (Z, Y, X) against `target_hu` (Z, Y, X), all in HU, on the same `rois`.

    `harmonizers` get the features of the images called SOURCE; they have no image metrics.

    `spacing_mm` is (between rows, between columns), one for all slices or one row per slice (Z, 2). `seed` is that of
    the bootstrap. With `num_workers` > 1 features are extracted in that many processes, or by `extract_all` wherever it does
    so; the result is the same.
    ValueError for a method whose images have another shape or values that are not finite, for regions of another
    shape, and when there are no regions.
    """
    _check_rois(rois, target_hu)
    spacings_mm = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (len(target_hu), 2))
    for method, image_hu in images.items():
        _check_images(method, image_hu, target_hu)
    volumes = {TARGET: target_hu, **images}
    regions = [_region(volume, roi, spacings_mm) for volume in volumes.values() for roi in rois]
    extract_all = extract_all or partial(extract_regions, num_workers=num_workers, progress=progress)
    rows = extract_all(regions, feature_set)
    for harmonizer in (harmonizers or {}).values():
        first = list(volumes).index(SOURCE) * len(rois)
        harmonized = harmonizer.harmonize(pd.DataFrame(rows[first : first + len(rois)]))
        rows += [{str(key): float(value) for key, value in row.items()} for row in harmonized.to_dict("records")]
    features = _feature_table([*volumes, *(harmonizers or {})], rois, rows, feature_set=feature_set.name)
    return Scores(
        features=features,
        ccc=_ccc_table(features, seed=seed),
        feature_ccc=_feature_ccc_table(features),
        relative_error=_relative_error_table(features),
        image_metrics=_image_metrics_table(images, target_hu),
        rois=tuple(rois),
        feature_set=feature_set,
        seed=seed,
    )


def feature_array(
    volumes: Sequence[np.ndarray],
    *,
    rois: Sequence[Roi],
    spacing_mm: Sequence[float] | np.ndarray,
    num_workers: int = 1,
    progress: bool = False,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features (volumes, rois, features) of N volumes (Z, Y, X) in HU, and their names. See `score`."""
    spacings_mm = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (len(volumes[0]), 2))
    regions = [_region(volume, roi, spacings_mm) for volume in volumes for roi in rois]
    rows = extract_regions(regions, PYRADIOMICS, num_workers=num_workers, progress=progress)
    values = np.array([list(row.values()) for row in rows]).reshape(len(volumes), len(rois), -1)
    return values, tuple(rows[0])


def reproducible_shares(feature_ccc: pd.DataFrame) -> pd.DataFrame:
    """Share of the features with a CCC of at least each of REPRODUCIBLE_CCC, per method, roi_set and class."""
    defined = feature_ccc.dropna(subset="ccc")
    shares = {f"ccc_from_{least:.2f}": defined["ccc"] >= least for least in REPRODUCIBLE_CCC}
    keys = ["method", "roi_set", "feature_class"]
    return defined.assign(**shares).groupby(keys, sort=False)[list(shares)].mean().reset_index()


def _check_images(method: str, image_hu: np.ndarray, target_hu: np.ndarray) -> None:
    if method == TARGET:
        raise ValueError(f'A method cannot be called "{TARGET}".')
    if image_hu.shape != target_hu.shape:
        raise ValueError(f"The images of {method} have the shape {image_hu.shape}, the target's {target_hu.shape}.")
    if not np.isfinite(image_hu).all():
        raise ValueError(f"The images of {method} hold values that are not finite.")


def _check_rois(rois: Sequence[Roi | VolumeRoi], target_hu: np.ndarray) -> None:
    if not rois:
        raise ValueError("There are no regions of interest to score.")
    num_slices, *size = target_hu.shape
    for roi in rois:
        depth, *plane = roi.volume_mask.shape
        if plane != size or not 0 <= roi.slice_index <= num_slices - depth:
            raise ValueError(
                f"The {roi.roi_set} region {roi.label} of slice {roi.slice_index}, {roi.volume_mask.shape} pixels, "
                f"does not lie in the {num_slices} slices of {tuple(size)} pixels."
            )


def _region(volume_hu: np.ndarray, roi: Roi | VolumeRoi, spacings_mm: np.ndarray) -> RegionCut:
    mask = roi.volume_mask
    spacing_y, spacing_x = spacings_mm[roi.slice_index]
    hu = volume_hu[roi.slice_index : roi.slice_index + len(mask)]
    return RegionCut.of(hu, mask, (float(spacing_y), float(spacing_x)))


def _feature_table(
    methods: Sequence[str], rois: Sequence[Roi | VolumeRoi], rows: Sequence[dict[str, float]], *, feature_set: str
) -> pd.DataFrame:
    """Long table, feature after feature; `roi_index` counts all regions and is the same for every method.

    Texts are categories: with the whole catalogue the table has millions of rows.
    """
    names = list(rows[0])
    keys = pd.DataFrame(
        [(method, i, roi.roi_set, roi.slice_index, roi.label) for method in methods for i, roi in enumerate(rois)],
        columns=["method", "roi_index", "roi_set", "slice_index", "label"],
    )
    keys = keys.astype(dict.fromkeys(("method", "roi_set", "label"), "category"))
    table = keys.iloc[np.tile(np.arange(len(keys)), len(names))].reset_index(drop=True)
    splits = pd.DataFrame(
        [name.split("_", 1) for name in names], columns=["feature_class", "feature"], dtype="category"
    )
    return table.assign(
        value=np.array([[row[name] for row in rows] for name in names]).ravel(),
        feature_set=pd.Categorical([feature_set]).repeat(len(table)),
        feature_class=splits["feature_class"].array.repeat(len(rows)),
        feature=splits["feature"].array.repeat(len(rows)),
    )


def _matrices(features: pd.DataFrame) -> Iterator[tuple[dict[str, str], np.ndarray, np.ndarray, list[str]]]:
    """Per method, roi_set and class: the keys, the method's and the target's values (rois, features), feature names."""
    methods = [method for method in features["method"].unique() if method != TARGET]
    (feature_set,) = features["feature_set"].unique()
    for roi_set in features["roi_set"].unique():
        of_set = features[features["roi_set"] == roi_set]
        for feature_class in features["feature_class"].unique():
            of_class = of_set[of_set["feature_class"] == feature_class]
            wide = of_class.pivot(index=["method", "roi_index"], columns="feature", values="value")
            target, names = wide.loc[TARGET].to_numpy(), list(wide.columns)
            for method in methods:
                keys = {"method": method, "roi_set": roi_set, "feature_set": feature_set}
                yield {**keys, "feature_class": feature_class}, wide.loc[method].to_numpy(), target, names


def _ccc_table(features: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    rows = []
    for keys, values, target, _ in _matrices(features):
        for definition, concordance in _DEFINITIONS.items():
            result = asdict(concordance(values, target, seed=seed))
            mean, sd = result.pop("mean"), result.pop("sd")
            rows.append({**keys, "definition": definition, "ccc_mean": mean, "ccc_sd": sd, **result})
    return pd.DataFrame(rows, columns=list(CCC_COLUMNS))


def _feature_ccc_table(features: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {**keys, "feature": name, "ccc": value}
        for keys, values, target, names in _matrices(features)
        for name, value in zip(names, ccc_per_column(values, target), strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "roi_set", "feature_set", "feature_class", "feature", "ccc"])


def _relative_error_table(features: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for keys, values, target, _ in _matrices(features):
        errors = np.abs(values - target) / np.maximum(np.abs(target), RELATIVE_ERROR_EPSILON)
        defined = np.isfinite(errors)
        median = float(np.median(errors[defined])) if defined.any() else float("nan")
        counts = {"num_features": int(defined.any(axis=0).sum()), "num_rois": int(defined.any(axis=1).sum())}
        rows.append({**keys, "relative_error_median": median, **counts})
    columns = [*CCC_COLUMNS[:4], "relative_error_median", "num_features", "num_rois"]
    return pd.DataFrame(rows, columns=columns)


def _image_metrics_table(images: Mapping[str, np.ndarray], target_hu: np.ndarray) -> pd.DataFrame:
    rows = [
        {"method": method, **{name: metric(image_hu, target_hu) for name, metric in _METRICS.items()}}
        for method, image_hu in images.items()
    ]
    return pd.DataFrame(rows, columns=["method", *_METRICS])
