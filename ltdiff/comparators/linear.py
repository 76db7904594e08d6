"""The linear kernel match as a method of its own: a radial Wiener filter fitted in closed form (model/kernel_match)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.model.kernel_match import KernelMatch
from ltdiff.training.kernel_match import fit_kernel_match


class Linear:
    """Ã = h∗A, clipped to the target's range."""

    def __init__(self, kernel_match: KernelMatch | None = None) -> None:
        """`kernel_match` spares the fit: the one a model was trained with has been fitted on the same pairs."""
        self.kernel_match = kernel_match or KernelMatch()

    def fit(self, manifest: pd.DataFrame) -> None:
        """See `Comparator`."""
        self.kernel_match = fit_kernel_match(manifest)

    def standardize(
        self, hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, first_slice: int = 0
    ) -> NDArray[np.float32]:
        """See `Comparator`."""
        matched: NDArray[np.float32] = self.kernel_match(torch.from_numpy(hu), spacing_mm).round().numpy()
        return matched
