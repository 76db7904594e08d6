"""What every comparator can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Slices = NDArray[np.float32]


class Comparator(Protocol):
    """A method that is fitted on the training pairs of a manifest and then standardizes slices."""

    def fit(self, manifest: pd.DataFrame) -> None:
        """Fit on the pairs of split `train`; those of `val` may choose, those of `test` are not looked at."""

    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        """A' in HU, whole numbers, (Z, H, W) of source slices (Z, H, W) with PixelSpacing (y, x).

        `first_slice` is the number of hu[0] in its series, for methods that draw noise.
        """
