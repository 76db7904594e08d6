"""CovBat: ComBat, and then ComBat on the principal components, so that the covariances of the features agree as well.

Source: A. A. Chen et al., "Mitigating site effects in covariance for machine learning in neuroimaging data", Hum. Brain Mapp. 43
(2022) 1179.
"""

from collections.abc import Callable
from typing import ClassVar

from ltdiff.methods.combat import ComBat
from ltdiff.radiomics.combat_model import HarmonizationStep, fit_covbat


class CovBat(ComBat):
    """Fits CovBat on features of training regions and applies it to others. A value that stands in for a NaN moves the others."""

    fit_step: ClassVar[Callable[..., HarmonizationStep]] = staticmethod(fit_covbat)
