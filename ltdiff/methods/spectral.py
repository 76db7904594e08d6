"""The spectral match as a method: a filter from the power spectra of the protocols, without pairs (physics/spectral_match)."""

import pandas as pd
from typing_extensions import override

from ltdiff.methods.linear import Linear
from ltdiff.training.fit_kernel_match import fit_spectral_match


class Spectral(Linear):
    """The spectral match, fitted to the sources and targets that train, whether they are paired or not."""

    @override
    def fit_match(self, manifest: pd.DataFrame) -> None:
        match = fit_spectral_match(manifest)
        self.kernel_match, self.noise_match = match.kernel_match, match.noise_match
