"""A whole training run in one folder: kernel match, then the four phases, each starting from the weights before it.

out/run.json              settings and data fingerprint; the same command resumes, another one is refused unless told otherwise
out/start/                untrained networks with the fitted kernel match
out/<phase>/checkpoints/  where an interrupted phase goes on
out/<phase>/metrics.jsonl losses at every checkpoint
out/<phase>/model/        the phase's result
out/model/                the trained model
"""

import copy
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from ltdiff import __version__
from ltdiff.data.manifest import data_fingerprint, series_digests
from ltdiff.data.slice_items import make_items
from ltdiff.data.training_domain import TrainingDomain
from ltdiff.model.ltdiff import LTDiff, load_pretrained_weights, save_model
from ltdiff.model.model_folder import CHANGES, DATA_CHANGES, NOISE_MATCH, SERIES_NOISE, read_description
from ltdiff.system.atomic_files import finish_folder
from ltdiff.system.folder_claim import claim, find_changes, read_claim, write_claim
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import FittedMatch, fit_match_with_noise

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
START_FOLDER = "start"
MODEL_FOLDER = "model"
METRICS_FILE = "metrics.jsonl"
IGNORED = ("version",)
"""Keys of a run's file that may change: another version resumes the run."""
NUM_WORKERS, PATCHES_OF_A_WORKER = "settings.training.num_workers", "settings.training.batch_size_per_worker"
UNCHANGEABLE = "settings.model.", "settings.training.init "
"""Settings that what is trained so far does not fit any more."""


class PendingPhase(NamedTuple):
    """A phase that is to be trained: from the model in `start`, its result becomes `folder`/model."""

    name: str
    start: Path
    folder: Path


class DataFit(NamedTuple):
    """What all runs on the same data share: the kernel match that is fitted to it, and facts for the model's description."""

    match: FittedMatch
    facts: dict[str, Any]


def fit_data(manifest: pd.DataFrame) -> DataFit:
    """Fit the kernel match and describe the data, which reads some slices."""
    return DataFit(fit_match_with_noise(manifest), _describe_data(manifest))


def prepare_run(
    manifest: pd.DataFrame, *, out: Path, settings: Settings, allow_changes: bool = False, data: DataFit | None = None
) -> None:
    """Make the run's folder with its kernel match and untrained networks, or check that it is this very run's.

    With `allow_changes` an unfinished run goes on with other settings or data, which its file and its model then say. With
    another number of workers it goes on in any case, for a node may be gone. `data` is that of `fit_data`, where it is known.

    Raises:
        ValueError: `out` holds a run with other settings or data; the difference is named. Whatever is accepted, if the networks
            or the weights they began with are others, or the run is finished.
    """
    path, description = out / RUN_FILE, describe_run(manifest, settings)
    changes = find_changes(path, description, ignored=IGNORED) if path.is_file() else []
    is_final = any(change.startswith(UNCHANGEABLE) for change in changes) or (out / MODEL_FOLDER).is_dir()
    is_accepted = bool(changes) and not is_final and (allow_changes or _are_of_workers(changes))
    if not is_accepted:
        make_items(manifest, split="train", pairs=True)  # without pairs there is no run, and no folder
        remedy = "another folder" if is_final else "another folder, or --allow_changes"
        claim(path, description, ignored=IGNORED, remedy=remedy)
    if not (out / START_FOLDER).is_dir():
        _save_start(manifest, out / START_FOLDER, settings, data or fit_data(manifest))
    if is_accepted:
        _accept(changes, path, manifest, description)
        if _are_of_workers(changes):
            logger.warning(
                "a step has %d patches in all from now on", settings.training.num_workers * settings.training.batch_size
            )


def _are_of_workers(changes: list[str]) -> bool:
    """Whether another number of workers is all that was changed, perhaps with the patches of each."""
    changed = {change.partition(" ")[0] for change in changes}
    return NUM_WORKERS in changed and changed <= {NUM_WORKERS, PATCHES_OF_A_WORKER}


