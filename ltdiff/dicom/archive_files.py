"""The files of an archive that may be slices, in a fixed order; what is not entered or read becomes an issue."""

import os
import stat
from collections.abc import Iterator
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


def regular_files(root: Path, issues: list[Issue], *, without: Path | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """Files to read with what the system says of them, in a fixed order. What is not entered or read (links to folders, FIFOs …)
    becomes an issue; a folder `without` below `root` is passed over.
    """
    if not root.is_dir():
        yield from _if_regular(str(root), issues)
        return
    for folder, names in _folders_below(root, issues, without):
        for name in names:
            yield from _if_regular(os.path.join(folder, name), issues)  # noqa: PTH118 (a Path takes three times as long)


def _folders_below(root: Path, issues: list[Issue], without: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Every folder of a tree with the names of its files, in a fixed order."""

    def note_unreadable(error: OSError) -> None:
        issues.append(_skip(Path(error.filename), f"cannot be listed ({error.strerror})"))

    for folder, subfolders, names in os.walk(root, onerror=note_unreadable):
        entered = []
        for subfolder in [Path(folder, name) for name in sorted(subfolders)]:
            if subfolder.is_symlink():  # os.walk does not follow it
                issues.append(_skip(subfolder, "is a link to a folder, which is not followed"))
            elif subfolder.name.startswith(PARTIAL_PREFIX):
                issues.append(_skip(subfolder, "holds an unfinished series of a run that was interrupted"))
            elif subfolder != without:
                entered.append(subfolder.name)
        subfolders[:] = entered
        yield folder, sorted(names)


def _if_regular(path: str, issues: list[Issue]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        status = os.stat(path)  # noqa: PTH116 (as above)
    except OSError as error:
        issues.append(_skip(Path(path), f"leads nowhere ({error.strerror})"))
        return
    if stat.S_ISREG(status.st_mode):
        yield path, status
    else:
        issues.append(_skip(Path(path), "is no regular file"))


def _skip(path: Path, reason: str) -> Issue:
    return Issue(path, "skip", f"{printable(path)} {reason}")
