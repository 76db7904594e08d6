"""ComBat: harmonizing the features instead of the images (Johnson 2007; Fortin 2018), by the combatlearn package.

Batches are the two kernels, the target is the reference. Location and scale of every feature are estimated on random discs of the
training pairs, of as many slices as the scored ones, and applied to the features of new source regions, lesions and whole slices
among them; no image comes of it.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.rois import random_rois
from ltdiff.data.slice_pairs import read_stacks
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.methods.protocol import FitError
from ltdiff.radiomics.feature_sets import FEATURE_SETS, PYRADIOMICS, FeatureSet
from ltdiff.radiomics.parallel import RegionCut, extract_regions
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.folder_claim import claim
from ltdiff.training.config import Settings
from ltdiff.training.run import RUN_FILE

NUM_TRAINING_ROIS = 300
MAX_TRAINING_PAIRS = 100
"""Pairs whose regions are measured, spread evenly over the training set."""
SEED = 1
"""Seed of the training regions, which lie on other slices than the scored ones."""
LEAST_DEFINED = 0.9
"""Least share of regions of either kernel with a value, for a feature to be fitted; its mean replaces missing values."""
SOURCE, TARGET = "source", "target"


class ComBat:
    """Fits ComBat on features of training regions and applies it to others."""

    def __init__(self, feature_set: FeatureSet = PYRADIOMICS, *, num_workers: int = 1) -> None:
        """ValueError where the package combatlearn is not installed."""
        self.feature_set, self.num_workers = feature_set, num_workers
        try:
            from combatlearn.core import ComBatModel
        except ImportError as error:
            raise ValueError("the method combat needs the package combatlearn: pip install 'ltdiff[compare]'") from error
        self.new_model = ComBatModel

    @classmethod
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        """See `Comparator`."""
        return cls(FEATURE_SETS[evaluation.features], num_workers=evaluation.num_workers)

    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Extract the features of random regions of the training pairs and fit; they are kept in `folder`.

        Raises:
            ValueError: `folder` holds the features of other data.
        """
        claim(folder / RUN_FILE, {"method": type(self).__name__, "data_fingerprint": data_fingerprint(manifest)})
        path = folder / f"{self.feature_set.name}.parquet"
        if not path.is_file():
            training_features = self._training_features(manifest)
            replace_file(path, lambda temporary: training_features.to_parquet(temporary))
        features = pd.read_parquet(path)
        batches = features.pop("batch")
        features = features.where(np.isfinite(features))
        defined = features.notna().groupby(batches).mean().min() >= LEAST_DEFINED
        varied = (features.groupby(batches).std() > 0).all()
        self.columns = list(features.columns[defined & varied])
        features = features[self.columns]
        self.means = features[batches == TARGET].mean()
        # combatlearn's `johnson` (2.3) misses the reference's location where the scales differ; without covariates
        # `fortin` is the same model
        self.model = self.new_model(method="fortin", reference_batch=TARGET)
        self.model.fit(features.fillna(features.groupby(batches).transform("mean")), batch=batches)

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Source features (rois, features) → as if they were the target's. What is NaN or could not be fitted stays as it is."""
        given = features[self.columns]
        # each feature is shifted and scaled by itself: what stands in for a NaN changes no other
        harmonized = self.model.transform(given.fillna(self.means), batch=pd.Series(SOURCE, index=given.index))
        return features.assign(**pd.DataFrame(np.asarray(harmonized), given.index, given.columns).where(given.notna()))

    def _training_features(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Features of random regions (2 · rois, features) of source and target, with the column `batch`."""
        cuts = list(_training_regions(manifest, depth=self.feature_set.depth))
        if not cuts:
            raise FitError("ComBat has no region to learn from: no training pair can be read, or none shows a body")
        rows = extract_regions([cut for pair in cuts for cut in pair], self.feature_set, num_workers=self.num_workers)
        features = pd.DataFrame(rows)
        features.insert(0, "batch", [SOURCE, TARGET] * len(cuts))
        return features


def _training_regions(manifest: pd.DataFrame, *, depth: int) -> Iterator[tuple[RegionCut, RegionCut]]:
    """Random discs through stacks of the training pairs, NUM_TRAINING_ROIS or a few more: of the source, and of the target."""
    num_pairs = int(((manifest["split"] == "train") & (manifest["role"] == "target") & manifest["pair_id"].notna()).sum())
    num_rois = math.ceil(NUM_TRAINING_ROIS / max(1, min(num_pairs, MAX_TRAINING_PAIRS)))
    stacks = read_stacks(manifest, split="train", at_most=MAX_TRAINING_PAIRS, purpose="ComBat", depth=depth)
    for number, stack in enumerate(stacks):
        for roi in random_rois(stack.target_hu[[stack.centre]], num_rois=num_rois, seed=SEED + number):
            mask = np.broadcast_to(roi.mask, stack.target_hu.shape)
            source, target = (RegionCut.of(hu, mask, stack.spacing_mm) for hu in (stack.source_hu, stack.target_hu))
            yield (source._replace(hu=source.hu.copy()), target._replace(hu=target.hu.copy()))  # not all of the stack is kept
