"""Where a command writes: a folder; or object storage, where another machine goes on that has no local copies."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ltdiff.system import remote_output as remote_output_module
from ltdiff.system.commit_object import read_snapshot
from ltdiff.system.object_storage import read_object
from ltdiff.system.remote_input import fetch
from ltdiff.system.remote_output import remote_output
from ltdiff.system.storage_url import Url

OFTEN = (0.5, 1.0)
"""Files are put up so often, in seconds, or as long after the last time as that took."""
PROMPT = f"""
import runpy, sys
from ltdiff.system import remote_output
remote_output.PUT_EVERY_S, remote_output.PAUSE_RATIO = {OFTEN}
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script that puts files up often."""


class FolderPlace:
    """A folder: whoever goes on with it finds all that was written."""

    python = (sys.executable,)
    """Begins the command line of a script."""

    def __init__(self, folder: Path) -> None:
        self.argument, self.path = str(folder), folder

    @contextmanager
    def written(self) -> Iterator[Path]:
        """What a command does with its argument."""
        yield self.path

    def names(self) -> set[str]:
        """Files that whoever goes on finds."""
        walk = os.walk(self.path)  # passes over what goes meanwhile
        return {str(Path(folder, name).relative_to(self.path)) for folder, _, names in walk for name in names}

    def read(self, name: str) -> str:
        """One of them."""
        return (self.path / name).read_text()

    def move(self) -> None:
        """Go on elsewhere."""

    def result(self) -> Path:
        """What a reader gets."""
        return self.path


class StoragePlace:
    """A folder on an S3 server: whoever goes on with it finds what was put up."""

    python = (sys.executable, "-c", PROMPT)

    def __init__(self, url: Url, change_machine: Callable[[], None]) -> None:
        self.url, self.argument, self.move = url, str(url), change_machine

    @property
    def path(self) -> Path:
        """The local copy on this machine."""
        return self.url.copy_in("write")

    @contextmanager
    def written(self) -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in zip(("PUT_EVERY_S", "PAUSE_RATIO"), OFTEN, strict=True):
                patch.setattr(remote_output_module, name, value)
            with remote_output(self.url) as path:
                yield path

    def names(self) -> set[str]:
        snapshot = read_snapshot(self.url)
        return set() if snapshot is None else set(snapshot.files)

    def read(self, name: str) -> str:
        return read_object(self.url.child(name)).decode()

    def result(self) -> Path:
        return fetch(self.url)


Place = FolderPlace | StoragePlace


def reported_steps(place: Place, phase: str) -> list[int]:
    """Of the checkpoints of a training there."""
    return [json.loads(line)["step"] for line in place.read(f"{phase}/metrics.jsonl").splitlines()]
