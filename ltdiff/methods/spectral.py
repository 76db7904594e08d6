"""The spectral match as a method: a filter from the power spectra of the protocols, without pairs (physics/spectral_match)."""

from pathlib import Path
from typing import Self

import pandas as pd
from typing_extensions import override

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.inference.method import LinearMatch
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.model.kernel_match import KernelMatch
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import fit_spectral_match


class Spectral(LinearMatch, Comparator):
    """The spectral match, fitted to the sources and targets that train, whether they are paired or not."""

    def __init__(self) -> None:
        super().__init__(KernelMatch())

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        return cls()

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path | None = None) -> None:
        """Takes seconds, so nothing is kept."""
        try:
            match = fit_spectral_match(manifest)
        except ValueError as error:
            raise FitError(str(error)) from error
        self.kernel_match, self.noise_match = match.kernel_match(), match.noise_match
