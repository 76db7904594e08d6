"""One writer at a time for an output folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".ltdiff.system.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and keep every other job out of it.

    The lock belongs to the process and ends with it, however it ends, so there is none to clear away after a crash.

    Raises:
        ValueError: another job holds the folder (the sentence says which), or it is no folder, or it cannot be locked.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        _lock(file.fileno(), folder, owner=_owner(folder))
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _lock(descriptor: int, folder: Path, *, owner: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"{folder} is being written by {owner}: wait for it, or choose another folder") from error
    except OSError as error:
        raise ValueError(f"{folder} cannot be locked against other jobs ({error.strerror})") from error


def _owner(folder: Path) -> str:
    return (folder / LOCK_FILE).read_text().strip() or "another job"
