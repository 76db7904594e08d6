"""The whole DICOM series behind the rows of a manifest."""

import os
from collections.abc import Set
from pathlib import Path

import pandas as pd

from ltdiff.dicom.series import Series, find_series
from ltdiff.system.remote_input import fetch_whole_folder
from ltdiff.system.text import printable


def paths_by_series(manifest: pd.DataFrame) -> dict[str, set[str]]:
    """The files of each series of a manifest by its UID, in one pass over the rows."""
    return {str(uid): set(paths) for uid, paths in manifest.groupby("series_uid")["path"]}


def find_manifest_series(series_uid: str, paths: Set[str]) -> Series:
    """A whole series of a manifest, by all of its files there (see `paths_by_series`), which may lie in several folders.

    Raises:
        ValueError: it is not there as it was when it was paired.
    """
    folder = Path(os.path.commonpath([Path(path).parent for path in paths]))
    fetch_whole_folder(folder)
    found = {one.series_instance_uid: one for one in find_series(folder)[0]}
    if series_uid not in found or not paths <= {str(header.path) for header in found[series_uid].slices}:
        raise ValueError(f"{printable(folder)}: a series here is no longer what it was when it was paired")
    return found[series_uid]
