"""The object that is written last in a folder of object storage, and says that the others are complete.

folder/_COMMITTED   the folder is a whole result; all its files, with size and sha256
folder/_WRITING     instead of it: a command writes the folder, or was killed; the files that it had put up

One of them is always there while a command of ours writes: a reader takes the files of _COMMITTED or none.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from ltdiff.system.object_storage import find_all, read_object, write_object
from ltdiff.system.storage_url import Url

COMMITTED = "_COMMITTED"
WRITING = "_WRITING"
MARKS = (COMMITTED, WRITING)
_FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """Files of a folder that belong together: (size in bytes, sha256 in hex) by relative name. `name` is one of `MARKS`."""

    url: Url
    name: str
    number: str
    writer: str
    files: Mapping[str, tuple[int, str]]

    @property
    def is_committed(self) -> bool:
        """Whether the folder is a whole result."""
        return self.name == COMMITTED

    def below(self, url: Url) -> dict[str, tuple[int, str]]:
        """Those of its files that lie below a folder of it, by their names there; or the object itself, as ""."""
        prefix = url.key[len(self.url.key) :].strip("/")
        if prefix in self.files:
            return {"": self.files[prefix]}
        start = f"{prefix}/" if prefix else ""
        return {name[len(start) :]: entry for name, entry in self.files.items() if name.startswith(start)}


def read_snapshot(url: Url) -> Snapshot | None:
    """What a command has written of a folder, or is writing; None where none has."""
    return _innermost([url])


def read_snapshot_around(url: Url) -> Snapshot | None:
    """That of the innermost folder that an object or folder lies in, or is."""
    return _innermost(url.folders)


def write_snapshot(url: Url, name: str, *, number: str, files: Mapping[str, tuple[int, str]]) -> None:
    """Put the object `name` (of `MARKS`) of a folder up."""
    listed = {file: {"size": size, "sha256": sha256} for file, (size, sha256) in sorted(files.items())}
    content = {"format": _FORMAT, "number": number, "writer": this_process(), "files": listed}
    write_object(url.child(name), (json.dumps(content, indent=1) + "\n").encode())


def new_number() -> str:
    """What no other snapshot is called."""
    return uuid4().hex


def this_process() -> str:
    """Its number and machine, as a message names it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def _innermost(folders: list[Url]) -> Snapshot | None:
    marks = [(folder, name) for folder in folders for name in MARKS]  # a commit before what may be left of its writing
    for (folder, name), stamp in zip(marks, find_all([folder.child(name) for folder, name in marks]), strict=True):
        if stamp is not None:
            return _parse(folder, name, read_object(folder.child(name)))
    return None


def _parse(url: Url, name: str, content: bytes) -> Snapshot:
    try:
        values = json.loads(content)
        if values["format"] != _FORMAT:
            raise ValueError("another format")
        files = {file: (int(entry["size"]), str(entry["sha256"])) for file, entry in values["files"].items()}
        return Snapshot(url, name, str(values["number"]), str(values["writer"]), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{url.child(name)} is damaged, or of another version of ltdiff: remove it and begin anew") from error
