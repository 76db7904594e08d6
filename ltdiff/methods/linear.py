"""The linear kernel match as a method of its own: a radial Wiener filter fitted in closed form (model/kernel_match)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from typing_extensions import override

from ltdiff.inference.method import LinearMatch, Method
from ltdiff.methods.protocol import Comparator
from ltdiff.model.kernel_match import KernelMatch
from ltdiff.training.fit_kernel_match import fit_kernel_match


class Linear(LinearMatch, Comparator):
    """The linear match, fitted to the training pairs."""

    def __init__(self) -> None:
        super().__init__(KernelMatch())

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path | None = None) -> None:
        """Takes seconds, so nothing is kept."""
        self.kernel_match = fit_kernel_match(manifest)

    def variants(self) -> Mapping[str, Method]:
        """None."""
        return {}
