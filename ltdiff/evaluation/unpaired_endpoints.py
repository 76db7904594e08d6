"""Clinical end points without pairs: of the source's lungs before and after, and of the lungs of the target's patients.

The lungs of a source are found in it and laid on what every method makes of it. The target shows other people, so its values are
those of a group, and no agreement is measured.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced, slice_numbers
from ltdiff.data.paired_scans import read_all_hu
from ltdiff.evaluation.endpoints import ENDPOINTS, LUNGS, Bool, Float, region_endpoints, voxel_volumes_ml
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.evaluation.scoring import SOURCE
from ltdiff.inference.method import Slices
from ltdiff.system.progress import progress

logger = logging.getLogger(__name__)

MAX_SCANS = 16
"""Patients of a side whose whole scans are read: enough for a median and a range."""
MIN_SLICES = 8
"""Of a scan, spread evenly through the lungs."""
VALUES = ("volume_ml", *ENDPOINTS[LUNGS])
COLUMNS = ("role", "series_uid", "method", "num_slices", *VALUES, "left_out")
LUNGLESS, UNREADABLE = "lungless", "unreadable"
"""Why a scan is left out."""


@dataclass(frozen=True, eq=False)
class LungScan:
    """Slices (N, Y, X) in HU that are spread evenly through the lungs of a scan, and their `lungs` (N, Y, X).

    `rows` are those of the slices in the manifest, with a slice_number; a voxel of each stands for `voxels_ml` (N,) of all lung.
    `paths` are those of all slices of the scan, in the order of z.
    """

    rows: pd.DataFrame
    hu: Slices
    lungs: Bool
    voxels_ml: Float
    paths: Sequence[str]

    @property
    def spacings_mm(self) -> NDArray[np.float64]:
        """(y, x) of each slice (N, 2)."""
        return self.rows[["spacing_y_mm", "spacing_x_mm"]].to_numpy(dtype=float)


After = Callable[[LungScan], Mapping[str, Slices]]
"""A scan of the source → by method, what its slices (N, Y, X) become."""


def choose_scans(manifest: pd.DataFrame, *, role: str, split: str | None = None) -> list[pd.DataFrame]:
    """The slices of a series of each of at most MAX_SCANS patients, in the order of z, with their slice_number.

    Of a patient with several series that with the most slices is taken. All splits count, or one.
    """
    rows = manifest[manifest["role"] == role]
    if split is not None:
        rows = rows[rows["split"] == split]
    rows = rows.drop_duplicates(["path", "slice_index"])
    longest = [max(of_patient.groupby("series_uid"), key=lambda one: len(one[1]))[1] for _, of_patient in rows.groupby("patient")]
    chosen = [longest[i].sort_values("z_mm").reset_index(drop=True) for i in evenly_spaced(len(longest), at_most=MAX_SCANS)]
    return [one.assign(slice_number=slice_numbers(manifest, one)) for one in chosen]


def group_endpoints(
    sources: Sequence[pd.DataFrame], targets: Sequence[pd.DataFrame], *, after: After, num_slices: int | None = None
) -> pd.DataFrame:
    """COLUMNS for each scan of `choose_scans` and method: SOURCE, those of `after`, and TARGET.

    One scan is in memory at a time. `num_slices` in all, at least MIN_SLICES of each, are measured and given to `after`; None for
    all that show lungs. A scan without lungs, or that cannot be read, has a row with the reason.
    """
    at_most = None if num_slices is None else max(MIN_SLICES, num_slices // max(1, len(sources)))
    found: list[dict[str, object]] = []
    sides = [("source", rows) for rows in sources] + [("target", rows) for rows in targets]
    for role, rows in progress(sides, name="end points", unit="scan"):
        place = {"role": role, "series_uid": rows["series_uid"].iloc[0]}
        try:
            scan = read_lungs(rows, at_most=at_most)
            if scan is None:
                found.append({**place, "left_out": LUNGLESS})
                continue
            images = {SOURCE: scan.hu, **after(scan)} if role == "source" else {TARGET: scan.hu}
        except ValueError as error:
            logger.warning("left out of the end points: %s", error)
            found.append({**place, "left_out": UNREADABLE})
            continue
        for method, hu in images.items():
            values = region_endpoints(hu, scan.lungs, scan.voxels_ml)
            found.append({**place, "method": method, "num_slices": len(scan.rows), **values, "left_out": ""})
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.astype({"num_slices": "Int64"})


def read_lungs(rows: pd.DataFrame, *, at_most: int | None) -> LungScan | None:
    """The lungs of the slices of a series, and at most so many of the slices that show them; None where there are none.

    Raises:
        ValueError: a slice cannot be read.
    """
    hu = read_all_hu(rows)
    y_mm, x_mm = rows[["spacing_y_mm", "spacing_x_mm"]].iloc[0]
    lungs = find_lungs(hu, (float(y_mm), float(x_mm)))
    sections = lungs.sum(axis=(1, 2))
    where = np.flatnonzero(sections)
    if not len(where):
        return None
    chosen = where if at_most is None else where[evenly_spaced(len(where), at_most=at_most)]
    volumes_ml = voxel_volumes_ml(rows["z_mm"].to_numpy(), rows[["spacing_y_mm", "spacing_x_mm"]].to_numpy(dtype=float))
    paths = rows["path"].tolist()
    share = (volumes_ml[chosen] @ sections[chosen]) / (volumes_ml @ sections)
    return LungScan(rows.iloc[chosen].reset_index(drop=True), hu[chosen], lungs[chosen], volumes_ml[chosen] / share, paths)


def summarize_groups(table: pd.DataFrame) -> pd.DataFrame:
    """method, endpoint, num_scans, median, lowest and highest of a table from `group_endpoints`."""
    rows = []
    measured = table[table["left_out"] == ""]
    for method, of_method in measured.groupby("method", sort=False):
        for name in VALUES:
            values = of_method[name].dropna()
            if len(values):
                rows.append((method, name, len(values), values.median(), values.min(), values.max()))
    return pd.DataFrame(rows, columns=["method", "endpoint", "num_scans", "median", "lowest", "highest"])
