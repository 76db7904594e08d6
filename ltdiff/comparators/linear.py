"""The linear kernel match as a method of its own: a radial Wiener filter fitted in closed form (model/kernel_match)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from ltdiff.comparators.protocol import Method, Slices
from ltdiff.model.kernel_match import KernelMatch
from ltdiff.training.kernel_match import fit_kernel_match


class Linear:
    """Ã = h∗A, clipped to the target's range."""

    def __init__(self) -> None:
        self.kernel_match = KernelMatch()

    def fit(self, manifest: pd.DataFrame, *, folder: Path | None = None) -> None:
        """See `Comparator`; takes seconds, so nothing is kept."""
        self.kernel_match = fit_kernel_match(manifest)

    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        """See `Method`."""
        matched: Slices = self.kernel_match(torch.from_numpy(hu), spacing_mm).round().numpy()
        return matched

    def variants(self) -> Mapping[str, Method]:
        """None."""
        return {}
