"""A complete search: the trials, the best of them again at full length, the report, and the model of the best registered."""

from collections.abc import Sequence
from pathlib import Path

import optuna
import pandas as pd

from ltdiff.registry.client import find_tracking_uri
from ltdiff.search.config import SearchConfig
from ltdiff.search.finals import final_scores, finalists, log_finals, run_finals
from ltdiff.search.search_report import write_report
from ltdiff.search.space import DEFAULT_SPACE, SearchSpace
from ltdiff.search.sweep import run_trials
from ltdiff.search.trial import SearchContext, validation_regions
from ltdiff.search.trial_log import TrialLog
from ltdiff.system.lock import only_writer
from ltdiff.training.config import Settings
from ltdiff.training.finish_run import finish_run
from ltdiff.training.run import MODEL_FOLDER


def search(
    pairs: Path,
    *,
    out: Path,
    config: SearchConfig,
    settings: Settings,
    space: Path | None = None,
    earlier: Sequence[Path] = (),
    train_best: bool = True,
    tracking_uri: str | None = None,
) -> str:
    """Run the trials, train the best at full length (finals.py), register the model of the best; the report as Markdown.

    `earlier` are files of settings, and folders of searches, to begin with: see `add_first_trials`.

    Raises:
        ValueError: `out` holds another search or is being written; no pair validates; no trial came to its end.
    """
    pairs, out = pairs.absolute(), out.absolute()
    context = SearchContext(pairs, out, settings, SearchSpace.read(space or DEFAULT_SPACE, base=settings), config)
    validation_regions(context)  # trials that cannot be scored are not begun
    with only_writer(out):
        uri = find_tracking_uri(out, tracking_uri)
        with TrialLog(context, tracking_uri=uri) as log:
            study = run_trials(context, earlier=earlier, on_change=log.update)
            parent = log.wait(study)
            finals = run_finals(study, context, tracking_uri=uri, parent=parent) if train_best else None
            report = write_report(study, context, finals)
            log.add_report(report, study)
        if finals is not None:
            report += f"\nModel: {_finish_best(study, context, finals, tracking_uri=uri)}"
    return report


def _finish_best(study: optuna.Study, context: SearchContext, finals: pd.DataFrame, *, tracking_uri: str) -> Path:
    """Calibrate and register the best model of the best settings; its folder."""
    trials = finalists(study, context)
    best = next(trial for trial in trials if trial.number == finals["trial"][0])
    folder, _ = final_scores(context, best)[0]
    log_finals(trials, context, but=folder, tracking_uri=tracking_uri)
    finish_run(context.manifest_path, out=folder, tracking_uri=tracking_uri)
    return folder / MODEL_FOLDER
