"""The series of an archive by their headers, folder by folder: no process holds the headers of more than one batch of folders.

A series whose slices lie in several folders is found when all folders are known, and these are read once more, together.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltdiff import __version__
from ltdiff.dicom.archive_files import Issue, folders_below
from ltdiff.dicom.series import FoundSeries, Series, find_series_in
from ltdiff.survey.kept_results import KeptResults
from ltdiff.survey.series_record import SeriesRecord
from ltdiff.system.progress import progress
from ltdiff.system.ray_address import joins_cluster
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

FILES_PER_BATCH = 2000
"""That a worker is given at a time, a second of work; more where a single folder has more."""

Folders = tuple[str, ...]
Found = dict[str, Any]
"""Of folders, as JSON: `uids` that their files name, `series` (SeriesRecord), `issues` (path, action, reason)."""


def survey_headers(root: Path, *, out: Path, kept: KeptResults, num_workers: int) -> tuple[list[SeriesRecord], list[Issue]]:
    """Every series below the folder `root`, and what is none; folders that `kept` knows unchanged are not read again.

    What lies in `out` is passed over.
    """
    issues: list[Issue] = []
    num_files = {
        str(folder): len(names)
        for folder, names in folders_below(root, issues)
        if names and (out == root or not folder.is_relative_to(out))
    }
    keys = {folder: _content_key(folder) for folder in num_files}
    found = {folder: kept.known[key] for folder, key in keys.items() if key in kept.known}
    todo = {folder: num for folder, num in num_files.items() if folder not in found}
    if found:
        logger.info("%d of %d folders were read before", len(found), len(num_files))
    with progress(name="headers", unit="file", total=sum(todo.values())) as bar:
        for folder, result in _read_all(todo, num_workers=num_workers):
            found[folder] = result
            kept.keep({keys[folder]: result})
            bar.update(todo[folder])
    results = [*_joined({folder: found[folder] for folder in num_files})]
    records = [SeriesRecord.from_dict(record) for result in results for record in result["series"]]
    issues += [Issue(Path(path), action, reason) for result in results for path, action, reason in result["issues"]]
    return records, issues


def read_folders(folders: Folders) -> Found:
    """Find the series in these folders, and not in those below them."""
    findings = find_series_in(map(Path, folders))
    records, issues = records_of((findings.series, findings.issues))
    return {
        "uids": sorted(findings.series_instance_uids),
        "series": [record.to_dict() for record in records],
        "issues": [(str(issue.path), issue.action, issue.reason) for issue in issues],
    }


def records_of(found: FoundSeries) -> tuple[list[SeriesRecord], list[Issue]]:
    """What is kept of series that were found, and what is none."""
    series, issues = found
    unwritable = [  # a table holds paths as text
        Issue(one.path, "fail", f"the series of {printable(one.path)} lies under a name that is not UTF-8: rename it")
        for one in series
        if not _is_utf8(one)
    ]
    return [SeriesRecord.of(one) for one in series if _is_utf8(one)], [*issues, *unwritable]


def _is_utf8(series: Series) -> bool:
    try:
        "".join(str(header.path) for header in series.slices).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_each(folders: Folders) -> list[Found]:
    return [read_folders((folder,)) for folder in folders]


def _read_all(num_files: Mapping[str, int], *, num_workers: int) -> Iterator[tuple[str, Found]]:
    """Each folder with what was found in it."""
    if num_workers == 1 and not joins_cluster():
        for folder in num_files:
            yield folder, read_folders((folder,))
        return
    if not num_files:
        return
    from ltdiff.survey.ray_map import map_on_ray

    batches, again = list(_batches(num_files)), list[Folders]()
    for batch, results in map_on_ray(_read_each, batches, num_workers=min(num_workers, len(batches))):
        if results is None:
            again += [(folder,) for folder in batch]
        else:
            yield from zip(batch, results, strict=True)
    if again:
        for (folder,), results in map_on_ray(_read_each, again, num_workers=min(num_workers, len(again))):
            yield folder, results[0] if results else _unreadable(folder)


def _batches(num_files: Mapping[str, int]) -> Iterator[Folders]:
    batch: list[str] = []
    num = 0
    for folder, num_of_folder in num_files.items():
        batch.append(folder)
        num += num_of_folder
        if num >= FILES_PER_BATCH:
            yield tuple(batch)
            batch, num = [], 0
    if batch:
        yield tuple(batch)


def _unreadable(folder: str) -> Found:
    reason = f"{printable(Path(folder))} ends the process that reads it (a crash, or no memory)"
    return {"uids": [], "series": [], "issues": [(folder, "fail", reason)]}


def _joined(found: Mapping[str, Found]) -> Iterator[Found]:
    """What was found in each folder, or in several that hold slices of one series."""
    for folders in _sharing_series({folder: result["uids"] for folder, result in found.items()}):
        if len(folders) > 1:
            logger.info("%s and %d more folders hold slices of one series", printable(Path(folders[0])), len(folders) - 1)
        yield found[folders[0]] if len(folders) == 1 else read_folders(folders)


def _sharing_series(uids: Mapping[str, Iterable[str]]) -> list[Folders]:
    """The folders in groups, so that no two groups name the same series."""
    group_of: dict[str, list[str]] = {}  # by folder
    first: dict[str, str] = {}  # by series
    for folder, own in uids.items():
        group_of[folder] = [folder]
        for uid in own:
            other = group_of[first.setdefault(uid, folder)]
            if other is not group_of[folder]:
                other += group_of[folder]
                for member in group_of[folder]:
                    group_of[member] = other
    return [tuple(group) for folder, group in group_of.items() if group[0] == folder]


def _content_key(folder: str) -> str:
    """Stands for the files of a folder with their sizes and times of change."""
    sha = hashlib.sha256(f"{__version__}\0{folder}".encode("utf-8", "surrogateescape"))
    try:
        with os.scandir(folder) as entries:
            files = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        for name in sorted(files):
            sha.update(f"{name}\0{files[name].st_size}\0{files[name].st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    except OSError:  # reading it says what is wrong
        sha.update(os.urandom(8))
    return sha.hexdigest()