def _accept(changes: list[str], path: Path, manifest: pd.DataFrame, description: dict[str, Any]) -> None:
    """Write the changes, and the facts of other data, to the run's file, from where its models take them."""
    logger.warning("%s goes on although %s", path.parent, "; ".join(changes))
    begun = read_claim(path)
    description = begun | description | {CHANGES: [*begun.get(CHANGES, []), *changes]}
    if any(change.startswith(DATA_CHANGES) for change in changes):
        trained = {**read_description(path.parent / START_FOLDER)["about"], **begun}["trained_series"]  # by other data
        facts = _describe_data(manifest)
        description |= facts | {"trained_series": sorted({*trained, *facts["trained_series"]})}
    write_claim(path, description)


def _save_start(manifest: pd.DataFrame, start: Path, settings: Settings, data: DataFit) -> None:
    """Untrained networks, or pretrained weights, with a fitted kernel match."""
    torch.manual_seed(settings.training.seed)
    model = LTDiff(settings.model)
    if settings.training.init == "pretrained":
        load_pretrained_weights(model)
    match = copy.deepcopy(data.match)
    about = describe_model(manifest, settings, data.facts) | {"kernel_match_fitted_to": match.fitted_to}
    if match.noise_match is not None:
        about[NOISE_MATCH] = asdict(match.noise_match)
    if match.series_noise is not None:
        about[SERIES_NOISE] = asdict(match.series_noise)
    model.kernel_match, model.degradation = match.kernel_match, match.degradation
    save_model(model, start, about=about)


def describe_run(manifest: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """The facts that identify a run: only the same settings and data resume it. No pixel is read."""
    return {
        "version": __version__,
        "settings": asdict(settings),
        "data_fingerprint": data_fingerprint(manifest),
        "split": manifest.attrs.get("split", ""),
    }


def describe_model(manifest: pd.DataFrame, settings: Settings, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """The facts that a run's model holds before its training: the run, and its training domain (which reads some slices)."""
    return describe_run(manifest, settings) | (facts or _describe_data(manifest)) | {"trained": {}}


def _describe_data(manifest: pd.DataFrame) -> dict[str, Any]:
    """The domain of a model, and the series that train it."""
    return {
        "training_domain": TrainingDomain.of(manifest).to_dict(),
        "trained_series": sorted(series_digests(manifest, ("train", "val"))),
    }


def train_phases(names: list[str], *, out: Path, settings: Settings, run: Callable[[list[PendingPhase]], None]) -> Path:
    """Let `run` train the named phases that are not done yet, in order; return the folder of the last result.

    Phases that are not among `settings.training.phases` are skipped. When the last one is done its result becomes `out`/model.

    Raises:
        ValueError: a phase is asked for before the one it builds on is done.
    """
    active = settings.training.phases
    for name in (name for name in names if name not in active):
        logger.info("%s: nothing to do, it has no steps or the pretrained weights have been through it", name)
    pending: list[PendingPhase] = []
    result = out / START_FOLDER
    for position, name in enumerate(active):
        start, folder = result, out / name
        if (folder / MODEL_FOLDER).is_dir():
            logger.info("%s: done already", name)
        elif name in names:
            pending.append(PendingPhase(name, start, folder))
        elif set(names) & set(active[position:]):
            raise ValueError(f"phase {name} must be trained first: {folder / MODEL_FOLDER} is missing")
        else:
            break
        result = folder / MODEL_FOLDER
    if pending:
        run(pending)
    is_complete = result == out / active[-1] / MODEL_FOLDER if active else True
    if is_complete and not (out / MODEL_FOLDER).is_dir():
        partial = out / f".{MODEL_FOLDER}.partial"
        shutil.copytree(result, partial, dirs_exist_ok=True)
        finish_folder(partial, out / MODEL_FOLDER)
    return result


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read the metrics of a phase's checkpoints in order, with those of steps that were done again; [] without a training."""
    path = folder / METRICS_FILE
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # cut off by a full disk
            rows.append(json.loads(line))
    return rows


def finish_phase(model: LTDiff, *, name: str, start: Path, folder: Path, metrics: dict[str, float]) -> None:
    """Save a phase's result with what is known about its training, unless a worker that then died has done so."""
    if (folder / MODEL_FOLDER).is_dir():
        return
    about = read_description(start)["about"]
    run = read_claim(folder.parent / RUN_FILE)  # whose settings may have changed since the phase before
    about = about | run | {"trained": about["trained"] | {name: metrics}}
    save_model(model, folder / MODEL_FOLDER, about=about)
