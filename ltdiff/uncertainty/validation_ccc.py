"""CCC of radiomic features on validation pairs: what outputs, trials and models are chosen by. No test pair is looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ltdiff.data.rois import Roi, random_rois
from ltdiff.data.slice_pairs import ValidationPair
from ltdiff.evaluation.concordance import ccc_per_column
from ltdiff.inference.method import Method
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.radiomics.parallel import RegionCut, extract_regions

NUM_ROIS = 300
ROI_SEED = 1
"""Not the seed of the regions that an evaluation scores."""
MIN_WIDTH_PX = 32
"""Of what validates, for discs to fit into it."""


class ValidationRegions:
    """Random discs on the targets of validation pairs, some on each of those that have room for any."""

    def __init__(self, pairs: Sequence[ValidationPair], *, num_rois: int, num_workers: int = 1) -> None:
        self.num_workers = num_workers
        self.places: list[tuple[int, ValidationPair, list[Roi]]] = []
        for number, pair in enumerate(pairs):
            target_hu = _seen(pair, pair.target_hu[None])
            if min(target_hu.shape[1:]) >= MIN_WIDTH_PX:
                num_of_pair = math.ceil(num_rois / len(pairs))
                rois = random_rois(target_hu, num_rois=num_of_pair, seed=ROI_SEED + number)
                self.places.append((number, pair, rois))
        self._target: np.ndarray | None = None  # features (regions, features), once measured
        self._classes = np.array([])

    def __len__(self) -> int:
        """How many there are."""
        return sum(len(rois) for _, _, rois in self.places)

    def ccc(self, methods: Mapping[str, Method]) -> dict[str, dict[str, float]]:
        """For each method and each class of features the mean CCC with the target, by features across the regions."""
        cuts = [cut for method in methods.values() for cut in self._cuts(method)]
        is_first = self._target is None
        rows = extract_regions((self._cuts(None) if is_first else []) + cuts, PYRADIOMICS, num_workers=self.num_workers)
        values = np.array([list(row.values()) for row in rows]).reshape(-1, len(self), len(rows[0]))
        if is_first:
            self._target, self._classes = values[0], feature_classes(list(rows[0]))
            values = values[1:]
        assert self._target is not None
        return {
            name: class_means(ccc_per_column(of_method, self._target), self._classes)
            for name, of_method in zip(methods, values, strict=True)
        }

    def _cuts(self, method: Method | None) -> list[RegionCut]:
        """The regions in a method's images, or in the targets."""
        cuts = []
        for number, pair, rois in self.places:
            hu = pair.target_hu[None]
            if method is not None:
                hu = method.standardize(pair.source_hu[None], pair.spacing_mm, first_slice=number)
            cuts += [RegionCut.of(_seen(pair, hu), roi.volume_mask, pair.spacing_mm) for roi in rois]
        return cuts


def feature_classes(features: Sequence[str]) -> np.ndarray:
    """The classes of features that are named "class_feature"."""
    return np.array([name.split("_", 1)[0] for name in features])


def class_means(ccc: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The mean of each class; features that no region defines (NaN) do not count."""
    return {str(name): float(np.nanmean(ccc[classes == name])) for name in np.unique(classes)}


def overall(ccc: Mapping[str, float]) -> float:
    """One figure for all classes, which weigh alike."""
    return float(np.mean(list(ccc.values())))


def _seen(pair: ValidationPair, hu: np.ndarray) -> np.ndarray:
    return hu[..., pair.columns]
