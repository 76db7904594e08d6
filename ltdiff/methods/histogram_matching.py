"""Histogram matching: one monotone curve that gives the HU of the source the distribution of the target's, inside the body.

The curve maps each quantile of all source pixels to the same quantile of all target pixels, whoever they show. It knows nothing
of neighbours, so it can change contrast and the spread of noise, and no texture.
"""

import json
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from typing_extensions import override

from ltdiff.data.ensemble import read_ensemble
from ltdiff.data.manifest import data_fingerprint
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.structures import SMOOTHING_PX, body_mask
from ltdiff.inference.method import Slices
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.system.atomic_files import write_text
from ltdiff.system.folder_claim import claim
from ltdiff.training.config import Settings
from ltdiff.training.run import RUN_FILE

LOWEST_HU, HIGHEST_HU = -2048, 4095
"""Of the curve; what lies beyond is left as it is."""
RARE = 1e-4
"""Share of pixels at either end whose quantiles are single pixels of metal or of air: there the curve is not known."""
FADE_HU = 200.0
"""Beyond what is known the shift of the curve fades to 0 over this much, or over twice the shift: it stays monotone."""
CURVE_FILE = "curve.json"


class HistogramMatching(Comparator):
    """The curve, fitted to slices of split `train`, paired or not."""

    def __init__(self) -> None:
        self.curve_hu = np.arange(LOWEST_HU, HIGHEST_HU + 1, dtype=np.float64)

    @classmethod
    @override
    def make(cls, settings: Settings, evaluation: EvaluationConfig) -> Self:
        return cls()

    @override
    def fit(self, manifest: pd.DataFrame, *, folder: Path) -> None:
        """Slices that cannot be read are named in the log. The curve is kept in `folder`."""
        claim(folder / RUN_FILE, {"method": type(self).__name__, "data_fingerprint": data_fingerprint(manifest)})
        path = folder / CURVE_FILE
        if not path.is_file():
            try:
                source, target = (
                    body_values(read_ensemble(manifest, role=role, split="train", purpose="histogram matching").hu)
                    for role in ("source", "target")
                )
            except ValueError as error:
                raise FitError(str(error)) from error
            if not len(source) or not len(target):
                raise FitError(
                    "histogram matching has nothing to learn from: no slice of the source, or of the target, shows a body"
                )
            write_text(path, json.dumps(quantile_curve(source, target).round(3).tolist()))
        self.curve_hu = np.array(json.loads(path.read_text()))

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        inside = np.stack([_body(plane) for plane in hu])
        known = inside & (hu >= LOWEST_HU) & (hu <= HIGHEST_HU)
        grid = np.arange(LOWEST_HU, HIGHEST_HU + 1)
        result: Slices = np.where(known, np.interp(hu, grid, self.curve_hu), hu).round().astype(np.float32)
        return result


def body_values(slices_hu: Slices) -> NDArray[np.float64]:
    """The HU (pixels,) of the bodies in slices (N, Y, X)."""
    return np.concatenate([plane[_body(plane)] for plane in slices_hu]).astype(np.float64)


def quantile_curve(source_hu: NDArray[np.float64], target_hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve at LOWEST_HU, LOWEST_HU + 1, … HIGHEST_HU: F_target⁻¹(F_source(hu)), monotone, that is the identity far beyond
    the source's RARE and 1 − RARE quantiles.
    """
    shares = np.linspace(RARE, 1 - RARE, 10_001)
    of_source, of_target = np.quantile(source_hu, shares), np.quantile(target_hu, shares)
    levels, first = np.unique(of_source, return_index=True)
    last = len(shares) - 1 - np.unique(of_source[::-1], return_index=True)[1]
    shift = (of_target[first] + of_target[last]) / 2 - levels  # of a value that many pixels have, the middle of its quantiles
    grid = np.arange(LOWEST_HU, HIGHEST_HU + 1, dtype=np.float64)
    ends = ((levels[0], shift[0], -1), (levels[-1], shift[-1], 1))
    beyond = [(level + side * max(FADE_HU, 2 * abs(moved)), 0.0) for level, moved, side in ends]
    known_hu, shift_hu = np.array([beyond[0], *zip(levels, shift, strict=True), beyond[1]]).T
    curve: NDArray[np.float64] = np.maximum.accumulate(grid + np.interp(grid, known_hu, shift_hu))
    return curve


def _body(plane_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    return body_mask(ndimage.gaussian_filter(plane_hu.astype(np.float64), SMOOTHING_PX))
