"""The whole scans behind the pairs of a split: what a program that judges patients needs, not slices."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ltdiff.data.manifest import data_fingerprint, read_hu, slice_numbers
from ltdiff.data.manifest_series import find_manifest_series, paths_by_series
from ltdiff.data.volume_files import is_volume_file

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
AXIAL_TOLERANCE = 1e-3
STEP_TOLERANCE = 0.02
"""Of the mean distance of slices, from which each may deviate by that share."""


def read_all_hu(rows: pd.DataFrame) -> np.ndarray:
    """The slices (N, Y, X) of manifest rows, all of one size, in HU. ValueError naming a file that cannot be read."""
    return np.stack([read_hu({str(key): value for key, value in row.items()}) for _, row in rows.iterrows()])


@dataclass(frozen=True, eq=False)
class PairedScan:
    """Two series of one scan, by the rows of their slices (N) in a manifest, in ascending z.

    `numbers` (N,) are the places of the slices in the whole source series, whose files in the manifest are `paths`; `fingerprint`
    stands for the scan. `num_trained` slices are in the split that trains.
    """

    sources: pd.DataFrame
    targets: pd.DataFrame
    numbers: np.ndarray
    paths: Set[str]
    fingerprint: str
    num_trained: int

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(z, y, x); of several slices."""
        return (
            float(np.diff(self.sources["z_mm"]).mean()),
            float(self.sources["spacing_y_mm"].iloc[0]),
            float(self.sources["spacing_x_mm"].iloc[0]),
        )

    @property
    def slice_thickness_mm(self) -> float:
        """Of the source's first slice; where it is not known, the distance of slices."""
        thickness_mm = self.sources["slice_thickness_mm"].iloc[0]
        return float(thickness_mm) if pd.notna(thickness_mm) else self.spacing_mm[0]

    def read_source(self) -> np.ndarray:
        """HU (N, Y, X). ValueError naming a file that cannot be read."""
        return read_all_hu(self.sources)

    def read_target(self) -> np.ndarray:
        """HU (N, Y, X). ValueError naming a file that cannot be read."""
        return read_all_hu(self.targets)


def find_paired_scans(manifest: pd.DataFrame, *, split: str) -> list[PairedScan]:
    """The scans of which a pair is in the split, each with all of its paired slices, of whatever split."""
    paired = manifest[manifest["pair_id"].notna()]
    sources = paired[paired["role"] == "source"].set_index("pair_id", drop=False)
    targets = paired[paired["role"] == "target"].set_index("pair_id", drop=False).loc[sources.index]
    numbers = pd.Series(slice_numbers(manifest, sources), index=sources.index)
    paths = paths_by_series(manifest)
    scans = []
    for (series_uid, _), rows in sources.groupby([sources["series_uid"], targets["series_uid"]], sort=False):
        if not (rows["split"] == split).any():
            continue
        of_source = rows.sort_values("z_mm")
        of_target = targets.loc[of_source.index]
        fingerprint = data_fingerprint(pd.concat([of_source, of_target]).assign(split="", patient=""))
        scans.append(
            PairedScan(
                sources=of_source,
                targets=of_target,
                numbers=numbers[of_source.index].to_numpy(),
                paths=paths[str(series_uid)],
                fingerprint=fingerprint,
                num_trained=int((rows["split"] == "train").sum()),
            )
        )
    return scans


def axial_difference(scan: PairedScan) -> str:
    """Why a scan is no stack of axial slices at equal distances, seen as usual, in words; "" when it is one."""
    steps_mm = np.diff(scan.sources["z_mm"])
    if len(steps_mm) == 0:
        return "it is a single slice"
    if np.abs(steps_mm - steps_mm.mean()).max() > STEP_TOLERANCE * steps_mm.mean():
        return f"its slices lie {steps_mm.min():.3g} to {steps_mm.max():.3g} mm apart"
    if is_volume_file(Path(scan.sources["path"].iloc[0])):
        return ""  # read in this orientation
    series = find_manifest_series(str(scan.sources["series_uid"].iloc[0]), scan.paths)
    return _describe_orientation(series.orientation) or series.irregularity


def _describe_orientation(orientation: Sequence[float]) -> str:
    if np.allclose(orientation, AXIAL, rtol=0, atol=AXIAL_TOLERANCE):
        return ""
    return "its ImageOrientationPatient is not 1\\0\\0\\0\\1\\0"
