"""One trial: the three phases at a share of their length, scored on validation pairs during the last one.

    trials/<key>/        a run folder as of `ltdiff train`; the key is a sha256 of the trial's settings

Trials that agree in all that phase 1 depends on share its result: it is trained once.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from torch import nn
from typing_extensions import override

from ltdiff.data.manifest import read_manifest
from ltdiff.inference.method import Slices
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.model_folder import read_description
from ltdiff.search.config import REMAINING_ERROR, SECONDS, SearchConfig
from ltdiff.search.space import SearchSpace, to_dict
from ltdiff.system.private_ray import restore_umask
from ltdiff.system.progress import configure_logging
from ltdiff.system.ray_cluster import num_worker_nodes
from ltdiff.system.resources import hide_gpus, num_cores
from ltdiff.system.settings_tree import change_settings
from ltdiff.training.config import Settings
from ltdiff.training.phase_training import Recorder, local_runner, train_here
from ltdiff.training.phases import PHASES
from ltdiff.training.ray_driver import train_on_ray
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER, DataFit, finish_phase, fit_data, prepare_run, read_metrics
from ltdiff.training.worker_context import Score, local_context, no_score
from ltdiff.uncertainty.validation_ccc import ValidationRegions, overall

LAST_PHASE, SAMPLING_PHASE = "joint", "residual"
"""Trials are scored in the one, by the mean, which the other leaves as it is."""
NUMBER = "number"
"""Key of a trial's number, beside its values."""


@dataclass(frozen=True)
class SearchContext:
    """The common context of a search's trials: its folder `out`, and the settings `base` that a trial changes, at full length."""

    manifest_path: Path
    out: Path
    base: Settings
    space: SearchSpace
    config: SearchConfig

    def __post_init__(self) -> None:
        """Refuse a training without a last phase, and one whose length is a time: its trials would not be shorter."""
        if getattr(self.base.training, LAST_PHASE).num_steps == 0:
            raise ValueError(f"training.{LAST_PHASE}.num_steps = 0: trials are scored in this phase")
        if self.base.training.minutes is not None:
            raise ValueError(f"training.minutes = {self.base.training.minutes:g}: a search counts steps")

    def settings(self, chosen: Mapping[str, Any]) -> Settings:
        """Those of a trial with these values: its phases shortened, and scored `num_scores` times in the last one."""
        settings = change_settings(self.base, chosen)
        training = settings.training
        every = max(1, round(self.config.share * training.joint.num_steps / self.config.num_scores))
        phases = {
            name: replace(phase, num_steps=max(1, round(self.config.share * phase.num_steps)) if phase.num_steps else 0)
            for name, phase in ((name, getattr(training, name)) for name in PHASES)
        }
        phases[SAMPLING_PHASE] = replace(phases[SAMPLING_PHASE], num_steps=0)
        phases[LAST_PHASE] = replace(phases[LAST_PHASE], num_steps=every * self.config.num_scores)
        return replace(settings, training=replace(training, checkpoint_every_steps=every, **phases))

    def folder(self, chosen: Mapping[str, Any]) -> Path:
        """The run folder of a trial."""
        return self.out / "trials" / digest(to_dict(self.settings(chosen)))

    def scores(self, chosen: Mapping[str, Any]) -> list[dict[str, float]]:
        """Read the scores that a trial has reported, with that of its last checkpoint."""
        rows = read_metrics(self.folder(chosen) / LAST_PHASE)
        return list({row["step"]: row for row in rows}.values())  # a step that was done again counts once

    def num_steps(self, chosen: Mapping[str, Any]) -> int:
        """Count the steps that a trial itself has trained, up to its last checkpoint."""
        return sum(int(rows[-1]["step"]) for name in PHASES if (rows := read_metrics(self.folder(chosen) / name)))


def trial_resources(settings: Settings) -> dict[str, float]:
    """What Ray Tune reserves for a trial: one that is trained by several workers reserves these itself."""
    if trains_here(settings):
        return {"cpu": 1, **({"gpu": 1} if settings.training.use_gpu else {})}
    return {"cpu": 0.1}


def trains_here(settings: Settings) -> bool:
    """Whether a trial is trained in its own process, which the next one then uses too: the start of Ray Train and Ray Data takes
    longer than many a trial (docs/notes/search.md).
    """
    return settings.training.num_workers == 1


def run_trial(config: dict[str, Any], context: SearchContext) -> None:
    """Run a trial of Ray Tune. One that was interrupted reports its earlier scores again and resumes."""
    restore_umask()
    chosen = context.space.decode(config)
    settings, folder = context.settings(chosen), context.folder(chosen)
    for row in context.scores(chosen):
        tune.report(row)
    prepare_run(read_manifest(context.manifest_path), out=folder, settings=settings, data=fit_data_once(context.manifest_path))
    _take_phase_1(folder, settings)
    train_trial(context, settings, folder, make_score=_score_maker(context, settings))


