"""The files of a trained model, and whether they are what they were. Nothing is ever unpickled, and no network is built here.

model.json            configuration, kernel match, what its trainer noted (`about`), and the sha256 of the weights
encoder.safetensors   weights; also denoiser and decoder
calibration.json      written by `ltdiff calibrate`: residual noise, intervals, choice of the output
SHA256SUMS            of an exported model: the sha256 of all files, as `sha256sum -c` reads them
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltdiff.system.atomic_files import file_sha256, write_text
from ltdiff.system.text import printable, quoted

DESCRIPTION_FILE = "model.json"
CALIBRATION_FILE = "calibration.json"
SUMS_FILE = "SHA256SUMS"
FORMAT_VERSION = 4
CHANGES = "changes"
"""In what the trainer noted: what a run went on with that it had not begun with."""
DATA_CHANGES = "data_fingerprint was", "split was"
"""How changes begin that are of the data."""

_PARTS = {"format_version": int, "config": dict, "kernel_match": dict, "about": dict, "files": dict}
"""Of the description, with their kinds."""
_OPTIONAL_PARTS = {"degradation": dict}
MATCH_PHASE = "match"
"""Among the phases that a model was trained in: of one whose networks are not trained, the only one."""
NOISE_MATCH = "noise_match"
"""In what the trainer noted: what gives a matched source the target's noise (physics/noise_match or model/drawn_noise)."""
SERIES_NOISE = "series_noise"
"""In what the trainer noted: what matches the noise of a series of another dose than most (physics/series_noise)."""
USES_SERIES_NOISE = "uses_series_noise"
"""In the calibration: whether validation series say that it brings the match nearer to the target."""


def read_description(folder: Path) -> dict[str, Any]:
    """`model.json` of a model folder, checked for its format version and its parts. Raises ValueError."""
    path = folder / DESCRIPTION_FILE
    description = read_versioned(path, what="model", version=FORMAT_VERSION)
    known = _PARTS | _OPTIONAL_PARTS
    for part in (*_PARTS, *description):
        if part not in known or not isinstance(description.get(part), known[part]):
            fault = "an unknown part" if part not in known else "another kind of part" if part in description else "no part"
            raise ValueError(f"{path} is damaged: it has {fault} {quoted(part)}")
    return description


def description_text(description: Mapping[str, Any]) -> str:
    """The text of `model.json`. The same description always makes the same bytes, whose sha256 is known elsewhere."""
    return json.dumps(description, indent=1) + "\n"


def read_versioned(path: Path, *, what: str, version: int) -> dict[str, Any]:
    """The JSON that makes a folder `what` it is. Raises ValueError where it cannot be read, or has another format version."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.parent} holds no {what}: {path.name} cannot be read ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{path.parent} holds no {what}: {path.name} has too many brackets inside each other") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != version:
        raise ValueError(f"{path} has format version {quoted(found)}; this ltdiff reads {version}")
    return dict(content)


@contextmanager
def description_errors(folder: Path) -> Iterator[None]:
    """Name `model.json` where a part of it, deeper than `read_description` looks, is missing, unknown or of another kind."""
    path = folder / DESCRIPTION_FILE
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it has no part {quoted(error.args[0])}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: a part of it is of another kind") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def verify_model_folder(folder: Path, *, registered: Mapping[str, str | None] | None = None) -> dict[str, Any]:
    """`model.json`, when every file has its sha256: that in `registered`, in SHA256SUMS where there is one, and in `model.json`.

    In `registered` None stands for a file that must not be there.

    Raises:
        ValueError: no model folder, another format version, or a file that is missing, changed or no weights.
    """
    found: dict[str, str | None] = {}

    def check(name: str, sha256: str | None, fault: str) -> None:
        path = folder / name
        if name not in found:
            found[name] = file_sha256(path) if path.is_file() else None
        if found[name] != sha256:
            raise ValueError(f"{path} is {fault}")

    for name, sha256 in (registered or {}).items():
        check(name, sha256, "not the file that was registered: it is missing, or new, or its sha256 differs")
    for name, sha256 in _read_sums(folder).items():
        if Path(name).name != name:
            raise ValueError(f"{folder / SUMS_FILE} lists {quoted(name)}, which is no file of its folder")
        check(name, sha256, f"missing or damaged: its sha256 differs from the one in {SUMS_FILE}")
    description = read_description(folder)
    for name, sha256 in description["files"].items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{folder / DESCRIPTION_FILE} lists {name!r}, which is no safetensors file of its folder")
        check(name, sha256, f"missing or damaged: its sha256 differs from the one in {DESCRIPTION_FILE}")
    return description


def weights_sha256(folder: Path) -> str:
    """One sha256 over all weights files, the kernel match and what matches noise: what a derived image says it was made with."""
    description = read_description(folder)
    content = {key: description[key] for key in ("config", "kernel_match", "files")}
    content |= {key: description["about"][key] for key in (NOISE_MATCH, SERIES_NOISE) if key in description["about"]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS for all other files of the folder."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS_FILE)
    write_text(folder / SUMS_FILE, "".join(f"{file_sha256(path)}  {path.name}\n" for path in files))


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS_FILE
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def read_calibration(folder: Path) -> dict[str, Any]:
    """The calibration of a model; {} where it has none. Raises ValueError where it is damaged."""
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise damaged_calibration(folder) from error
    if not isinstance(content, dict) or not content:
        raise damaged_calibration(folder)
    return content


def damaged_calibration(folder: Path) -> ValueError:
    """The error to raise where something is missing in a calibration."""
    return ValueError(f"{printable(folder / CALIBRATION_FILE)} is damaged; run `ltdiff calibrate` again")


def write_calibration(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace the calibration of a verified model, and note its sha256 where the model was exported."""
    is_exported = (folder / SUMS_FILE).is_file()
    (folder / SUMS_FILE).unlink(missing_ok=True)  # first: interrupted, the folder passes for one that was not exported
    write_text(folder / CALIBRATION_FILE, json.dumps(content) + "\n")
    if is_exported:
        write_sums(folder)
