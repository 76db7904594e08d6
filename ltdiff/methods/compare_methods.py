"""`ltdiff compare`: train every method on the same data for the same time and score all of them on the same regions.

out/methods/<method>/   the method's training, kept and resumed: the table can be built over several runs
out/ccc.csv, …          the report (see evaluation/report), of the methods named in the latest run
"""

import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ltdiff import __version__
from ltdiff.data.manifest import LEFT_OUT, read_manifest
from ltdiff.data.manifest_split import limit_pairs, split_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate, main_tables, read_scored_sets
from ltdiff.evaluation.report import add_to_summary
from ltdiff.evaluation.scoring import Expectation, Harmonizer
from ltdiff.inference.method import Method
from ltdiff.methods import METHOD_NAMES, SOURCE, make_method
from ltdiff.methods.combat import ComBat
from ltdiff.methods.image_network import RESULT_FILE
from ltdiff.methods.protocol import FitError
from ltdiff.model.model_folder import read_description
from ltdiff.system.lock import only_writer
from ltdiff.system.resources import PeakMemory, num_cores
from ltdiff.training.config import Settings, TrainingConfig
from ltdiff.training.phase_training import RATES_FILE
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.uncertainty.calibration import read_choice

logger = logging.getLogger(__name__)

LTDIFF = "ltdiff"
"""The method that the report sets against all others."""
REPORTED_VERSIONS = ("torch", "numpy", "scipy", "pydicom", "pyradiomics-bhklab")


def compare_methods(
    pairs: Path,
    *,
    methods: Sequence[str],
    out: Path,
    minutes: float,
    settings: Settings,
    test: Path | None = None,
    split: str | None = None,
    num_pairs: int | None = None,
    mask: Path | None = None,
    lung_mask: Path | None = None,
    config: EvaluationConfig,
) -> str:
    """Train and score; returns the main tables as Markdown.

    Without `test` the pairs are split as `split` says, or as the manifest does. With it, the pairs of `test` are scored, all
    of them of which no slice trains, and what is in `pairs` trains. `num_pairs` limits what trains.

    Raises:
        ValueError: an unknown method, no pairs to train or to score, no pair of `test` that does not train, or another job
            writing `out`. FitError, after the report of the others is written: a method that failed.
    """
    unknown = [name for name in methods if name not in METHOD_NAMES]
    if unknown:
        raise ValueError(f"there is no method {', '.join(map(repr, unknown))}; known are {', '.join(METHOD_NAMES)}")
    if not methods:
        raise ValueError(f"name at least one method; known are {', '.join(METHOD_NAMES)}")
    training, scored = _manifests(pairs, test, split)
    training = limit_pairs(training, num_pairs) if num_pairs is not None else training
    # first: what cannot be scored need not be trained for
    sets = read_scored_sets(scored, config=config, mask=mask, lung_mask=lung_mask)
    given = replace(settings.training, minutes=minutes, num_workers=1, use_gpu=torch.cuda.is_available())
    settings = replace(settings, training=given)
    started_s = time.monotonic()
    with only_writer(out), PeakMemory() as memory:
        fitted, features_of, failed = _fit(methods, training, out=out, settings=settings, config=config)
        methods = [name for name in methods if name not in failed]
        torch.set_num_threads(1)  # several slices at a time, one thread each, as archives are standardized
        evaluation = evaluate(
            *sets,
            methods=fitted,
            harmonizers=features_of.harmonizers,
            expectations=features_of.expectations,
            out=out,
            facts=_describe_training(methods, training, out=out, given=given),
            compared=LTDIFF if LTDIFF in methods else None,
        )
    facts = {"wall_s": round(time.monotonic() - started_s), "peak_memory_bytes": memory.peak_bytes}
    add_to_summary(out, facts)
    if failed:
        raise FitError(f"{out / 'report.md'} lacks {', '.join(failed)}: {'; '.join(map(str, failed.values()))}")
    return main_tables(evaluation)


