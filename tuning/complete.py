"""A complete search: the trials, their report and runs in MLflow, then the best settings at full length, registered."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.lock import only_writer
from ltdiff.registry import find_tracking_uri, log_run
from ltdiff.training.config import Settings
from ltdiff.training.phases import PHASES
from ltdiff.training.ray_glue import train_on_ray
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.workflows.calibration import calibrate_run
from ltdiff.workflows.record import record_run
from tuning.config import SearchConfig
from tuning.report import best_trial, write_report
from tuning.space import DEFAULT_SPACE, SearchSpace, apply
from tuning.sweep import ended_trials, run_trials
from tuning.trial import Plan, validation_regions

logger = logging.getLogger(__name__)

BEST_FOLDER = "best"


def search(
    pairs: Path,
    *,
    out: Path,
    config: SearchConfig,
    settings: Settings,
    space: Path | None = None,
    train_best: bool = True,
    tracking_uri: str | None = None,
) -> str:
    """Run the trials, write the report, train the best settings at full length in `out`/best; the report as Markdown.

    Raises:
        ValueError: `out` holds another search or is being written; no pair validates; no trial came to its end.
    """
    pairs, out = pairs.absolute(), out.absolute()
    plan = Plan(pairs, out, settings, SearchSpace.read(space or DEFAULT_SPACE, base=settings), config)
    validation_regions(plan)  # trials that cannot be scored are not begun
    with only_writer(out):
        study = run_trials(plan)
        report = write_report(study, plan)
        uri = find_tracking_uri(out, tracking_uri)
        _log_trials(plan, study, tracking_uri=uri)
        if train_best:
            run = out / BEST_FOLDER
            best = apply(settings, plan.space.decode(best_trial(study, plan).params))
            train_on_ray(list(PHASES), manifest_path=pairs, out=run, settings=best)
            calibrate_run(pairs, model=run / MODEL_FOLDER)
            record_run(run, tracking_uri=uri)
    return report


def _log_trials(plan: Plan, study: optuna.Study, *, tracking_uri: str) -> None:
    """Log every ended trial to MLflow that is not there; where MLflow is down, the first failure ends it with one warning."""
    fingerprint = data_fingerprint(read_manifest(plan.manifest_path))
    for trial in ended_trials(study):
        chosen = plan.space.decode(trial.params)
        scores = plan.scores(chosen)
        run_id = log_run(
            f"{plan.out.name}-trial-{trial.number:04d}",
            out=plan.out,
            run_key=f"trial-{plan.folder(chosen).name}",
            data_fingerprint=fingerprint,
            parameters=chosen,
            metrics=scores[-1] if scores else {},
            history=scores,
            tracking_uri=tracking_uri,
        )
        if run_id is None:
            logger.warning("trials from number %d on are not in MLflow; the same command logs them", trial.number)
            return
