"""Files and folders that are whole or not there, that outlive a crash of the machine, and that are what they were."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ltdiff.system.text import printable

PARTIAL_PREFIX = ".partial-"
"""Prefix of hidden folders that are being filled; a killed process may leave one."""


def write_text(path: Path, text: str) -> None:
    """Write a text as `replace_file` does."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of that name in a hidden folder beside, and when it is on the disk move it over `path` in one step.

    A link called `path` is replaced and never followed. Nobody else can put one in the way: the hidden folder is the user's own.
    """
    hidden = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=path.parent))
    try:
        temporary = hidden / path.name
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def open_to_append(path: Path) -> TextIO:
    """Open a file to read it and to write at its end; it is made where it is missing.

    Raises:
        ValueError: it is a link of either kind, so another file would be written, or no file at all.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise ValueError(f"{printable(path)} is a link or a folder where a file is to be written: remove it") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise ValueError(f"{printable(path)} has another name as well, or is no regular file: remove it")
    return os.fdopen(descriptor, "r+")


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
