"""Lesion masks for the slices of a manifest: DICOM SEG files, or one volume file (NIfTI, NRRD, MHA)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ltdiff.data.formats import is_volume_file, read_mask
from ltdiff.dicom.segmentation import find_segmentations, read_segmentation
from ltdiff.dicom.series import find_series


def read_labels(mask: Path, manifest: pd.DataFrame, *, pairs: pd.DataFrame) -> np.ndarray:
    """Labels (N, Y, X) uint8 for the N rows of `pairs` (source rows of `manifest`), 0 where there is no lesion.

    `mask` is a volume file, whose slices are those of the only paired series in ascending z; or a DICOM SEG file, or a
    folder of them, each of which names the series it belongs to.

    Raises:
        ValueError: the mask fits no series of the pairs.
    """
    if is_volume_file(mask):
        return _from_volume(mask, manifest, pairs)
    return _from_segmentations(mask, manifest, pairs)


def _from_volume(mask: Path, manifest: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    series_uids = manifest.loc[manifest["role"] == "source", "series_uid"].unique()
    if len(series_uids) != 1:
        raise ValueError(
            f"{mask}: a mask file belongs to one series, and the manifest has {len(series_uids)} source series"
        )
    labels = read_mask(mask)
    of_series = manifest[(manifest["series_uid"] == series_uids[0]) & (manifest["role"] == "source")]
    positions_mm = np.sort(of_series["z_mm"].unique())
    expected = (len(positions_mm), int(pairs["rows"].iloc[0]), int(pairs["columns"].iloc[0]))
    if labels.shape != expected:
        raise ValueError(f"{mask}: the mask has {labels.shape} voxels, the series {expected}")
    return labels[np.searchsorted(positions_mm, pairs["z_mm"])]


def _from_segmentations(mask: Path, manifest: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    labels = np.zeros((len(pairs), int(pairs["rows"].iloc[0]), int(pairs["columns"].iloc[0])), np.uint8)
    segmentations = find_segmentations(mask)
    is_used = False
    for role in ("source", "target"):  # a segmentation may have been drawn on either of the two
        rows = manifest[manifest["role"] == role].set_index("pair_id").loc[pairs["pair_id"]].reset_index()
        for series_uid, slices in rows.groupby("series_uid"):
            if path := segmentations.get(str(series_uid)):
                labels[slices.index] = _read_slices(path, str(series_uid), slices["path"])
                is_used = True
    if not is_used:
        raise ValueError(f"{mask}: there is no DICOM segmentation of a series of these pairs")
    return labels


def _read_slices(segmentation: Path, series_uid: str, paths: pd.Series) -> np.ndarray:
    """The labels (N, Y, X) of the slices in these files."""
    found, _ = find_series(Path(paths.iloc[0]).parent)
    (series,) = (one for one in found if one.series_instance_uid == series_uid)
    by_path = {
        str(header.path): plane
        for header, plane in zip(series.slices, read_segmentation(segmentation, series), strict=True)
    }
    return np.stack([by_path[path] for path in paths])
