"""Checkpoints that explain themselves: a folder of safetensors and a `meta.json` with the sha256 of each. No pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMAT_VERSION = 3
META_FILE = "meta.json"


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    elapsed_s: float,
    module: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write weights, their moving average and the optimizer's state after `step` steps into the existing `folder`."""
    files = {
        "weights": module.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": _flatten(optimizer.state_dict()["state"]),
    }
    for name, tensors in files.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, _path(folder, name))
    meta = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "elapsed_s": elapsed_s,
        "sha256": {name: hashlib.sha256(_path(folder, name).read_bytes()).hexdigest() for name in files},
    }
    (folder / META_FILE).write_text(json.dumps(meta, indent=1) + "\n")


def load_checkpoint(
    folder: Path, *, module: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Restore what `save_checkpoint` wrote and return the number of steps done and the seconds they took.

    Raises:
        ValueError: a file is missing or damaged, or the checkpoint has another format version.
    """
    meta = _read_meta(folder)
    for name, sha256 in meta["sha256"].items():
        path = _path(folder, name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"checkpoint file {path} is missing or damaged: its sha256 is not the one in {META_FILE}")
    module.load_state_dict(load_file(_path(folder, "weights")))
    averaged.load_state_dict(load_file(_path(folder, "averaged")))
    state = optimizer.state_dict()
    state["state"] = _unflatten(load_file(_path(folder, "optimizer")))
    optimizer.load_state_dict(state)
    for parameter, slots in optimizer.state.items():  # in memory as before: the order of a sum decides its last bit
        for key, value in slots.items():
            if value.shape == parameter.shape:
                slots[key] = torch.empty_like(parameter).copy_(value)
    return int(meta["step"]), float(meta["elapsed_s"])


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / META_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no checkpoint: {META_FILE} cannot be read ({error})") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"checkpoint {folder} has format version {version!r}; this ltdiff reads {FORMAT_VERSION}")
    return dict(meta)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _flatten(state: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{index}.{key}": value for index, slots in state.items() for key, value in slots.items()}


def _unflatten(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    return state
