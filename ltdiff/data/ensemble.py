"""An ensemble: slices of one role, of any patients, for what is compared or fitted without pairs."""

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced, read_hu, slice_numbers

logger = logging.getLogger(__name__)

MAX_SLICES = 128
"""So many slices, spread evenly over all series, hold more windows, edges and regions than are measured."""
NUM_BLOCKS = 8
"""Contiguous blocks of z that a single patient is cut into: four for either half of a target, enough to leave one out."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """N slices (N, Y, X) in HU with `spacings_mm` (N, 2), (y, x), in the order of their series and of z.

    `places` has a row for each slice: series_uid, patient, z_mm and slice_number, its place in its whole series.
    """

    hu: NDArray[np.float32]
    spacings_mm: NDArray[np.float64]
    places: pd.DataFrame

    @property
    def slice_numbers(self) -> NDArray[np.int64]:
        """The places (N,) of the slices in their whole series, which decide the noise of a method that draws some."""
        return self.places["slice_number"].to_numpy()

    @property
    def groups(self) -> NDArray[np.int64]:
        """What counts as independent, as a number for each slice (N,): its patient or, of a single one, its block of z."""
        patients: NDArray[np.int64] = pd.factorize(self.places["patient"])[0]
        if patients.max(initial=0) > 0:
            return patients
        heights, places = np.unique(self.places["z_mm"], return_inverse=True)  # all series at one height show one anatomy
        return places * min(NUM_BLOCKS, len(heights)) // len(heights)

    @property
    def blocks(self) -> NDArray[np.int64]:
        """A number for each slice (N,), the same for those that follow each other in one series (see `rois.extrude`)."""
        series = pd.factorize(self.places["series_uid"])[0]
        follows = (np.diff(series) == 0) & (np.diff(self.slice_numbers) == 1)
        return np.cumsum([True, *~follows])

    def select(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Ensemble":
        """Some of its slices."""
        return Ensemble(self.hu[chosen], self.spacings_mm[chosen], self.places.loc[chosen].reset_index(drop=True))


def has_unpaired(manifest: pd.DataFrame, split: str) -> bool:
    """Tell whether a split has slices of source or target without a partner."""
    rows = manifest[(manifest["split"] == split) & manifest["pair_id"].isna()]
    return bool(rows["role"].isin(("source", "target")).any())


def read_ensemble(
    manifest: pd.DataFrame, *, role: str, split: str, at_most: int = MAX_SLICES, depth: int = 1, purpose: str
) -> Ensemble:
    """Read slices of a role and split, in pairs or not, spread evenly over all of them in runs of `depth` neighbours.

    Slices of another size than most have, and those that cannot be read, are named in the log as left out of `purpose`.

    Raises:
        ValueError: there is no such slice, or none can be read.
    """
    rows = manifest[(manifest["split"] == split) & (manifest["role"] == role)].drop_duplicates(["path", "slice_index"])
    if rows.empty:
        raise ValueError(f"the manifest has no {role} slice in its split {split!r}")
    rows = of_usual_size(rows.sort_values(["series_uid", "z_mm"]).reset_index(drop=True))
    rows = rows.assign(slice_number=slice_numbers(manifest, rows))
    runs = rows.groupby(["series_uid", rows.groupby("series_uid").cumcount() // depth], sort=False).ngroup()
    rows = rows[runs.isin(evenly_spaced(runs.max() + 1, at_most=max(1, at_most // depth)))]
    planes: dict[int, NDArray[np.float32]] = {}
    for number, row in enumerate(rows.to_dict("records")):
        try:
            planes[number] = read_hu({str(key): value for key, value in row.items()})
        except ValueError as error:
            logger.warning("left out of %s: %s", purpose, error)
    if not planes:
        raise ValueError(f"none of {len(rows)} {role} slices of split {split!r} can be read; the log names each")
    rows = rows.iloc[list(planes)].reset_index(drop=True)
    return Ensemble(
        hu=np.stack(list(planes.values())),
        spacings_mm=rows[["spacing_y_mm", "spacing_x_mm"]].to_numpy(dtype=float),
        places=rows[["series_uid", "patient", "z_mm", "slice_number"]],
    )


def of_usual_size(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a manifest whose slices have the size that most have; the log says how many series are left out."""
    sizes = Counter(zip(rows["rows"], rows["columns"], strict=True))
    usual = sizes.most_common(1)[0][0]
    is_usual = (rows["rows"] == usual[0]) & (rows["columns"] == usual[1])
    if not is_usual.all():
        num_series = rows.loc[~is_usual, "series_uid"].nunique()
        others = ", ".join(f"{y} x {x}" for y, x in sizes if (y, x) != usual)
        logger.warning("left out are %d series of other sizes (%s) than most have, %d x %d", num_series, others, *usual)
    return rows[is_usual]
