"""ComBat: harmonizing the features instead of the images (Johnson 2007; Fortin 2018), by the combatlearn package.

Batches are the two kernels, the target is the reference. Location and scale of every feature are estimated on random discs of the
training slices, paired or not, and applied to the features of new source regions, lesions and whole slices among them; no image
comes of it.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ltdiff.data.manifest import data_fingerprint
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.methods.protocol import FitError
from ltdiff.methods.training_regions import SOURCE, TARGET, training_regions
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
        self.means, self.scales = features[batches == TARGET].mean(), features[batches == TARGET].std()
        self._fit(self._scale(features.fillna(features.groupby(batches).transform("mean"))), batches)

    def harmonize(self, features: pd.DataFrame) -> pd.DataFrame:
        """Source features (rois, features) → as if they were the target's. What is NaN or could not be fitted stays as it is."""
        given = features[self.columns]
        harmonized = self._transform(self._scale(given.fillna(self.means))) * self.scales + self.means
        return features.assign(**harmonized.where(given.notna()))

    def _scale(self, features: pd.DataFrame) -> pd.DataFrame:
        """In units of the target's deviation: combatlearn adds 10⁻⁸ to every variance, and that of some textures is less."""
        return (features - self.means) / self.scales

    def _fit(self, features: pd.DataFrame, batches: pd.Series) -> None:
        self.model = self._fit_model(features, batches)

    def _transform(self, features: pd.DataFrame) -> pd.DataFrame:
        """Of source features, each shifted and scaled by itself: what stands in for a NaN changes no other."""
        return self._apply(self.model, features)

    def _fit_model(self, values: pd.DataFrame, batches: pd.Series) -> Any:
        # combatlearn's `johnson` (2.3) misses the reference's location where the scales differ; without covariates
        # `fortin` is the same model
        return self.new_model(method="fortin", reference_batch=TARGET).fit(values, batch=batches)

    @staticmethod
    def _apply(model: Any, values: pd.DataFrame) -> pd.DataFrame:
        changed = model.transform(values, batch=pd.Series(SOURCE, index=values.index))
        return pd.DataFrame(np.asarray(changed), values.index, values.columns)

    def _training_features(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Features of random regions (regions, features) of source and target, with the column `batch`."""
        try:
            regions = list(training_regions(manifest, depth=self.feature_set.depth, purpose="ComBat"))
        except ValueError as error:
            raise FitError(f"ComBat has no region to learn from: {error}") from error
        if not regions:
            raise FitError("ComBat has no region to learn from: no training slice can be read, or none shows a body")
        rows = extract_regions([cut for _, cut in regions], self.feature_set, num_workers=self.num_workers)
        features = pd.DataFrame(rows)
        features.insert(0, "batch", [batch for batch, _ in regions])
        return features
