"""CovBat: ComBat, and then ComBat on the principal components, so that the covariances of the features agree as well.

Source: A. A. Chen et al., "Mitigating site effects in covariance for machine learning in neuroimaging data", Hum. Brain Mapp. 43
(2022) 1179. combatlearn's own (`chen`) keeps what the components of the training regions span alone, and there may be fewer of
these than features; here what lies outside them stays as ComBat left it.
"""

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from typing_extensions import override

from ltdiff.methods.combat import ComBat
from ltdiff.methods.training_regions import SOURCE

EXPLAINED_VARIANCE = 0.95
"""Of the components whose scores are harmonized, as in the paper."""


class CovBat(ComBat):
    """Fits CovBat on features of training regions and applies it to others. A value that stands in for a NaN moves the others."""

    @override
    def _fit(self, features: pd.DataFrame, batches: pd.Series) -> None:
        super()._fit(features, batches)
        harmonized = features.copy()
        harmonized[batches == SOURCE] = super()._transform(features[batches == SOURCE])
        self.pca = PCA(EXPLAINED_VARIANCE, svd_solver="full").fit(harmonized)
        self.model_of_scores = self._fit_model(self._scores(harmonized), batches)

    @override
    def _transform(self, features: pd.DataFrame) -> pd.DataFrame:
        harmonized = super()._transform(features)
        scores = self._scores(harmonized)
        return harmonized + (self._apply(self.model_of_scores, scores) - scores).to_numpy() @ self.pca.components_

    def _scores(self, features: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(np.asarray(self.pca.transform(features)), features.index)
