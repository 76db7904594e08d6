"""Files and folders that are whole or not there, that outlive a crash of the machine, and that are what they were."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_PREFIX = ".partial-"
"""Prefix of hidden folders that are being filled; a killed process may leave one."""


def write_text(path: Path, text: str) -> None:
    """Write a text as `replace_file` does."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a hidden neighbour, and when that is on the disk move it over `path` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` by one rename when the block ends, and vanishes if it raises.

    Whoever finished first wins where two write the same folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=folder.parent))  # 0700: nobody reads half a series
    try:
        growing = hidden / folder.name
        growing.mkdir()
        yield growing
        if not folder.exists():
            finish_folder(growing, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def finish_folder(partial: Path, folder: Path) -> None:
    """Give a folder of files that is complete its name, when all of it is on the disk."""
    for path in (*partial.iterdir(), partial):
        sync(path)
    partial.rename(folder)
    sync(folder.parent)


def remove_partial_folders(parent: Path) -> None:
    """Remove what killed writers left in `parent`. For the one process that may write there."""
    for hidden in parent.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(hidden, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Return the sha256 of the file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or what a folder says of its files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
