"""A fitted harmonization as one file: safetensors, whose header says in JSON what the arrays are. No pickle."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ltdiff.radiomics.combat_model import ComBatModel, CovBatModel
from ltdiff.radiomics.feature_harmonization import FeatureHarmonization
from ltdiff.radiomics.longitudinal_combat import LongitudinalModel
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.text import printable

FORMAT = "ltdiff feature harmonization 1"
"""Key of the header under which description and checksum stand; another number is another format."""
KINDS = {"combat": ComBatModel, "covbat": CovBatModel, "nested": ComBatModel, "longitudinal": LongitudinalModel}
"""Method → what it fits to a batch column."""
Arrays = Mapping[str, NDArray[np.float64]]


def save_harmonization(harmonization: FeatureHarmonization, path: Path) -> None:
    """Write the file, which appears when it is complete."""
    arrays: dict[str, NDArray[np.float64]] = {}
    for number, step in enumerate(harmonization.steps.values()):
        arrays |= {f"{number}.{name}": np.ascontiguousarray(array) for name, array in _flatten(step)}
    values = {one.name: getattr(harmonization, one.name) for one in fields(harmonization) if one.name != "steps"}
    values["covariates"] = [asdict(one) for one in harmonization.covariates]
    # one key alone: several would come in another order each time
    header = {FORMAT: json.dumps({"sha256": _checksum(values, arrays), "description": values})}
    replace_file(path, lambda temporary: save_file(arrays, temporary, metadata=header))


def load_harmonization(path: Path) -> FeatureHarmonization:
    """Read a file that `save_harmonization` wrote.

    Raises:
        ValueError: there is no such file, or it is no harmonization, is damaged, or is of another format.
    """
    if not path.is_file():
        raise ValueError(f"{printable(path)}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{printable(path)} is no harmonization, or is damaged: {error}") from error
    if FORMAT not in header:
        raise ValueError(f"{printable(path)} is no harmonization of a kind that this version of ltdiff knows")
    try:
        noted = json.loads(header[FORMAT])
        values = noted["description"]
        if noted["sha256"] != _checksum(values, arrays):
            raise ValueError(f"{printable(path)} is damaged: its content does not have the checksum that it had")
        hints = get_type_hints(FeatureHarmonization)
        known = {name: TypeAdapter(hints[name]).validate_python(value) for name, value in values.items()}
        kind = KINDS[known["method"]]
        steps = {name: _restore(kind, arrays, f"{number}.") for number, name in enumerate(known["batches"])}
        return FeatureHarmonization(**known, steps=steps)
    except (KeyError, TypeError, AttributeError, ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f"{printable(path)} does not describe a harmonization: {error}") from error


def _flatten(step: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[np.float64]]]:
    for one in fields(step):
        value = getattr(step, one.name)
        if is_dataclass(value):
            yield from _flatten(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}", value


def _restore(kind: Any, arrays: Arrays, prefix: str) -> Any:
    hints = get_type_hints(kind)
    parts = {name: is_dataclass(hint) for name, hint in hints.items()}
    return kind(
        **{
            name: _restore(hints[name], arrays, f"{prefix}{name}.") if is_part else arrays[f"{prefix}{name}"]
            for name, is_part in parts.items()
        }
    )


def _checksum(description: Mapping[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
