"""CCC of radiomic features on validation pairs, by which outputs, trials and models are chosen. No test pair is used."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.patches import MakeSource
from ltdiff.data.rois import random_rois
from ltdiff.data.slice_pairs import MAX_VALIDATION_PAIRS, ValidationPair, read_validation_pairs
from ltdiff.evaluation.concordance import ccc_per_column
from ltdiff.inference.method import Method, SamplingMethod
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.radiomics.parallel import RegionCut, extract_regions

NUM_ROIS = 300
ROI_SEED = 1
"""Not the seed of the regions that an evaluation scores."""
MIN_WIDTH_PX = 32
"""Least width and height of an image for discs to fit into it."""

Image = NDArray[np.float32]
Table = NDArray[np.float64]
"""(regions, features)"""


class ValidationRegions:
    """Random discs on the targets of validation pairs, some on each of those that have room for any."""

    def __init__(self, pairs: Sequence[ValidationPair], *, num_rois: int, num_workers: int = 1) -> None:
        """With `num_workers` so many slices are standardized at a time, by threads, and features extracted by processes."""
        self.pairs, self.num_workers = pairs, num_workers
        self.rois = [
            random_rois(target[None], num_rois=math.ceil(num_rois / len(pairs)), seed=ROI_SEED + number)
            if min(target.shape) >= MIN_WIDTH_PX
            else []
            for number, target in enumerate(pair.target_hu[:, pair.columns] for pair in pairs)
        ]
        self._target: Table | None = None

    @classmethod
    def read(
        cls,
        manifest: pd.DataFrame,
        *,
        split: str = "val",
        num_pairs: int = MAX_VALIDATION_PAIRS,
        num_rois: int = NUM_ROIS,
        num_workers: int = 1,
        make_source: MakeSource | None = None,
    ) -> "ValidationRegions":
        """Draw regions on the pairs of a split; see `read_validation_pairs`.

        Raises:
            ValueError: the split has no pair, or its pairs no room for the two regions that a CCC needs.
        """
        pairs = read_validation_pairs(manifest, split=split, at_most=num_pairs, purpose="validation", make_source=make_source)
        regions = cls(pairs, num_rois=num_rois, num_workers=num_workers)
        if len(regions) < 2:
            raise ValueError(
                f"{len(pairs)} pairs of split {split!r} have room for {len(regions)} of {num_rois} regions, and a CCC needs two: "
                "they cannot be read, are too small, or show air alone"
            )
        return regions

    def __len__(self) -> int:
        return sum(map(len, self.rois))

    @property
    def target(self) -> Table:
        """Features of the targets' regions, measured once."""
        if self._target is None:
            (self._target,) = self.features([[pair.target_hu for pair in self.pairs]])
        return self._target

    def standardize(self, method: Method) -> list[Image]:
        """Standardize each pair's source (Y, X); a slice's noise depends on its number in its series."""

        spacings_mm, numbers = [pair.spacing_mm for pair in self.pairs], [pair.place[1] for pair in self.pairs]
        sources = [pair.source_hu for pair in self.pairs]
        return standardize_slices(method, sources, spacings_mm, numbers=numbers, num_workers=self.num_workers)

    def samples(self, method: SamplingMethod, *, num: int) -> Iterator[list[Image]]:
        """Draw `num` sets of what the targets may be."""
        pairs = self.pairs
        sources, spacings_mm, numbers = zip(*((pair.source_hu, pair.spacing_mm, pair.place[1]) for pair in pairs), strict=True)
        yield from method.samples(sources, spacings_mm, numbers=numbers, num=num, num_workers=self.num_workers)

    def features(self, image_sets: Iterable[Sequence[Image]]) -> NDArray[np.float64]:
        """Measure the features (sets, regions, PYRADIOMICS.features) of sets with an image (Y, X) for each pair."""
        cuts = [cut for images in image_sets for cut in self._cuts(images)]
        rows = extract_regions(cuts, PYRADIOMICS, num_workers=self.num_workers)
        values = [[row[name] for name in PYRADIOMICS.features] for row in rows]
        return np.array(values).reshape(-1, len(self), len(PYRADIOMICS.features))

    def ccc(self, methods: Mapping[str, Method]) -> dict[str, dict[str, float]]:
        """Measure, for each method and class of features, the mean CCC with the target across the regions."""
        values = self.features(self.standardize(method) for method in methods.values())
        return {name: self.ccc_of(of_method) for name, of_method in zip(methods, values, strict=True)}

    def ccc_of(self, values: Table) -> dict[str, float]:
        """Return the mean CCC with the target for each class of features; features without a value (NaN) do not count."""
        ccc = ccc_per_column(values, self.target)
        classes = np.array([name.split("_", 1)[0] for name in PYRADIOMICS.features])
        return {str(name): float(np.nanmean(ccc[classes == name])) for name in np.unique(classes)}

    def _cuts(self, images: Sequence[Image]) -> list[RegionCut]:
        cuts = []
        for image, pair, rois in zip(images, self.pairs, self.rois, strict=True):
            for roi in rois:
                cut = RegionCut.of(image[None, :, pair.columns], roi.volume_mask, pair.spacing_mm)
                cuts.append(cut._replace(hu=cut.hu.copy()))  # not the whole slice is kept
        return cuts


def overall(ccc: Mapping[str, float]) -> float:
    """Average the CCC of all classes, with equal weights."""
    return float(np.mean(list(ccc.values())))