def _fit(
    methods: Sequence[str], training: pd.DataFrame, *, out: Path, settings: Settings, config: EvaluationConfig
) -> tuple[dict[str, Method], "_WithoutImages", dict[str, FitError]]:
    """Fit the methods; return them and their variants by name, what gives features alone, and the errors of the others."""
    fitted: dict[str, Method] = {}
    features_of = _WithoutImages({}, {})
    failed: dict[str, FitError] = {}
    # what cannot be made, for bad settings or a package that is missing, shows now
    made = {name: make_method(name, settings, config) for name in methods if name != SOURCE}
    for number, (name, method) in enumerate(made.items(), start=1):
        logger.info("method %d of %d: %s", number, len(made), name)
        torch.set_num_threads(num_cores())  # a calibration takes one
        try:
            method.fit(training, folder=out / "methods" / name)
        except FitError as error:
            logger.error("%s failed, the others go on: %s", name, error)
            failed[name] = error
            continue
        if isinstance(method, ComBat):
            features_of.harmonizers[name] = method
        else:
            fitted |= {name: method, **{f"{name}{ending}": each for ending, each in method.variants().items()}}
            features_of.expectations.update({f"{name}{ending}": each for ending, each in method.expectations().items()})
    return fitted, features_of, failed


class _WithoutImages(NamedTuple):
    """What gives features and no images, by name."""

    harmonizers: dict[str, Harmonizer]
    expectations: dict[str, Expectation]


def _describe_training(methods: Sequence[str], training: pd.DataFrame, *, out: Path, given: TrainingConfig) -> dict[str, Any]:
    """The facts of the training that the report shows."""
    sources = training[(training["role"] == "source") & training["pair_id"].notna()]
    unpaired = training[training["role"].isin(("source", "target")) & training["pair_id"].isna() & (training["split"] == "train")]
    return {
        "minutes": given.minutes,
        "training_seed": given.seed,
        "training_split": training.attrs.get("split", ""),
        "num_training_pairs": {str(key): int(value) for key, value in sources["split"].value_counts().items()},
        "num_unpaired_training_slices": {str(key): int(value) for key, value in unpaired["role"].value_counts().items()},
        "methods": {name: describe_fit(out / "methods" / name) for name in methods},
        "machine": {"cores": num_cores(), "processor": platform.machine()},
        "versions": {"ltdiff": __version__, **{name: version(name) for name in REPORTED_VERSIONS}},
    }


def describe_fit(folder: Path) -> dict[str, Any]:
    """Read a method's training from its folder: rates tried, steps and losses of each phase; mean or sample."""
    model = folder / MODEL_FOLDER
    results = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{RESULT_FILE}"))}
    fit: dict[str, Any] = read_description(model)["about"]["trained"] if model.is_dir() else results
    for name in fit:
        if (rates := folder / name / RATES_FILE).is_file():
            fit[name]["rates"] = json.loads(rates.read_text())
    choice = read_choice(model)
    return fit if choice is None else fit | {"output": choice._asdict()}


def _manifests(pairs: Path, test: Path | None, split: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the manifest that trains, with its validation rows, and the one that is scored."""
    manifest = read_manifest(pairs)
    if test is None:
        manifest = split_manifest(manifest, split) if split else manifest
        return manifest, manifest
    training = split_manifest(manifest, split or "z:1")
    scored = read_manifest(test)
    scored = _without_trained(scored, training, names=(test.name, pairs.name))
    if set(training["patient"]) & set(scored["patient"]):
        logger.warning("%s and %s have a patient in common: what is scored may show what trains", pairs.name, test.name)
    scored.attrs["split"] = f"all of {test.name}"
    return training, scored


def _without_trained(scored: pd.DataFrame, training: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """All pairs as split `test`, but for those of which a slice trains: they are in no split."""
    trained = set(zip(training["series_uid"], training["z_mm"].round(2), strict=True))
    trains = np.array([place in trained for place in zip(scored["series_uid"], scored["z_mm"].round(2), strict=True)])
    left_out = scored["pair_id"].isin(scored.loc[trains, "pair_id"].dropna()) | trains
    if not scored.loc[~left_out, "pair_id"].notna().any():
        raise ValueError(f"no pair of {names[0]} can be scored: a slice of each is in {names[1]}, and what trains is not scored")
    if left_out.any():
        num_pairs = scored.loc[left_out, "pair_id"].nunique()
        logger.warning("%d pairs of %s are not scored: a slice of each is in %s, and trains", num_pairs, *names)
    return scored.assign(split=np.where(left_out, LEFT_OUT, "test"))
