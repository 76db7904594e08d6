"""What a derived series was made of and consists of: a hidden JSON file in the output folder, by which the next run knows it."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ltdiff.system.atomic_files import file_sha256, write_text
from ltdiff.system.text import printable

FOLDER_NAMES = re.compile(r"2\.25\.\d+")
"""UIDs that are made here."""
SLICE_NAMES = re.compile(r"slice_\d+\.dcm")


@dataclass(frozen=True)
class FileFacts:
    """A file's sha256, and the size and times (of its content and of its inode, in ns) that it had then."""

    sha256: str
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "FileFacts":
        """Of the file as it is now."""
        stamp = _stamp(path)
        return cls(file_sha256(path), stamp)

    def fit(self, path: Path) -> bool:
        """Whether the file has this content: it is read only where its size or a time differs (a copy, a move)."""
        if path.is_symlink() or not path.is_file():
            return False
        stamp = _stamp(path)
        return stamp == self.stamp or (stamp[0] == self.stamp[0] and file_sha256(path) == self.sha256)


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def joint_sha256(files: Sequence[FileFacts]) -> str:
    """One sha256 (hex) for all, in their order."""
    return hashlib.sha256("".join(facts.sha256 for facts in files).encode()).hexdigest()


@dataclass(frozen=True)
class OutputRecord:
    """The name of the derived series' folder, when it was made, its source's slices in order, its own by name (none while it is
    being written)."""

    folder: str
    made: datetime
    sources: list[FileFacts]
    slices: dict[str, FileFacts]

    def find_change(self, sources: Sequence[Path], folder: Path) -> str:
        """What is no longer as it was; "" where all is."""
        if folder.is_symlink():
            return "a link has its place"
        if not folder.is_dir() or not self.slices:
            return "it is not there, or not finished"
        for name, facts in self.slices.items():
            if not facts.fit(folder / name):
                return f"its {name} is missing or changed"
        added = {path.name for path in folder.iterdir() if path.name[0] != "."} - set(self.slices)
        if added:
            return f"{len(added)} files were added to it"
        if len(sources) != len(self.sources) or not all(map(FileFacts.fit, self.sources, sources)):
            return "the files of its source have changed"
        return ""


def read_record(path: Path) -> OutputRecord | None:
    """What `write_record` wrote; None where there is nothing, or nothing of that kind."""
    try:
        content = json.loads(path.read_text())
        record = OutputRecord(
            folder=str(content["folder"]),
            made=datetime.fromisoformat(content["made"]),
            sources=[_facts(entry) for entry in content["sources"]],
            slices={str(name): _facts(entry) for name, entry in content["slices"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_ours = FOLDER_NAMES.fullmatch(record.folder) and all(map(SLICE_NAMES.fullmatch, record.slices))
    return record if is_ours else None


def _facts(entry: dict[str, object]) -> FileFacts:
    return FileFacts(str(entry["sha256"]), tuple(entry["stamp"]))  # type: ignore[arg-type]


def write_record(path: Path, record: OutputRecord) -> None:
    """Write the record; a link in its place is replaced."""
    write_text(path, json.dumps(record, default=_plain) + "\n")


def _plain(value: object) -> object:
    return vars(value) if isinstance(value, OutputRecord | FileFacts) else str(value)


def remove_series(folder: Path) -> None:
    """Remove a derived series that is not as it was made, or the link in its place.

    Raises:
        ValueError: the folder holds something else than slices of ours.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    if not folder.exists():
        return
    others = [path for path in sorted(folder.iterdir()) if path.is_dir() or not _may_be_ours(path.name)]
    if others:
        raise ValueError(f"{printable(others[0])} is no slice that ltdiff wrote: remove it or choose another folder")
    shutil.rmtree(folder)


def _may_be_ours(name: str) -> bool:
    return name.startswith(".") or SLICE_NAMES.fullmatch(name) is not None
