"""Fitting the linear kernel match on the training pairs, and applying it within the data stream."""

import copy
import logging

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced, in_plane_spacing_mm, read_hu
from ltdiff.data.patches import make_items
from ltdiff.model.kernel_match import KernelMatch, KernelMatchFit, corner_frequency
from ltdiff.system.progress import progress

logger = logging.getLogger(__name__)

MAX_PAIRS = 256
"""About a hundred numbers are fitted: more pairs than this, spread evenly over the training set, change nothing."""


def fit_kernel_match(manifest: pd.DataFrame) -> KernelMatch:
    """The linear kernel match of the pairs of split `train`. Slices that cannot be read are named in the log.

    Raises:
        ValueError: there are no such pairs, or none can be read.
    """
    items = make_items(manifest, split="train", pairs=True)
    chosen = evenly_spaced(len(items), at_most=MAX_PAIRS)
    spacings_mm = [in_plane_spacing_mm(items[i]["source"]) for i in chosen]
    fit = KernelMatchFit(max_frequency=max(corner_frequency(s) for s in spacings_mm))
    for i, spacing_mm in zip(progress(chosen, name="kernel match", unit="pair"), spacings_mm, strict=True):
        try:
            fit.add(read_hu(items[i]["source"]), read_hu(items[i]["target"]), spacing_mm=spacing_mm)
        except ValueError as error:
            logger.warning("left out of the kernel match: %s", error)
    return fit.solve()


class KernelMatcher:
    """A kernel match on numpy slices, for the data stream; None leaves them as they are."""

    def __init__(self, kernel_match: KernelMatch | None) -> None:
        self.kernel_match = copy.deepcopy(kernel_match)  # stays on the CPU, where slices are read, when the model moves to a GPU

    def __call__(self, hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
        """(H, W) in HU, PixelSpacing (y, x) → Ã (H, W) in HU."""
        if self.kernel_match is None:
            return hu
        return self.kernel_match(torch.from_numpy(hu.copy()), spacing_mm).numpy()
