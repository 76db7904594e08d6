"""The linear kernel match as a method of its own: a radial Wiener filter fitted in closed form (physics/kernel_match)."""

from pathlib import Path
from typing import Self

import pandas as pd
from typing_extensions import override

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.inference.method import LinearMatch
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import fit_kernel_match


class Linear(LinearMatch, Comparator):
    """The linear match, fitted to the training pairs."""

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
            self.fit_match(manifest)
        except ValueError as error:
            raise FitError(str(error)) from error

    def fit_match(self, manifest: pd.DataFrame) -> None:
        """Fit the filter. ValueError where the manifest does not serve it."""
        self.kernel_match = fit_kernel_match(manifest)
