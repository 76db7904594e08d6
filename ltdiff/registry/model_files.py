"""A model folder as the registry takes and gives it: `model.json`, the safetensors files that it lists, and the calibration.

`model.json` holds the other files' sha256 under "files"; nothing else is copied, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ltdiff.system.atomic_files import file_sha256

DESCRIPTION = "model.json"
CALIBRATION = "calibration.json"


def copy_model(source: Path, target: Path, files: Iterable[str]) -> None:
    """Copy `files` of a model folder and nothing else, with a `model.json` that lists just these."""
    target.mkdir()
    description = json.loads((source / DESCRIPTION).read_bytes())
    kept = {name: sha256 for name, sha256 in description["files"].items() if name in files}
    if kept == description["files"]:
        shutil.copyfile(source / DESCRIPTION, target / DESCRIPTION)  # byte for byte: its sha256 is known elsewhere
    else:
        (target / DESCRIPTION).write_text(json.dumps(description | {"files": kept}, indent=2))
    for name in kept:
        shutil.copyfile(source / name, target / name)


def check_calibration(folder: Path, sha256: str | None) -> None:
    """ValueError where a model folder has another calibration than this one (None: none at all)."""
    path = folder / CALIBRATION
    if (file_sha256(path) if path.is_file() else None) != sha256:
        raise ValueError(f"{path} is not what was registered: it is missing, or new, or its sha256 differs")


def check_files(folder: Path, description_sha256: str | None = None) -> dict[str, str]:
    """The files a model folder lists, with their sha256; ValueError where one is missing, changed or no weights."""
    path = folder / DESCRIPTION
    try:
        files = dict(json.loads(path.read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a model of ltdiff ({type(error).__name__})") from error
    if description_sha256 not in (None, file_sha256(path)):
        raise ValueError(f"{path} is not the file that was registered, its sha256 differs")
    for name, sha256 in files.items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{path} lists {name!r}, which is no safetensors file of its folder")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing, {DESCRIPTION} lists it")
        if file_sha256(folder / name) != sha256:
            raise ValueError(f"{folder / name} is not the file that {DESCRIPTION} lists, its sha256 differs")
    return files


def read_validation(folder: Path) -> dict[str, Any] | None:
    """What the calibration of a model folder says of the validation pairs; None where there is none.

    {"output": "mean", "ccc": {"glcm": 0.98, …}, "data_fingerprint": "<64 hex digits>"}: the output that was chosen, its CCC by
    class of features, and the pairs (unknown, "", of calibrations before that was noted).

    Raises:
        ValueError: a damaged calibration.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        if "validation_ccc" not in content:
            return None
        output = content["output"]
        ccc = {name: float(value) for name, value in content["validation_ccc"][output].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged; run `ltdiff calibrate` again") from error
    return {"output": output, "ccc": ccc, "data_fingerprint": content.get("data_fingerprint", "")}
