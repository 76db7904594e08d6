"""The files of an archive that may be slices, in a fixed order; what is not entered or read becomes an issue."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltdiff.system.atomic_files import PARTIAL_PREFIX
from ltdiff.system.text import printable


@dataclass(frozen=True)
class Issue:
    """A file that was left out ("skip") or a series that cannot be used ("fail")."""

    path: Path
    action: Literal["skip", "fail"]
    reason: str  # one sentence

    def __str__(self) -> str:
        return self.reason


def regular_files(root: Path, issues: list[Issue]) -> Iterator[Path]:
    """Files to read, in a fixed order. What is not entered or read (links to folders, FIFOs …) becomes an issue."""
    if not root.is_dir():
        yield from _if_regular(root, issues)
        return
    for folder, names in folders_below(root, issues):
        for name in names:
            yield from _if_regular(folder / name, issues)


def folders_below(root: Path, issues: list[Issue]) -> Iterator[tuple[Path, list[str]]]:
    """Every folder of a tree with the names of its files, in a fixed order."""

    def note_unreadable(error: OSError) -> None:
        issues.append(_skip(Path(error.filename), f"cannot be listed ({error.strerror})"))

    for folder, subfolders, names in os.walk(root, onerror=note_unreadable):
        for subfolder in [Path(folder, name) for name in sorted(subfolders)]:
            if subfolder.is_symlink():  # os.walk does not follow it
                issues.append(_skip(subfolder, "is a link to a folder, which is not followed"))
            elif subfolder.name.startswith(PARTIAL_PREFIX):
                issues.append(_skip(subfolder, "holds an unfinished series of a run that was interrupted"))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(PARTIAL_PREFIX))
        yield Path(folder), sorted(names)


def files_in(folders: Iterable[Path], issues: list[Issue]) -> Iterator[Path]:
    """As `regular_files`, in these folders alone and not in those below them."""
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if not entry.is_dir())
        except OSError as error:
            issues.append(_skip(folder, f"cannot be listed ({error.strerror})"))
            continue
        for name in names:
            yield from _if_regular(folder / name, issues)


def _if_regular(path: Path, issues: list[Issue]) -> Iterator[Path]:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        issues.append(_skip(path, f"leads nowhere ({error.strerror})"))
        return
    if regular:
        yield path
    else:
        issues.append(_skip(path, "is no regular file"))


def _skip(path: Path, reason: str) -> Issue:
    return Issue(path, "skip", f"{printable(path)} {reason}")
