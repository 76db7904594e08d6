"""Local copies of objects and folders that commands read: whole, and fetched once for each version."""

import logging
import os
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ltdiff.system.commit_object import COMMITTED, MARKS, WRITING, read_snapshot_around
from ltdiff.system.object_storage import Stamp, check_bucket, find, for_each, get_file, list_objects, remove_stale_partials
from ltdiff.system.storage_url import (
    SCHEMES,
    Url,
    copies_folder,
    known_copies_folder,
    make_copies_folder,
    parse_url,
    url_of,
    with_urls,
)

logger = logging.getLogger(__name__)

READ = "read"


def fetch(url: Url) -> Path:
    """The local copy of an object, or of a folder with all that is in it; only what is new or was changed is read.

    A folder that an ltdiff command wrote is taken as it was committed. Folders in others that a command has not finished are left
    out.

    Raises:
        ValueError: there is no such object or folder; a command has not finished it; its objects are not those that were
            committed; there is no room for it; or see `object_storage.find`.
    """
    copy = url.copy_in(READ)
    snapshot = read_snapshot_around(url)
    if snapshot is not None and not snapshot.is_committed:
        raise ValueError(
            f"{url} is not finished: {snapshot.writer} was writing {snapshot.url}. Wait for it, or run its command again"
        )
    alone = find(url)
    objects = {"": alone} if alone is not None else _finished(list_objects(url), url)
    committed = {} if snapshot is None else snapshot.below(url)
    if not objects and not committed:
        check_bucket(url)
        raise ValueError(f"{url}: there is no such object or folder")
    if committed:
        objects = _committed_objects(objects, committed, url)
    _remove_others(copy, objects)
    _get_all(url, copy, {name: stamp for name, stamp in objects.items() if Stamp.of_file(copy / name) != stamp}, committed)
    return copy


def fetch_missing(path: Path) -> bool:
    """Fetch the object whose local copy a path is, if it is one and is missing; whether it was.

    So a manifest of URLs is read on any machine, slice by slice.
    """
    url = url_of(path)
    if url is None or path.exists() or url.copy_in(READ) != path:
        return False
    stamp = find(url)
    if stamp is None:
        check_bucket(url)
        raise ValueError(f"{url}: there is no such object")
    get_file(url, path, stamp)
    return True


def fetch_whole_folder(folder: Path) -> None:
    """Fetch the folder whose local copy a path is, if it is one; once in a process."""
    url = url_of(folder)
    if url is not None and url.copy_in(READ) == folder:
        _fetch_once(url)


@cache
def _fetch_once(url: Url) -> None:
    fetch(url)


def as_locations(paths: Iterable[str]) -> list[str]:
    """What a table says of files: the URL of a file that is a local copy of what commands read, the path of any other."""
    folder = known_copies_folder()
    if folder is None:
        return list(paths)
    copies = f"{folder / READ}{os.sep}"
    return [with_urls(path) if path.startswith(copies) else path for path in paths]


def as_paths(locations: Iterable[str]) -> list[str]:
    """The paths of files that a table names by paths or URLs; nothing is fetched."""
    known = known_copies_folder()  # found once: there may be a million
    return [_path_of(location, known) if location.startswith(SCHEMES) else location for location in locations]


def _path_of(location: str, known: Path | None) -> str:
    url = parse_url(location)
    return location if url is None else str((known or copies_folder()) / READ / url.scheme / url.place)


def _finished(objects: dict[str, Stamp], url: Url) -> dict[str, Stamp]:
    """Objects but those of our own marks, and of folders that a command has not finished."""
    marked = {mark: {_folder(name) for name in objects if _base(name) == mark} for mark in MARKS}
    unfinished = marked[WRITING] - marked[COMMITTED]
    for folder in sorted(unfinished):
        logger.warning("%s is left out: a command has not finished it", url.child(folder))
    kept = (name for name in objects if _base(name) not in MARKS and unfinished.isdisjoint(_folders(_folder(name))))
    return {name: objects[name] for name in kept}


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _folders(folder: str) -> Iterable[str]:
    while folder:
        yield folder
        folder = _folder(folder)


def _committed_objects(objects: dict[str, Stamp], committed: dict[str, tuple[int, str]], url: Url) -> dict[str, Stamp]:
    for name, (size, _) in committed.items():
        if name not in objects or objects[name].size != size:
            raise ValueError(_changed(url, name))
    return {name: objects[name] for name in committed}


def _changed(url: Url, name: str) -> str:
    return f"{url.child(name)} is not what was committed: it was changed or removed since; make it anew"


def _get_all(url: Url, copy: Path, missing: dict[str, Stamp], committed: dict[str, tuple[int, str]]) -> None:
    if not missing:
        return
    remove_stale_partials()
    check_room(url, sum(stamp.size for stamp in missing.values()))

    def get(name: str) -> None:
        sha256 = get_file(url.child(name), copy / name, missing[name])
        if name in committed and sha256 != committed[name][1]:
            (copy / name).unlink()
            raise ValueError(_changed(url, name))

    for_each(list(missing), get, name=f"read {url}")
    logger.info("%s: %d files read, %.1f MB", url, len(missing), sum(stamp.size for stamp in missing.values()) / 1e6)


def check_room(url: Url, num_bytes: int) -> None:
    """ValueError where the local copies of so many bytes have no room."""
    folder = make_copies_folder()
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"{url} has {num_bytes / 1e9:.1f} GB to be copied, and {folder} has room for {free / 1e9:.1f} GB: "
            "let LTDIFF_CACHE name a folder on a larger disk"
        )


def _remove_others(copy: Path, objects: dict[str, Stamp]) -> None:
    """Remove files of a local copy whose objects are gone, and what was a folder and is an object now, or the other way round."""
    if copy.is_file() and "" not in objects:
        copy.unlink()
    if copy.is_dir() and "" in objects:
        shutil.rmtree(copy)
    for folder, _, names in os.walk(copy):
        for name in names:
            path = Path(folder, name)
            if str(path.relative_to(copy)) not in objects:
                path.unlink()
