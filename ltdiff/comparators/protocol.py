"""What every comparator can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Slices = NDArray[np.float32]


class FitError(ValueError):
    """A method cannot be fitted to these pairs; others may well be."""


class Method(Protocol):
    """Anything that standardizes source slices, in several threads at a time. It gets the source alone, never the target."""

    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        """A' in HU, whole numbers, (Z, H, W) of source slices (Z, H, W) with PixelSpacing (y, x).

        `first_slice` is the number of hu[0] in its series, for methods that draw noise.
        """


class Comparator(Method, Protocol):
    """A method that is fitted on the training pairs of a manifest first."""

    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Fit on the pairs of split `train`; those of `val` may choose, those of `test` are not looked at.

        What takes long is kept in `folder`: an interrupted fit goes on, a finished one is read.

        Raises:
            FitError: these pairs do not serve this method.
            ValueError: `folder` holds a fit with other settings or data.
        """

    def variants(self) -> Mapping[str, Method]:
        """Other ways to use the same fit that belong beside it in a table, by the ending of their names."""
