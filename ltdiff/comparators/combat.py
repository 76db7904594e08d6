"""ComBat: harmonizing the features instead of the images (Johnson 2007; Fortin 2018), by the combatlearn package.

Batches are the two kernels, the target is the reference. Location and scale of every feature are estimated on random regions
of the training pairs and applied to the features of new source regions; no image comes of it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltdiff.comparators.pairs import read_pairs
from ltdiff.comparators.trained import claim
from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.rois import random_rois
from ltdiff.radiomics.pyradiomics import extract_features

NUM_TRAINING_ROIS = 300
MAX_TRAINING_PAIRS = 100
"""Of slices, spread evenly over the training set: all of them at once may not fit into memory."""
SEED = 1
"""Of the training regions; they lie on other slices than the scored ones anyway."""
SOURCE, TARGET = "source", "target"


class ComBat:
    """Fits ComBat on features of training regions and applies it to others."""

    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Extract the features of random regions of the training pairs and fit; they are kept in `folder`.

        Raises:
            ValueError: the package combatlearn is not installed; `folder` holds the features of other data.
        """
        claim(folder, {"method": type(self).__name__, "data_fingerprint": data_fingerprint(manifest)})
        path = folder / "features.parquet"
        if not path.is_file():
            partial = folder / f".{path.name}"
            _training_features(manifest).to_parquet(partial)
            partial.rename(path)
        features = pd.read_parquet(path)
        batches = features.pop("batch")
        defined = np.isfinite(features.to_numpy()).all(axis=0)
        varied = (features.groupby(batches).std() > 0).all().to_numpy()
        self.columns = list(features.columns[defined & varied])
        # combatlearn's `johnson` (2.3) misses the reference's location where the scales differ; without covariates
        # `fortin` is the same model
        self.model = _import_combat()(method="fortin", reference_batch=TARGET)
        self.model.fit(features[self.columns], batch=batches)

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Source features (rois, features) → as if they were the target's. What could not be fitted stays as it is."""
        complete = features[self.columns].notna().all(axis=1)
        result = features.copy()
        if complete.any():
            chosen = features.loc[complete, self.columns]
            harmonized = self.model.transform(chosen, batch=pd.Series(SOURCE, index=chosen.index))
            result.loc[complete, self.columns] = np.asarray(harmonized)
        return result


def _import_combat() -> Any:
    try:
        from combatlearn.core import ComBatModel
    except ImportError as error:
        raise ValueError("the method combat needs the package combatlearn: pip install 'ltdiff[compare]'") from error
    return ComBatModel


def _training_features(manifest: pd.DataFrame) -> pd.DataFrame:
    """Features of random regions (2 · rois, features) of source and target, with the column `batch`.

    Slices that cannot be read are named in the log; slices of each size have regions in proportion to their number.
    """
    pairs = read_pairs(manifest, split="train", at_most=MAX_TRAINING_PAIRS, purpose="ComBat")
    parts = []
    for size in sorted({pair.source_hu.shape for pair in pairs}):
        of_size = [pair for pair in pairs if pair.source_hu.shape == size]
        num_rois = math.ceil(NUM_TRAINING_ROIS * len(of_size) / len(pairs))
        target_hu = np.stack([pair.target_hu for pair in of_size])
        for roi in random_rois(target_hu, num_rois=num_rois, seed=SEED):
            pair = of_size[roi.slice_index]
            for role, hu in ((SOURCE, pair.source_hu), (TARGET, pair.target_hu)):
                parts.append({"batch": role, **extract_features(hu, roi.mask, spacing_mm=pair.spacing_mm)})
    if not parts:
        raise ValueError("ComBat has no region to learn from: no training pair can be read, or none shows a body")
    return pd.DataFrame(parts)
