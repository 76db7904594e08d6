"""One scan that the user names: a DICOM series or a volume file, as HU in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ltdiff.data.volume import Volume
from ltdiff.data.volume_files import is_volume_file, outside_field_of_view, read_volume
from ltdiff.dicom.series import AIR_FILL_HU, Series, find_series, read_slice_hu
from ltdiff.system.text import printable


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume, and the DICOM series that it was read from; None where it was a volume file."""

    volume: Volume
    series: Series | None


def read_scan(path: Path) -> Scan:
    """Read a volume file, or the only CT series of a folder. What lies outside the field of view is air.

    A DICOM series keeps its slices in ascending order along their normal, and its rows and columns as they are stored.

    Raises:
        ValueError: the file cannot be read, or there is not exactly one series, and all of it usable.
    """
    return Scan(_read_file(path), None) if is_volume_file(path) else _read_series(path)


def _read_file(path: Path) -> Volume:
    volume = read_volume(path)
    air = np.float32(AIR_FILL_HU)
    return replace(volume, hu=np.stack([np.where(outside_field_of_view(plane), air, plane) for plane in volume.hu]))


def _read_series(path: Path) -> Scan:
    found, issues = find_series(path)
    failures = [issue for issue in issues if issue.action == "fail"]
    if failures:  # a series may be here in part only
        raise ValueError(failures[0].reason)
    if len(found) != 1:
        reason = issues[0].reason if issues and not found else f"here are {len(found)}"
        raise ValueError(f"{printable(path)}: name one CT series; {reason}")
    return read_series(found[0])


def read_series(series: Series) -> Scan:
    """The slices of a DICOM series as a volume; see `read_scan`."""
    rows, columns = np.array(series.orientation[:3]), np.array(series.orientation[3:])
    direction = np.stack([rows, columns, np.cross(rows, columns)], axis=1)
    distance_mm = series.slice_spacing_mm or series.slice_thickness_mm or 1.0
    volume = Volume(
        hu=np.stack([read_slice_hu(header.path) for header in series.slices]),
        spacing_mm=(distance_mm, *series.spacing_mm),
        origin_mm=series.slices[0].position_mm,
        direction=tuple(map(float, direction.ravel())),
    )
    return Scan(volume, series)
