"""The headers of all files below a folder: those that an earlier command has read from its index, the others from the files."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ltdiff.dicom.archive_files import Issue, regular_files
from ltdiff.dicom.header_index import HeaderIndex
from ltdiff.dicom.header_table import SCHEMA, STAMPS, Files, crash_reason, full_path, read_rows, refused_row
from ltdiff.system.progress import progress
from ltdiff.system.ray_address import joins_cluster

FILES_PER_BATCH = 2000
"""That a worker reads at a time: a second of work."""
MIN_FILES_FOR_RAY = 20_000
"""Fewer are read, at 2,000 a second, before a private Ray would have started and read them."""
LISTED_AT_A_TIME = 65_536
_LISTING = pa.schema([SCHEMA.field(name) for name in ("path", *STAMPS)])


class HeaderRows(NamedTuple):
    """Rows of `header_table.SCHEMA` in the order of the files, whose paths are `prefix` and the name in the row."""

    prefix: str
    rows: pa.Table


def scan_headers(
    root: Path, issues: list[Issue], *, without: Path | None, index: HeaderIndex, num_workers: int | None
) -> HeaderRows:
    """A row for each file below `root`; what is not entered or read is added to `issues`.

    Where many files are new, `num_workers` tasks of Ray read them; None: this process does.
    """
    prefix = os.path.join(root, "") if root.is_dir() else ""  # noqa: PTH118 (a Path has no slash at its end)
    listed = _list_files(root, prefix, issues, without)
    with index:
        known = index.find(listed)
        new = listed.filter(pc.invert(pc.is_in(listed["path"], value_set=known["path"].combine_chunks())))["path"]
        tables = [known]
        with progress(name="headers", unit="file", total=len(new), is_shown=len(new) > FILES_PER_BATCH) as bar:
            for rows in _read(prefix, new, num_workers):
                index.add(rows)
                tables.append(rows)
                bar.update(len(rows))
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return HeaderRows(prefix, table.take(pc.index_in(listed["path"], value_set=table["path"].combine_chunks())))


def _list_files(root: Path, prefix: str, issues: list[Issue], without: Path | None) -> pa.Table:
    """Path and stamps of each file."""
    files = (
        (os.fsencode(path.removeprefix(prefix)), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in regular_files(root, issues, without=without)
    )
    batches = []
    while listed := list(islice(files, LISTED_AT_A_TIME)):
        columns = [pa.array(column, field.type) for column, field in zip(zip(*listed, strict=True), _LISTING, strict=True)]
        batches.append(pa.record_batch(columns, schema=_LISTING))
    return pa.Table.from_batches(batches, schema=_LISTING).combine_chunks()


def _read(prefix: str, names: pa.ChunkedArray, num_workers: int | None) -> Iterator[pa.Table]:
    """The rows of the files, in any order."""
    starts = range(0, len(names), FILES_PER_BATCH)
    batches = (Files(prefix, names.slice(start, FILES_PER_BATCH).to_pylist()) for start in starts)
    is_worth_a_start = num_workers not in (None, 1) and len(names) >= MIN_FILES_FOR_RAY
    if num_workers is None or len(starts) < 2 or not (is_worth_a_start or joins_cluster()):
        yield from map(read_rows, batches)
        return
    from ltdiff.system.ray_map import map_on_ray

    lost: list[bytes] = []
    for files, rows in map_on_ray(read_rows, batches, num_workers=min(num_workers, len(starts))):
        if rows is None:
            lost += files.names
        else:
            yield rows
    if lost:  # one of them is to blame
        single = [Files(prefix, [name]) for name in lost]
        for (_, (name,)), rows in map_on_ray(read_rows, single, num_workers=min(num_workers, len(lost))):
            yield refused_row(name, crash_reason(full_path(prefix, name))) if rows is None else rows
