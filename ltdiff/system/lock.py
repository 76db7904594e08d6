"""One writer at a time for an output folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ltdiff.system.atomic_files import open_to_append

LOCK_FILE = ".ltdiff.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and keep every other job out of it.

    The lock belongs to the process and ends with it, however it ends, so there is none to clear away after a crash.

    Raises:
        ValueError: another job holds the folder (the sentence says which), or it is no folder, or it cannot be locked; or the
            lock is a link to a file, which would be emptied.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open_to_append(folder / LOCK_FILE) as file:
        _lock(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = file.read().strip() or "another job"
        raise ValueError(f"{folder} is being written by {owner}: wait for it, or choose another folder") from error
    except OSError as error:
        raise ValueError(f"{folder} cannot be locked against other jobs ({error.strerror})") from error
