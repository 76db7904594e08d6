"""Covariates of a table of features: text and truth values are classes, numbers are continuous."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ltdiff.system.text import quoted

logger = logging.getLogger(__name__)

LARGE_SHARE = 0.8
"""Of a covariate's variance between the batches: its effect and theirs can hardly be told apart."""


def labels(column: pd.Series) -> pd.Series:
    """The column as text: 1, 1.0 and "1" are one label, whichever file they come from."""
    if is_numeric_dtype(column) and not is_bool_dtype(column) and (column % 1 == 0).all():
        column = column.astype("int64")
    return column.astype(str)


@dataclass(frozen=True)
class Covariate:
    """A column of the table. With `levels` it is a class, else a number, which is written less `mean` in units of `deviation`."""

    name: str
    levels: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, column: pd.Series) -> "Covariate":
        """What a column without missing values holds. ValueError where it holds one value alone."""
        name = str(column.name)
        if column.nunique() < 2:
            raise ValueError(f"the covariate {quoted(name)} has one value alone: leave it out")
        if is_numeric_dtype(column) and not is_bool_dtype(column):
            return cls(name, mean=float(column.mean()), deviation=float(column.std(ddof=0)))
        return cls(name, levels=tuple(sorted(labels(column).unique())))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of its columns in the design: a level against the first, or the number itself."""
        return tuple(f"{self.name}={level}" for level in self.levels[1:]) or (self.name,)

    def encode(self, column: pd.Series) -> NDArray[np.float64]:
        """Columns of the design (N, terms). ValueError for a level that the fit has not seen, or for text in place of numbers."""
        if not self.levels:
            if not is_numeric_dtype(column) or is_bool_dtype(column):
                raise ValueError(f"the covariate {quoted(self.name)} is no number here, and was one in the fit")
            return ((column.to_numpy(dtype=float) - self.mean) / self.deviation)[:, None]
        texts = labels(column)
        if unknown := sorted(set(texts) - set(self.levels)):
            raise ValueError(
                f"the covariate {quoted(self.name)} has the value {quoted(unknown[0])}, which the fit has not seen; it knows "
                f"{', '.join(map(quoted, self.levels))}"
            )
        return np.array([texts == level for level in self.levels[1:]], dtype=float).T


def check_confounding(covariates: Sequence[Covariate], encoded: Sequence[NDArray[np.float64]], batches: pd.Series) -> None:
    """Refuse covariates whose effect cannot be told from that of the batch, or of each other; warn where it hardly can.

    Args:
        covariates: Those of the fit.
        encoded: Their columns of the design.
        batches: Label of the batch of every row; its name is that of the column.

    Raises:
        ValueError: a covariate follows from the batch and the covariates before it.
    """
    indicators = pd.get_dummies(batches).to_numpy(dtype=float)
    design = indicators
    for covariate, columns in zip(covariates, encoded, strict=True):
        if _rank(indicators, columns) < indicators.shape[1] + columns.shape[1]:
            raise ValueError(
                f"the covariate {quoted(covariate.name)} is confounded with the batch {quoted(batches.name)}: their effects "
                "cannot be told apart; leave it out, or add patients of other values to the batches"
            )
        if _rank(design, columns) < design.shape[1] + columns.shape[1]:
            raise ValueError(f"the covariate {quoted(covariate.name)} follows from those before it and the batch: leave it out")
        design = np.hstack([design, columns])
        deviations = columns - columns.mean(axis=0)
        within = columns - indicators @ np.linalg.lstsq(indicators, columns)[0]
        share = 1 - np.min((within**2).sum(axis=0) / (deviations**2).sum(axis=0))
        if share > LARGE_SHARE:
            logger.warning(
                "%.0f %% of the variance of the covariate %s lies between the batches %s: their effects can hardly be told apart",
                100 * share,
                quoted(covariate.name),
                quoted(batches.name),
            )


def _rank(*parts: NDArray[np.float64]) -> int:
    return int(np.linalg.matrix_rank(np.hstack(parts)))