def train_trial(
    context: SearchContext, settings: Settings, folder: Path, *, make_score: Callable[[], Score] | None = None
) -> None:
    """Train a run that is prepared in `folder` from inside a trial, and report its scores to Ray Tune."""
    workers_per_node = math.ceil(context.config.num_concurrent * settings.training.num_workers / num_worker_nodes())
    num_threads = max(1, num_cores() // workers_per_node)
    if not trains_here(settings):
        train_on_ray(
            list(PHASES),
            manifest_path=context.manifest_path,
            out=folder,
            settings=settings,
            make_score=make_score,
            callbacks=[_ReportScores()] if make_score else [],
            num_threads=num_threads,
        )
        return
    configure_logging(force=True)
    torch.set_num_threads(num_threads)
    if not settings.training.use_gpu:
        hide_gpus()
    manifest = read_manifest(context.manifest_path)
    score = make_score() if make_score else no_score
    runner = local_runner(manifest)
    runner = replace(runner, make_context=lambda folder: replace(local_context(_ScoreRecorder(folder)), score=score))
    train_here(manifest, out=folder, settings=settings, runner=runner)


class _ReportScores(TuneReportCallback):
    """Hands the scores of the last phase to Tune; the losses of all phases stay with the trial."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if REMAINING_ERROR in metrics[0]:
            super().after_report(run_context, metrics, checkpoint)


class _ScoreRecorder(Recorder):
    """The same in the trial's own process, which ends here when Tune stops the trial."""

    @override
    def __call__(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        super().__call__(metrics, checkpoint)
        if REMAINING_ERROR in metrics:
            tune.report(metrics)


def validation_regions(context: SearchContext) -> ValidationRegions:
    """Draw the regions on which trials are scored.

    Raises:
        ValueError: validation pairs have no room for two regions, which a CCC needs.
    """
    return _read_regions(context.manifest_path, context.config.num_pairs, context.config.num_rois)


def _read_regions(manifest_path: Path, num_pairs: int, num_rois: int) -> ValidationRegions:
    return ValidationRegions.read(read_manifest(manifest_path), num_pairs=num_pairs, num_rois=num_rois)


# A process has one trial after the other, all on the same data.
_read_regions_once = lru_cache(maxsize=1)(_read_regions)


@lru_cache(maxsize=1)
def fit_data_once(manifest_path: Path) -> DataFit:
    """Fit the data of a search once in a process."""
    return fit_data(read_manifest(manifest_path))


def _score_maker(context: SearchContext, settings: Settings) -> Callable[[], Score]:
    """Make the function that makes a score, on the worker that reads the validation pairs."""

    def make() -> Score:
        regions = _read_regions_once(context.manifest_path, context.config.num_pairs, context.config.num_rois)

        def score(name: str, phase: nn.Module) -> dict[str, float]:
            if name != LAST_PHASE:
                return {}
            assert isinstance(phase.model, LTDiff)
            # where it is trained, and goes on being trained
            return measure(regions, phase.model, settings, device=next(phase.parameters()).device)

        return score

    return make


def measure(
    regions: ValidationRegions, model: LTDiff, settings: Settings, *, device: torch.device | None = None
) -> dict[str, float]:
    """The scores of a model on validation regions: remaining error, seconds for a slice, CCC of each class.

    Raises:
        FloatingPointError: a CCC is not finite.
    """
    method = _Timed(Standardizer(model, Procedure(settings.diffusion, settings.loss.decode), device=device))
    ccc = regions.ccc({"trial": method})["trial"]
    if not math.isfinite(overall(ccc)):
        raise FloatingPointError(f"the CCC of a trial is {overall(ccc)}: its features are not finite, or all alike")
    return {REMAINING_ERROR: 1 - overall(ccc), SECONDS: method.seconds_per_slice} | {f"ccc_{name}": ccc[name] for name in ccc}


class _Timed:
    """A method that takes the time of each slice."""

    def __init__(self, method: Standardizer) -> None:
        self.method = method
        self.seconds: list[float] = []

    @property
    def seconds_per_slice(self) -> float:
        return float(np.median(self.seconds))

    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        started_s = time.perf_counter()
        result = self.method.standardize(hu, spacing_mm, first_slice=first_slice)
        self.seconds.append((time.perf_counter() - started_s) / len(hu))
        return result


def _take_phase_1(folder: Path, settings: Settings) -> None:
    """Begin with another trial's phase 1, if there is a fitting one; what the model says about itself stays this trial's own."""
    own, wanted = folder / "autoencoder", _phase_1_settings(to_dict(settings))
    if (own / MODEL_FOLDER).is_dir():
        return
    for other in sorted(folder.parent.glob(f"*/autoencoder/{MODEL_FOLDER}")):
        if _phase_1_settings(read_description(other)["about"]["settings"]) == wanted:
            model, about = load_model(other)
            metrics = about["trained"]["autoencoder"]
            finish_phase(model, name="autoencoder", start=folder / START_FOLDER, folder=own, metrics=metrics)
            return


def _phase_1_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings on which phase 1 depends."""
    training = {key: value for key, value in settings["training"].items() if key not in ("ddpm", "joint", "residual")}
    loss = {key: settings["loss"][key] for key in ("reconstruction", "supervision_weights")}
    return {"model": settings["model"], "loss": loss, "training": training}


def digest(values: dict[str, Any]) -> str:
    """16 hexadecimal digits of the sha256 of the values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
