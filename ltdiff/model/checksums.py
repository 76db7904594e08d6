"""SHA256SUMS of an exported model folder: no registry is at hand where it is used, and a changed byte must show all the same.

The format is that of `sha256sum`, which can check it too.
"""

from __future__ import annotations

from pathlib import Path

from ltdiff.system.atomic_files import file_sha256

SUMS_FILE = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Note the sha256 of every file of the folder."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS_FILE)
    (folder / SUMS_FILE).write_text("".join(f"{file_sha256(path)}  {path.name}\n" for path in files))


def check_sums(folder: Path) -> None:
    """ValueError naming a file that is not what SHA256SUMS notes; a folder without SHA256SUMS was not exported and passes."""
    for line in _read_lines(folder):
        sha256, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or file_sha256(path) != sha256:
            raise ValueError(f"{path} is missing or damaged: its sha256 is not the one in {SUMS_FILE}")


def drop_sum(folder: Path, name: str) -> None:
    """Forget a file that is made anew."""
    lines = _read_lines(folder)
    if lines:
        kept = [line for line in lines if line.partition("  ")[2] != name]
        (folder / SUMS_FILE).write_text("".join(f"{line}\n" for line in kept))


def _read_lines(folder: Path) -> list[str]:
    path = folder / SUMS_FILE
    return path.read_text().splitlines() if path.is_file() else []
