"""From images to tables: features of every region, CCC, relative error and image metrics of every method.

Images are compared as they are given. What a viewer or a feature extractor will see is whole HU, as DICOM stores
them, inside the range that the target series can store: round and clip before scoring.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import ltdiff
from ltdiff.data.rois import RoiSummary
from ltdiff.evaluation import concordance
from ltdiff.evaluation.concordance import Concordance, Values, ccc_across_features, ccc_across_rois, ccc_per_column
from ltdiff.evaluation.feature_values import REPEAT, TARGET, ExtractAll, FeatureArray, RegionsOfScan, feature_arrays
from ltdiff.evaluation.image_metrics import ImageMetrics
from ltdiff.evaluation.scored_scan import ScanImages
from ltdiff.inference.method import SamplingMethod, Slices
from ltdiff.radiomics.feature_sets import PYRADIOMICS, FeatureSet

SOURCE = "source"
"""The method whose features a `Harmonizer` starts from."""
RELATIVE_ERROR_EPSILON = 1e-6
"""Least denominator of a relative error: of features that are 0 in the target."""
REPRODUCIBLE_CCC = (0.85, 0.90)
_KEYS = ("method", "roi_set", "feature_set", "feature_class")
CCC_COLUMNS = (*_KEYS, "definition", "ccc_mean", "ccc_sd", "ci_low", "ci_high", "num_features", "num_rois")
_DEFINITIONS: dict[str, Callable[..., Concordance]] = {"across_rois": ccc_across_rois, "across_features": ccc_across_features}


@dataclass(frozen=True)
class Scores:
    """The tables of one evaluation, and the features that they were computed from.

    `ccc`: CCC_COLUMNS. `feature_ccc`: the CCC across regions of each feature. `relative_error`: median over regions and
    features of a class of |f(A') − f(B)| / max(|f(B)|, RELATIVE_ERROR_EPSILON). `image_metrics`: one row per method, over all
    slices.
    """

    features: FeatureArray
    ccc: pd.DataFrame
    feature_ccc: pd.DataFrame
    relative_error: pd.DataFrame
    image_metrics: pd.DataFrame
    seed: int

    @property
    def provenance(self) -> dict[str, Any]:
        """What a reader needs to repeat the scoring: versions, conventions, counts and the bootstrap's seed."""
        counts = dict(Counter(roi.roi_set for roi in self.features.rois))
        return {**describe_scoring(self.features.feature_set, seed=self.seed), "num_rois": counts}


def describe_scoring(feature_set: FeatureSet, *, seed: int) -> dict[str, Any]:
    """Versions and conventions of the features, and the bootstrap with its seed."""
    return {
        "ltdiff_version": ltdiff.__version__,
        "feature_set": feature_set.name,
        "extractor": feature_set.extractor,
        "extractor_version": feature_set.extractor_version,
        "discretisation": feature_set.discretisation,
        "bootstrap_seed": seed,
        "bootstrap_resamples": concordance.NUM_RESAMPLES,
        "confidence": concordance.CONFIDENCE,
    }


class Harmonizer(Protocol):
    """A method that changes features instead of images."""

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Features of the source's regions (rois, features) → as if they were the target's."""


@dataclass(frozen=True)
class Expectation:
    """The best estimate of the target's features where a part of its noise is random: their mean over samples.

    No image has these features: of the mean image, which lacks noise, they are off, and those of one sample differ from it by
    chance.
    """

    NUM_SAMPLES = 8

    method: SamplingMethod

    def samples(
        self, sources: Slices, spacings_mm: NDArray[np.float64], numbers: Sequence[int] | NDArray[np.int64], *, num_workers: int
    ) -> Iterator[Slices]:
        """Volumes (Z, Y, X) that the targets of sources (Z, Y, X) may be; PixelSpacings (Z, 2), slice numbers (Z,)."""
        draws = self.method.samples(sources, spacings_mm, numbers=list(numbers), num=self.NUM_SAMPLES, num_workers=num_workers)
        yield from map(np.stack, draws)


def score(
    scans: Iterable[ScanImages],
    *,
    feature_set: FeatureSet = PYRADIOMICS,
    harmonizers: Mapping[str, Harmonizer] | None = None,
    expectations: Mapping[str, Expectation] | None = None,
    seed: int = 0,
    num_workers: int = 1,
    extract_all: ExtractAll | None = None,
) -> Scores:
    """Score the images of each method, the same in all scans, against the target on the regions of each scan.

    One scan is in memory at a time. `harmonizers` get the features of the images called SOURCE; they have no image metrics, and
    neither have `expectations`. Where targets were scanned again, REPEAT is in the tables of features.

    `seed` is that of the bootstrap. With `num_workers` > 1 features are extracted in that many processes, or by `extract_all`
    wherever it does so; the result is the same.

    Raises:
        ValueError: images with values that are not finite.
    """
    measured = _Measured(expectations or {}, num_workers=num_workers)
    parts = feature_arrays(map(measured.take, scans), feature_set=feature_set, num_workers=num_workers, extract_all=extract_all)
    assert measured.regions, "there are no regions to score"
    order = np.argsort(measured.ranks, kind="stable")
    values = np.concatenate([measured.average_samples(part) for part in parts if part.size], axis=1)[:, order]
    methods, names = measured.methods, list(feature_set.features)
    for name, harmonizer in (harmonizers or {}).items():
        harmonized = harmonizer.harmonize(pd.DataFrame(values[methods.index(SOURCE)], columns=names))
        values = np.concatenate([values, harmonized[names].to_numpy(float)[None]])
        methods.append(name)
    features = FeatureArray(values, tuple(methods), tuple(measured.regions[i] for i in order), feature_set)
    metrics = [{"method": name, **of_method.result()} for name, of_method in measured.metrics.items()]
    return Scores(features, *feature_tables(features, seed=seed), pd.DataFrame(metrics), seed)


class _Measured:
    """What is known of the scans that have passed, but for their features."""

    def __init__(self, expectations: Mapping[str, Expectation], *, num_workers: int) -> None:
        self.expectations, self.num_workers = expectations, num_workers
        self.metrics: dict[str, ImageMetrics] = defaultdict(ImageMetrics)
        self.methods: list[str] = []
        self.regions: list[RoiSummary] = []
        self.ranks: list[int] = []

    def take(self, one: ScanImages) -> RegionsOfScan:
        """Measure whole images; return what features are to be extracted from: target, images, repeat and samples."""
        scan, images = one
        assert images.keys().isdisjoint((TARGET, REPEAT)), f"no method may be called {TARGET} or {REPEAT}"
        for method, image_hu in images.items():
            if not np.isfinite(image_hu).all():
                raise ValueError(f"the images of {method} hold values that are not finite")
            self.metrics[method].add(image_hu, scan.target_hu)
        repeats = {} if scan.repeat_hu is None else {REPEAT: scan.repeat_hu}
        self.methods = [TARGET, *images, *repeats, *self.expectations]
        self.regions += [RoiSummary.of(roi, first=scan.first) for roi in scan.scored]
        self.ranks += scan.ranks
        samples = chain.from_iterable(
            expected.samples(images[SOURCE], scan.spacings_mm, scan.slice_numbers, num_workers=self.num_workers)
            for expected in self.expectations.values()
        )
        volumes = chain([scan.target_hu], images.values(), repeats.values(), samples)
        return RegionsOfScan(volumes if scan.scored else (), scan.scored, scan.spacings_mm)

    def average_samples(self, values: Values) -> Values:
        """Values (volumes, regions, features) → (methods, regions, features)."""
        num_images = len(self.methods) - len(self.expectations)
        of_samples = values[num_images:].reshape(len(self.expectations), Expectation.NUM_SAMPLES, *values.shape[1:])
        return np.concatenate([values[:num_images], of_samples.mean(axis=1)])


def feature_tables(features: FeatureArray, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables `ccc`, `feature_ccc` and `relative_error` of `Scores`."""
    ccc, feature_ccc, errors = [], [], []
    for block in features.blocks():
        for method, values in block.values.items():
            keys = (method, block.roi_set, features.feature_set.name, block.feature_class)
            for definition, of_class in _DEFINITIONS.items():
                ccc.append((*keys, definition, *astuple(of_class(values, block.target, seed=seed))))
            feature_ccc += [(*keys, *row) for row in zip(block.features, ccc_per_column(values, block.target), strict=True)]
            errors.append((*keys, *_relative_error(values, block.target)))
    return (
        pd.DataFrame(ccc, columns=list(CCC_COLUMNS)),
        pd.DataFrame(feature_ccc, columns=[*_KEYS, "feature", "ccc"]),
        pd.DataFrame(errors, columns=[*_KEYS, "relative_error_median", "num_features", "num_rois"]),
    )


def _relative_error(values: Values, target: Values) -> tuple[float, int, int]:
    """The median, and how many features and regions entered."""
    errors = np.abs(values - target) / np.maximum(np.abs(target), RELATIVE_ERROR_EPSILON)
    defined = np.isfinite(errors)
    median = float(np.median(errors[defined])) if defined.any() else float("nan")
    return median, int(defined.any(axis=0).sum()), int(defined.any(axis=1).sum())


def reproducible_shares(feature_ccc: pd.DataFrame) -> pd.DataFrame:
    """Share of the features with a CCC of at least each of REPRODUCIBLE_CCC, per method, roi_set and class."""
    defined = feature_ccc.dropna(subset="ccc")
    shares = {f"ccc_from_{least:.2f}": defined["ccc"] >= least for least in REPRODUCIBLE_CCC}
    keys = ["method", "roi_set", "feature_class"]
    return defined.assign(**shares).groupby(keys, sort=False)[list(shares)].mean().reset_index()
