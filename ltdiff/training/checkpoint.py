"""Checkpoints that explain themselves: a folder of safetensors and a `meta.json` with the sha256 of each. No pickle.

Those of a phase lie side by side, `step_00000200`, each whole or not there at all; training goes on from the newest one that
is undamaged, and its result is the one with the lowest validation loss. Ray Train could keep them, but writes them in place,
learns of them some seconds later, and cannot start where its own list of them is damaged.
"""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ltdiff.model.model_folder import read_versioned
from ltdiff.system.atomic_files import file_sha256, finish_folder

logger = logging.getLogger(__name__)

FORMAT_VERSION = 4
META_FILE = "meta.json"
CHECKPOINTS_FOLDER = "checkpoints"
"""Folder of the checkpoints, in that of their phase."""
NUM_KEPT = 2
"""Checkpoints of a phase beside the best: the newest, and the one before should that one be damaged."""
VALIDATION_LOSS = "val_loss"
"""Key in a checkpoint's metrics: the best checkpoint has the lowest."""


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    elapsed_s: float,
    metrics: dict[str, float],
    module: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write weights, their moving average and the optimizer's state after `step` steps into the existing `folder`.

    `metrics` are those of the moving average, the validation loss among them; without one it is never the best.
    """
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    files = {
        "weights": module.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": {f"{index}.{key}": value for index, slots in state.items() for key, value in slots.items()},
    }
    for name, tensors in files.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, _path(folder, name))
    meta = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "elapsed_s": elapsed_s,
        "metrics": metrics,
        "sha256": {name: file_sha256(_path(folder, name)) for name in files},
    }
    (folder / META_FILE).write_text(json.dumps(meta, indent=1) + "\n")


def load_checkpoint(
    folder: Path, *, module: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Restore what `save_checkpoint` wrote and return the number of steps done and the seconds they took.

    Raises:
        ValueError: a file is missing or damaged, or the checkpoint has another format version.
    """
    meta = _check(folder)
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


def keep_checkpoint(made: Path, *, among: Path) -> None:
    """Add the checkpoint in the folder `made` to those in `among`, whole or not at all; keep the newest two and the best.

    Raises:
        OSError: it cannot be written (no space); those that were there still are.
    """
    name = f"step_{_read_meta(made)['step']:08d}"
    among.mkdir(parents=True, exist_ok=True)
    for leftover in among.glob(".*.partial"):
        shutil.rmtree(leftover)
    partial = among / f".{name}.partial"
    try:
        partial.mkdir()
        for path in made.iterdir():
            shutil.copy(path, partial)
        shutil.rmtree(among / name, ignore_errors=True)  # a damaged one, in whose place an older one was taken
        finish_folder(partial, among / name)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    newest_first = _newest_first(among)
    best = min(newest_first, key=_validation_loss)
    for old in newest_first[NUM_KEPT:]:
        if old != best:
            shutil.rmtree(old)


def find_checkpoint(among: Path) -> Path | None:
    """The newest undamaged checkpoint of those that `keep_checkpoint` put into `among`; None where there is none.

    Raises:
        ValueError: there are some, and none can be used.
    """
    usable = _first_usable(_newest_first(among), among)
    return usable[0] if usable else None


def load_best(among: Path, module: nn.Module) -> dict[str, float]:
    """Give `module` the moving average of the checkpoint in `among` with the lowest validation loss; the metrics of that one.

    Of several the newest; one that is damaged is passed over.

    Raises:
        ValueError: none can be used.
    """
    usable = _first_usable(sorted(_newest_first(among), key=_validation_loss), among)
    if usable is None:
        raise ValueError(f"there is no checkpoint in {among}")
    folder, meta = usable
    averaged = load_file(_path(folder, "averaged"))
    # As AveragedModel names them, beside the number of those averaged.
    weights = {key.removeprefix("module."): value for key, value in averaged.items() if key.startswith("module.")}
    module.load_state_dict(weights)
    return dict(meta["metrics"])


def _first_usable(folders: list[Path], among: Path) -> tuple[Path, dict[str, Any]] | None:
    """The first undamaged one with its description, those passed over named in the log; ValueError where all are damaged."""
    reason = ""
    for folder in folders:
        try:
            return folder, _check(folder)
        except ValueError as error:
            logger.warning("%s; another checkpoint is used", error)
            reason = str(error)
    if reason:
        raise ValueError(f"no checkpoint in {among} can be used: {reason}; remove the folder to train this phase anew")
    return None


def _validation_loss(folder: Path) -> float:
    """Read the validation loss of a checkpoint; infinite without one."""
    try:
        loss = float(_read_meta(folder)["metrics"].get(VALIDATION_LOSS, math.inf))
    except ValueError:  # damaged: not the best, and no reason to lose the others
        return math.inf
    return loss if math.isfinite(loss) else math.inf


def _newest_first(among: Path) -> list[Path]:
    return sorted(among.glob("step_*"), reverse=True)


def _check(folder: Path) -> dict[str, Any]:
    """The description of a checkpoint whose files are all what they were."""
    meta = _read_meta(folder)
    for name, sha256 in meta["sha256"].items():
        path = _path(folder, name)
        if not path.is_file() or file_sha256(path) != sha256:
            raise ValueError(f"checkpoint file {path} is missing or damaged: its sha256 is not the one in {META_FILE}")
    return meta


def _read_meta(folder: Path) -> dict[str, Any]:
    return read_versioned(folder / META_FILE, what="checkpoint", version=FORMAT_VERSION)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _unflatten(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    return state
