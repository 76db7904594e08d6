"""The protocol of the methods of a comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

import pandas as pd

from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.method import Method
from ltdiff.training.config import Settings


class FitError(ValueError):
    """A method cannot be fitted to these pairs; others may well be."""


class Comparator(Method, Protocol):
    """A method that is fitted on the training pairs of a manifest first."""

    @classmethod
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        """The method with the settings of a comparison, which is given `settings.training.minutes` to train."""

    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Fit on the pairs of split `train`; those of `val` may choose, those of `test` are not looked at.

        What takes long is kept in `folder`: an interrupted fit goes on, a finished one is read.

        Raises:
            FitError: these pairs do not serve this method.
            ValueError: `folder` holds a fit with other settings or data.
        """

    def variants(self) -> Mapping[str, Method]:
        """Other ways to use the same fit that belong beside it in a table, by the ending of their names."""
        return {}

    def expectations(self) -> Mapping[str, Expectation]:
        """Of methods that sample: the expectation of features, by the ending of its name."""
        return {}
