"""A model whose networks are not trained: the kernel match alone, made in seconds, in the folder and format of all models."""

import shutil
from pathlib import Path

import pandas as pd

from ltdiff.data.manifest import data_fingerprint
from ltdiff.model.ltdiff import load_model, save_model
from ltdiff.model.model_folder import MATCH_PHASE, write_calibration
from ltdiff.system.atomic_files import finish_folder
from ltdiff.training.config import Settings
from ltdiff.training.run import MODEL_FOLDER, START_FOLDER, prepare_run
from ltdiff.uncertainty.series_noise_choice import choose_series_noise


def fit_match_model(manifest: pd.DataFrame, *, out: Path, settings: Settings) -> Path:
    """Fit the kernel match of a manifest in the run folder `out`, or find it there; return the folder of the model.

    Raises:
        ValueError: see `prepare_run`.
    """
    model = out / MODEL_FOLDER
    if model.is_dir():
        return model
    prepare_run(manifest, out=out, settings=settings)
    matched, about = load_model(out / START_FOLDER)
    partial = out / f".{MODEL_FOLDER}.match"
    shutil.rmtree(partial, ignore_errors=True)
    save_model(matched, partial, about=about | {"trained": {MATCH_PHASE: {"fitted_to": about["kernel_match_fitted_to"]}}})
    calibration = {"output": "match", "data_fingerprint": data_fingerprint(manifest)}
    write_calibration(partial, calibration)
    write_calibration(partial, calibration | choose_series_noise(partial, manifest))
    finish_folder(partial, model)
    return model
