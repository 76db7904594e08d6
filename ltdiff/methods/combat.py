"""ComBat: harmonizing the features instead of the images (Johnson 2007; Fortin 2018).

Batches are the two kernels, the target is the reference. Location and scale of every feature are estimated on random discs of the
training slices, paired or not, and applied to the features of new source regions, lesions and whole slices among them; no image
comes of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.manifest import data_fingerprint
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.methods.protocol import FitError
from ltdiff.methods.training_regions import TARGET, training_regions
from ltdiff.radiomics.combat_model import HarmonizationStep, Rows, fit_combat
from ltdiff.radiomics.feature_sets import FEATURE_SETS, PYRADIOMICS, FeatureSet
from ltdiff.radiomics.parallel import extract_regions
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.folder_claim import claim
from ltdiff.training.config import Settings
from ltdiff.training.run import RUN_FILE

LEAST_DEFINED = 0.9
"""Least share of regions of either kernel with a value, for a feature to be fitted; its mean replaces missing values."""


class ComBat:
    """Fits ComBat on features of training regions and applies it to others."""

    fit_step: ClassVar[Callable[..., HarmonizationStep]] = staticmethod(fit_combat)

    def __init__(self, feature_set: FeatureSet = PYRADIOMICS, *, num_workers: int = 1) -> None:
        self.feature_set, self.num_workers = feature_set, num_workers

    @classmethod
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        """See `Comparator`."""
        return cls(FEATURE_SETS[evaluation.features], num_workers=evaluation.num_workers)

    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Extract the features of random regions of the training slices and fit; they are kept in `folder`.

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
        filled = features.fillna(features.groupby(batches).transform("mean")).to_numpy()
        self.step = self.fit_step(filled, _rows((batches == TARGET).to_numpy()), reference=1)

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Source features (rois, features) → as if they were the target's. What is NaN or could not be fitted stays as it is."""
        given = features[self.columns]
        adjusted = self.step.adjust(given.fillna(self.means).to_numpy(), _rows(np.zeros(len(given), dtype=bool)))
        harmonized = pd.DataFrame(adjusted, given.index, self.columns)
        return features.assign(**harmonized.where(given.notna()))

    def _training_features(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Features of random regions (regions, features) of source and target, with the column `batch`."""
        try:
            regions = list(training_regions(manifest, depth=self.feature_set.depth, purpose="ComBat"))
        except ValueError as error:
            raise FitError(f"ComBat has no region to learn from: {error}") from error
        if not regions:
            raise FitError("ComBat has no region to learn from: no training slice can be read, or none shows a body")
        rows = extract_regions([cut for _, cut in regions], self.feature_set, num_workers=self.num_workers)
        features = pd.DataFrame(list(rows))
        features.insert(0, "batch", [batch for batch, _ in regions])
        return features


def _rows(is_target: NDArray[np.bool_]) -> Rows:
    """Batch 0 is the source, 1 the target; no covariates."""
    num = len(is_target)
    return Rows(is_target.astype(np.int64), np.empty((num, 0)), np.arange(num))
