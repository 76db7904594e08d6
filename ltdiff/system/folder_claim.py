"""The claim of an output folder: a file in it says what is made there, and only the same settings and data resume it."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ltdiff.system.atomic_files import write_text


def claim(path: Path, description: Mapping[str, Any], *, ignored: Collection[str] = (), remedy: str = "another folder") -> None:
    """Write `description` to the file `path`, or check that the file holds it; keys that are `ignored` are written anew.

    Raises:
        ValueError: the file notes something else, whose differences are named with the `remedy`; or the folder of a file that is
            not there yet holds other files.
    """
    wanted = _as_json(description)
    if not path.is_file():
        if path.parent.is_dir() and any(not one.name.startswith(".") for one in path.parent.iterdir()):
            raise ValueError(f"{path.parent} is not empty and has no {path.name}; choose another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_claim(path, wanted)
    elif changes := find_changes(path, wanted, ignored=ignored):
        raise ValueError(
            f"{path.parent} holds work with other settings or data ({'; '.join(changes)}); use the same ones to resume it, or "
            f"{remedy}"
        )
    elif (noted := read_claim(path)) | wanted != noted:
        write_claim(path, noted | wanted)


def find_changes(path: Path, description: Mapping[str, Any], *, ignored: Collection[str] = ()) -> list[str]:
    """Describe how `description` differs from the file `path`, in the keys that `description` has."""
    noted = read_claim(path)
    wanted = {key: value for key, value in _as_json(description).items() if key not in ignored}
    differences = _compare({key: noted.get(key) for key in wanted}, wanted)
    return [f"{key} was {before!r}, now {after!r}" for key, before, after in differences]


def read_claim(path: Path) -> dict[str, Any]:
    """Read a folder's description."""
    return dict(json.loads(path.read_text()))


def write_claim(path: Path, description: Mapping[str, Any]) -> None:
    """Write a folder's description in place of the one before."""
    write_text(path, json.dumps(description, indent=1) + "\n")


def _as_json(description: Mapping[str, Any]) -> dict[str, Any]:
    """Convert to what JSON gives back: tuples become lists."""
    return dict(json.loads(json.dumps(description)))


def _compare(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in sorted(old | new)
            for difference in _compare(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if old == new else [(key, old, new)]
