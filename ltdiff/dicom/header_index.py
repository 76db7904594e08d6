"""The headers that earlier commands have read in an archive: the next command reads only files that are new or have changed.

CACHE/headers/ARCHIVE/VERSION-SHA256.parquet    some thousand rows of `header_table.SCHEMA`

A part is written once and never changed: whole or not there, and named by the sha256 of its content, without which it is not
believed. So a command that is killed leaves the parts that it has written, and of two commands on one archive each adds some.
VERSION stands for the code that reads headers: another one reads all of them again.

The folder is the user's own (mode 0700): rows hold paths, UIDs, times of acquisition and serial numbers of scanners, by which
patients can be known again. Names, numbers and birth dates are hashed (`Header`).
"""

import hashlib
import logging
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom

from ltdiff.dicom.header import hashed
from ltdiff.dicom.header_table import SCHEMA, STAMPS
from ltdiff.system.atomic_files import PARTIAL_PREFIX, replace_file
from ltdiff.system.cache_folder import cache_folder

logger = logging.getLogger(__name__)

ROWS_PER_PART = 20_000
"""What a command that is killed may have read in vain: some seconds of work."""
MAX_SPARE_PARTS = 8
"""Beyond twice as many as the rows need, parts are written anew as few."""
SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read may change again without another time: some file systems count in 2 s."""
OLD_S = 3600
"""A part that is still being written after this was left by a command that was killed."""


class HeaderIndex:
    """Rows of the files of one archive. When its block ends, however it ends, all that was added is on the disk."""

    def __init__(self, folder: Path | None) -> None:
        """In `folder`, which is made when there is something to keep; None keeps nothing."""
        self.folder = folder
        self.new: list[pa.Table] = []

    @classmethod
    def of(cls, root: Path) -> Self:
        """The index of the archive below `root`, in the user's cache folder."""
        try:
            return cls(cache_folder() / "headers" / hashed(str(root.absolute())))
        except OSError as error:
            logger.warning("headers are not kept for the next command: %s", error)
            return cls(None)

    def find(self, files: pa.Table) -> pa.Table:
        """The rows of those `files` (path, size_bytes, mtime_ns, ctime_ns) that are what they were when they were read."""
        parts = self._read_parts()
        rows = pa.concat_tables([SCHEMA.empty_table(), *parts])
        if not len(rows):
            return rows
        places = pc.index_in(_keys(files), value_set=_keys(rows)).drop_null()
        found = rows.unify_dictionaries().take(places)
        if len(parts) > 2 * len(found) / ROWS_PER_PART + MAX_SPARE_PARTS or len(rows) > 2 * len(found):
            self._write_anew(found)
        return found

    def add(self, rows: pa.Table) -> None:
        """Keep what was read, but for what may be another time by the next command."""
        if self.folder is None:
            return
        last_change_ns = pc.max_element_wise(rows["mtime_ns"], rows["ctime_ns"])
        self.new.append(rows.filter(pc.and_(rows["lasts"], pc.less(last_change_ns, time.time_ns() - SETTLED_NS))))
        if sum(map(len, self.new)) >= ROWS_PER_PART:
            self._write_new()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._write_new()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_version()}-*.parquet")) if self.folder else []

    def _read_parts(self) -> list[pa.Table]:
        tables = []
        for path in self._parts():
            try:
                content = path.read_bytes()
            except OSError:  # another command has written it anew
                continue
            if path.name == _part_name(content):
                tables.append(pq.read_table(pa.BufferReader(content), schema=SCHEMA))
            else:
                logger.warning("a damaged part of the index of headers is not used: %s", path)
                path.unlink(missing_ok=True)
        return tables

    def _write_new(self) -> None:
        rows = pa.concat_tables([SCHEMA.empty_table(), *self.new])
        self.new = []
        if len(rows):
            self._write(rows)

    def _write_anew(self, rows: pa.Table) -> None:
        """In the place of all parts: they are too many, or most of what they hold is of files that are no more."""
        before = self._parts()
        written = [self._write(rows[start : start + ROWS_PER_PART]) for start in range(0, len(rows), ROWS_PER_PART)]
        if None not in written:
            for path in set(before) - set(written):
                path.unlink(missing_ok=True)

    def _write(self, rows: pa.Table) -> Path | None:
        """Write a part; None where that is not possible, which costs the next command's time and nothing else."""
        if self.folder is None:
            return None
        sink = pa.BufferOutputStream()
        pq.write_table(rows.unify_dictionaries().combine_chunks(), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        path = self.folder / _part_name(content)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._clear()
            replace_file(path, lambda temporary: temporary.write_bytes(content))
        except OSError as error:
            logger.warning("headers are not kept for the next command: %s", error)
            self.folder = None
            return None
        return path

    def _clear(self) -> None:
        """Remove the parts of other versions, and what commands that were killed have left."""
        assert self.folder is not None
        for path in self.folder.iterdir():
            if path.name.startswith(PARTIAL_PREFIX):
                with suppress(FileNotFoundError):  # another command has just finished it
                    if time.time() - path.stat().st_mtime > OLD_S:
                        shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(_version()):
                path.unlink(missing_ok=True)


def _keys(files: pa.Table) -> pa.Array:
    """What stands for a file as it is."""
    stamps = [files[name].cast(pa.large_string()).cast(pa.large_binary()) for name in STAMPS]
    keys = pc.binary_join_element_wise(*stamps, files["path"], pa.scalar(b"/", pa.large_binary()))
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def _part_name(content: bytes) -> str:
    return f"{_version()}-{hashlib.sha256(content).hexdigest()}.parquet"


@cache
def _version() -> str:
    """8 hex digits that stand for the code that reads a header."""
    sources = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join([pydicom.__version__.encode(), *sources])).hexdigest()[:8]
