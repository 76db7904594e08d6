"""A scan that is scored: its slice pairs and the regions on them, and what the methods make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.rois import Roi, VolumeRoi, mask_rois
from ltdiff.data.slice_pairs import find_neighbours
from ltdiff.evaluation.structures import Neighbours
from ltdiff.inference.method import Slices


@dataclass(frozen=True)
class ScoredScan:
    """The slice pairs (Z, Y, X) in HU of one source series, and the regions drawn on their targets.

    `first` is the number of its first slice in the whole set; regions count slices from there. `spacings_mm` (Z, 2) is (y, x);
    `series` (Z,) numbers the pairs of series that slices belong to, for a source may have several targets; `places` has a row for
    each slice: slice_index (in the whole set), series_uid, z_mm and slice_number, its place in the whole series.
    `repeat_hu` (Z, Y, X) are the targets scanned again, NaN where they were not, None where none of any scan was.
    `lungs` (Z, Y, X) bool is one mask for all images; `labels` (Z, Y, X) uint16 numbers the lesions, None without a mask.
    Features are extracted from `scored`, whose `ranks` give their order among those of all scans (equal ones as the scans come).
    """

    first: int
    source_hu: Slices
    target_hu: Slices
    spacings_mm: NDArray[np.float64]
    series: NDArray[np.int64]
    places: pd.DataFrame
    scored: Sequence[Roi | VolumeRoi]
    ranks: Sequence[int]
    lungs: NDArray[np.bool_]
    labels: NDArray[np.uint16] | None
    repeat_hu: Slices | None = None

    @property
    def slice_numbers(self) -> NDArray[np.int64]:
        """The places (Z,) of the slices in their whole series, which decide the noise of a method that draws some."""
        return self.places["slice_number"].to_numpy()

    @property
    def neighbours(self) -> Neighbours:
        """Slices that follow each other in one series, counted from the scan's first on."""
        return find_neighbours(zip(self.series.tolist(), self.slice_numbers.tolist(), strict=True))

    @property
    def lesions(self) -> list[Roi]:
        """The cross-sections of lesions that are large enough."""
        return [] if self.labels is None else mask_rois(self.labels)


class ScanImages(NamedTuple):
    """A scan, and the images (Z, Y, X) of its source and of every method."""

    scan: ScoredScan
    images: dict[str, Slices]
