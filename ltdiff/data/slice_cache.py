"""Slices that a training has decoded and matched, on the local disk: each is decoded once, whatever reads it again.

    <cache folder>/slices/<training set>/ab/abcdef….slice     a slice in whole HU, int16, and a checksum

Later epochs, phases, trials of a search and resumed runs of the same manifest and kernel match share a folder. A file that has
changed since is another slice. What is damaged, or cannot be written, is decoded as if there were no cache.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff import __version__
from ltdiff.system.cache_folder import cache_folder
from ltdiff.system.text import quoted

logger = logging.getLogger(__name__)

VARIABLE, DEFAULT_GB = "LTDIFF_SLICE_CACHE_GB", 20.0
"""Environment variable: how much of the local disk the cache may take; 0 for none. And at most this share of what is free:"""
MAX_SHARE_OF_FREE = 0.5
SIZE_FILE = "bytes.json"
"""In the folder of a training set: how large it may grow."""
_CHECKSUM_BYTES = 4
Image = NDArray[np.float32]


@dataclass(frozen=True)
class SliceCache:
    """The folder called `name` of a training set. Of its slices `share` are kept, always the same ones."""

    name: str
    share: float = 1.0

    @classmethod
    def of(cls, manifest: pd.DataFrame, *, match: str) -> Self | None:
        """The cache of all slices of a manifest but those of split `test`, matched by the kernel match of this digest.

        Folders of other training sets are removed, the oldest first, as far as they leave too little room. None where nothing
        may be kept.
        """
        rows = manifest[manifest["split"] != "test"].drop_duplicates(["path", "slice_index"])
        needed = int((rows["rows"] * rows["columns"]).sum()) * np.dtype(np.int16).itemsize
        name = hashlib.sha256(f"{__version__}\n{match}\n{len(rows)}\n{needed}".encode()).hexdigest()[:16]
        try:
            limit = _limit_bytes(name)
            if not needed or limit <= 0:
                return None
            share = min(1.0, limit / needed)
            _make_room(name, size=int(share * needed), limit=limit)
        except OSError as error:
            logger.warning("decoded slices are not kept: %s", error)
            return None
        if share < 1:
            logger.info(
                "%.0f %% of the decoded slices are kept on the local disk: all would take %.0f GB, and may have %.0f GB (%s)",
                *(100 * share, needed / 1e9, limit / 1e9, VARIABLE),
            )
        return cls(name, share)

    def find(self, row: Mapping[str, Any], columns: tuple[float, float]) -> Image | None:
        """The slice of a manifest row, of these columns, in whole HU; None where it is not there, or damaged."""
        path = self._path(row, columns)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        stored, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if zlib.crc32(stored).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
            return None
        image: NDArray[np.int16] = np.load(BytesIO(stored))
        return image.astype(np.float32)

    def keep(self, row: Mapping[str, Any], columns: tuple[float, float], hu: NDArray[np.int16]) -> None:
        """Keep a slice (H, W) in whole HU, if it is among those that are kept."""
        path = self._path(row, columns)
        if path is None:
            return
        stored = BytesIO()
        np.save(stored, hu)
        checksum = zlib.crc32(stored.getbuffer()).to_bytes(_CHECKSUM_BYTES, "big")
        with suppress(OSError):  # a full disk: it is decoded again
            _make_folder(self.name)  # this node may be another than the worker's
            path.parent.mkdir(exist_ok=True)
            growing = path.with_suffix(f".{os.getpid()}")
            growing.write_bytes(stored.getvalue() + checksum)  # not synced: the checksum tells what a crash has left
            growing.replace(path)

    def _path(self, row: Mapping[str, Any], columns: tuple[float, float]) -> Path | None:
        """Where a slice is kept; None if it is not."""
        try:
            status = Path(row["path"]).stat()
            folder = _folder(self.name)
        except OSError:
            return None
        known = (row["path"], status.st_size, status.st_mtime_ns, *(row[name] for name in _IN_KEY), columns)
        key = hashlib.sha256(repr(known).encode()).hexdigest()
        if int(key[-8:], 16) >= self.share * 2**32:
            return None
        return folder / key[:2] / f"{key}.slice"


_IN_KEY = ("slice_index", "series_uid", "role", "z_mm", "rows", "columns")


def _folder(name: str) -> Path:
    return cache_folder() / "slices" / name


def _make_folder(name: str) -> Path:
    """The user's alone: it holds images of patients."""
    folder = _folder(name)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _limit_bytes(name: str) -> float:
    """What a training set may take, of the variable and of the disk."""
    setting = os.environ.get(VARIABLE, "")
    try:
        wanted = float(setting or DEFAULT_GB) * 1e9
    except ValueError as error:
        raise ValueError(f"{VARIABLE} must be a number of gigabytes, not {quoted(setting)}") from error
    if wanted <= 0:
        return 0.0
    own = _make_folder(name)
    used = sum(one.stat().st_size for one in own.rglob("*.slice"))
    return min(wanted, used + MAX_SHARE_OF_FREE * shutil.disk_usage(own).free)


def _make_room(name: str, *, size: int, limit: float) -> None:
    """Note how large this training set's folder may grow, and keep of the others, the newest first, what fits beside it."""
    own = _folder(name)
    (own / SIZE_FILE).write_text(json.dumps(size))
    left = limit - size
    for other in sorted((one for one in own.parent.iterdir() if one != own), key=_last_used, reverse=True):
        left -= _size(other)
        if left < 0:
            shutil.rmtree(other, ignore_errors=True)


def _size(folder: Path) -> int:
    """Bytes that a folder may grow to."""
    try:
        return int(json.loads((folder / SIZE_FILE).read_text()))
    except (OSError, ValueError):
        return 0


def _last_used(folder: Path) -> float:
    try:
        return (folder / SIZE_FILE).stat().st_mtime
    except OSError:
        return 0.0
