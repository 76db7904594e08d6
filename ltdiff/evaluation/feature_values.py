"""Features of every region in the images of every method, as one array from which all tables are computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.rois import Roi, RoiSummary, VolumeRoi
from ltdiff.evaluation.concordance import Values
from ltdiff.inference.method import Slices
from ltdiff.radiomics.feature_sets import PYRADIOMICS, FeatureSet
from ltdiff.radiomics.parallel import RegionCut, extract_regions

TARGET = "target"
"""The name of the target among the methods."""
REPEAT = "repeat"
"""That of the target scanned again: what it differs from the target by is noise."""

ExtractAll = Callable[[Iterable[RegionCut], FeatureSet], Iterable[dict[str, float]]]
"""Features of many regions, in their order; regions are taken as they are needed."""


class FeatureBlock(NamedTuple):
    """Features of one class in the regions of one set: `target` and the `values` of each method, (rois, features)."""

    roi_set: str
    feature_class: str
    features: list[str]
    rois: list[RoiSummary]
    target: Values
    values: dict[str, Values]


@dataclass(frozen=True, eq=False)
class FeatureArray:
    """`values` (methods, rois, features), TARGET among the methods."""

    values: Values
    methods: tuple[str, ...]
    rois: tuple[RoiSummary, ...]
    feature_set: FeatureSet

    @property
    def features(self) -> list[tuple[str, str]]:
        """Class and name of each feature."""
        return [(key.split("_", 1)[0], key.split("_", 1)[1]) for key in self.feature_set.features]

    def blocks(self) -> Iterator[FeatureBlock]:
        """Each set of regions with each class of features, in the order in which they appear."""
        roi_sets = [roi.roi_set for roi in self.rois]
        classes, names = zip(*self.features, strict=True)
        for roi_set in dict.fromkeys(roi_sets):
            rows = [i for i, name in enumerate(roi_sets) if name == roi_set]
            of_set = self.values[:, rows]
            for feature_class in dict.fromkeys(classes):
                columns = [i for i, name in enumerate(classes) if name == feature_class]
                values = dict(zip(self.methods, of_set[:, :, columns], strict=True))
                yield FeatureBlock(
                    roi_set,
                    feature_class,
                    features=[names[i] for i in columns],
                    rois=[self.rois[i] for i in rows],
                    target=values.pop(TARGET),
                    values=values,
                )

    def to_table(self) -> pd.DataFrame:
        """One row per feature, method and region; `roi_index` numbers the regions, and texts are categories."""
        feature, method, roi = (index.ravel() for index in np.indices((self.values.shape[2], *self.values.shape[:2])))
        classes, names = zip(*self.features, strict=True)
        return pd.DataFrame(
            {
                "method": _categories(self.methods, method),
                "roi_index": roi,
                "roi_set": _categories([each.roi_set for each in self.rois], roi),
                "slice_index": np.array([each.slice_index for each in self.rois])[roi],
                "label": _categories([each.label for each in self.rois], roi),
                "value": np.moveaxis(self.values, 2, 0).ravel(),
                "feature_set": _categories([self.feature_set.name], np.zeros_like(feature)),
                "feature_class": _categories(classes, feature),
                "feature": _categories(names, feature),
            }
        )


def _categories(texts: Sequence[str], index: NDArray[np.int64]) -> pd.Categorical:
    codes, categories = pd.factorize(pd.Index(texts))
    return pd.Categorical.from_codes(codes[index], categories)


def feature_array(
    volumes: Iterable[Slices],
    *,
    rois: Sequence[Roi | VolumeRoi],
    spacing_mm: Sequence[float] | NDArray[np.float64],
    feature_set: FeatureSet = PYRADIOMICS,
    num_workers: int = 1,
    extract_all: ExtractAll | None = None,
) -> tuple[Values, tuple[str, ...]]:
    """Features (volumes, rois, features) of N volumes (Z, Y, X) in HU, and their names. One volume is in memory at a time.

    `spacing_mm` is (y, x), one for all slices or one row per slice (Z, 2). Features are extracted by `num_workers` processes, or
    by `extract_all`. A region in slices that a volume lacks (NaN) has none: NaN.
    """
    volumes_of_scan = [RegionsOfScan(volumes, rois, np.asarray(spacing_mm, float))]
    (values,) = feature_arrays(volumes_of_scan, feature_set=feature_set, num_workers=num_workers, extract_all=extract_all)
    return values, feature_set.features


class RegionsOfScan(NamedTuple):
    """Volumes (Z, Y, X) in HU of one scan, and regions of all of them; `spacings_mm` as in `feature_array`."""

    volumes: Iterable[Slices]
    rois: Sequence[Roi | VolumeRoi]
    spacings_mm: NDArray[np.float64]


def feature_arrays(
    scans: Iterable[RegionsOfScan],
    *,
    feature_set: FeatureSet = PYRADIOMICS,
    num_workers: int = 1,
    extract_all: ExtractAll | None = None,
) -> list[Values]:
    """For each scan what `feature_array` gives of it. One volume of one scan is in memory at a time, and regions in hand."""
    extract_all = extract_all or partial(extract_regions, num_workers=num_workers)
    shapes: list[tuple[int, int]] = []  # volumes and regions of each scan
    there: list[bool] = []

    def cut(scan: RegionsOfScan) -> Iterator[RegionCut]:
        num_volumes = 0
        for volume in scan.volumes:
            num_volumes += 1
            for roi in scan.rois:
                region = _region(volume, roi, scan.spacings_mm)
                there.append(not np.isnan(region.hu).any())
                if there[-1]:
                    yield region
        shapes.append((num_volumes, len(scan.rois)))

    rows = extract_all(chain.from_iterable(map(cut, scans)), feature_set)
    known = [np.array([row[name] for name in feature_set.features]) for row in rows]
    values = np.full((len(there), len(feature_set.features)), np.nan)
    if known:
        values[there] = known
    parts = np.split(values, np.cumsum([num_volumes * num_rois for num_volumes, num_rois in shapes])[:-1])
    return [part.reshape(*shape, len(feature_set.features)) for part, shape in zip(parts, shapes, strict=True)]


def _region(volume_hu: Slices, roi: Roi | VolumeRoi, spacing_mm: Sequence[float] | NDArray[np.float64]) -> RegionCut:
    mask = roi.volume_mask
    hu = volume_hu[roi.slice_index : roi.slice_index + len(mask)]
    assert hu.shape == mask.shape, f"the {roi.roi_set} region {roi.label} of slice {roi.slice_index} lies outside the images"
    spacing_y, spacing_x = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (len(volume_hu), 2))[roi.slice_index]
    cut = RegionCut.of(hu, mask, (float(spacing_y), float(spacing_x)))
    return cut._replace(hu=cut.hu.copy())
