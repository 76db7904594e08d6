"""`ltdiff compare`: train every method on the same pairs for the same time and score all of them on the same regions.

out/methods/<method>/   the method's training, kept and resumed: the table can be built over several runs
out/ccc.csv, …          the report (see evaluation/report), of the methods named in the latest run
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ltdiff import __version__
from ltdiff.data.manifest import limit_pairs, read_manifest, split_manifest
from ltdiff.data.slice_pairs import read_validation_pairs
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate, main_tables
from ltdiff.evaluation.evaluation_set import read_evaluation_set
from ltdiff.evaluation.report import add_to_summary
from ltdiff.evaluation.scoring import Harmonizer
from ltdiff.inference.method import Method
from ltdiff.methods.combat import ComBat
from ltdiff.methods.diffusionct import DiffusionCTMethod
from ltdiff.methods.image_ddpm import ImageDDPMMethod
from ltdiff.methods.linear import Linear
from ltdiff.methods.ltdiffpp import LTDiffMethod
from ltdiff.methods.protocol import Comparator, FitError
from ltdiff.methods.residual_cnn import ResidualCNNMethod
from ltdiff.methods.sampled import fit_sampled
from ltdiff.methods.stan_ct import StanCTMethod
from ltdiff.methods.timed_training import RATES_FILE, RESULT_FILE, TimeBudget, TrainedComparator
from ltdiff.methods.unetpp_regression import UNetPPMethod
from ltdiff.radiomics.feature_sets import FEATURE_SETS
from ltdiff.system.atomic_files import write_text
from ltdiff.system.lock import only_writer
from ltdiff.system.resources import PeakMemory, num_cores
from ltdiff.training.config import Settings, TrainingConfig, read_settings
from ltdiff.training.phases import PHASES
from ltdiff.uncertainty.calibration import has_validation_pairs
from ltdiff.uncertainty.mean_or_sample import choose_output

logger = logging.getLogger(__name__)

SOURCE, COMBAT, LTDIFF = "source", "combat", "ltdiff"
REPORTED_VERSIONS = ("torch", "numpy", "scipy", "pydicom", "pyradiomics-bhklab")

Factory = Callable[[TimeBudget, Settings], Comparator]
FACTORIES: dict[str, Factory] = {
    "linear": lambda budget, settings: Linear(),
    "residual_cnn": lambda budget, settings: ResidualCNNMethod(budget),
    "unetpp": lambda budget, settings: UNetPPMethod(budget, encoder_skips=True),
    "unetpp_no_skips": lambda budget, settings: UNetPPMethod(budget, encoder_skips=False),
    "ddpm": lambda budget, settings: ImageDDPMMethod(budget),
    "diffusionct": lambda budget, settings: DiffusionCTMethod(budget),
    "stan_ct": lambda budget, settings: StanCTMethod(budget),
    "ltdiff_paper": lambda budget, settings: _as_printed(budget),
    LTDIFF: lambda budget, settings: LTDiffMethod(_from(budget, "scratch"), settings=settings),
    "ltdiff_pretrained": lambda budget, settings: LTDiffMethod(_from(budget, "pretrained"), settings=settings),
}
METHODS = (SOURCE, COMBAT, *FACTORIES)
SAMPLED = ("residual_cnn", LTDIFF, "ltdiff_pretrained")
"""Methods of which a sample has a row too: a CNN's is what tells whether LTDiff++'s own is any better."""
MAX_VALIDATION_PAIRS = 16
"""Of slices, spread evenly: what is left over of a method has some hundred numbers, a slice a quarter of a million pixels."""
OUTPUT_FILE = "output.json"
"""In the folder of LTDiff++: what was chosen, and by which CCC."""


def _as_printed(budget: TimeBudget) -> Comparator:
    """The paper's own settings, its learning rate among them, and weights drawn at random."""
    paper = read_settings("paper")
    rates = (paper.training.joint.learning_rate,)
    return LTDiffMethod(replace(_from(budget, "scratch"), learning_rates=rates), settings=paper)


def _from(budget: TimeBudget, init: Literal["scratch", "pretrained"]) -> TimeBudget:
    """All methods begin with random weights but one, whose name says so: pretraining must not pass for a better method."""
    return replace(budget, training=replace(budget.training, init=init))


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
    config: EvaluationConfig,
) -> str:
    """Train and score; returns the main tables as Markdown.

    Without `test` the pairs are split as `split` says, or as the manifest does. With it, the pairs of `test` are scored, all
    of them, and those of `pairs` train. `num_pairs` limits what trains.

    Raises:
        ValueError: an unknown method, no pairs to train or to score, the same series in both manifests, or another job writing
            `out`. FitError, after the report of the others is written: a method that failed.
    """
    _check_names(methods)
    _warn_of_unused(settings.training)
    training, scored = _manifests(pairs, test, split)
    training = limit_pairs(training, num_pairs) if num_pairs is not None else training
    # first: what cannot be scored need not be trained for
    test_set = read_evaluation_set(scored, config=config, mask=mask)
    settings = replace(settings, training=replace(settings.training, num_workers=1))  # it trains in this process
    budget = TimeBudget(minutes=minutes, training=settings.training)
    started_s = time.monotonic()
    with only_writer(out), PeakMemory() as memory:
        fitted, harmonizers, failed = _fit(methods, training, out=out, budget=budget, settings=settings, config=config)
        methods = [name for name in methods if name not in failed]
        torch.set_num_threads(1)  # several slices at a time, one thread each, as archives are standardized
        scores = evaluate(
            test_set,
            methods=fitted,
            harmonizers=harmonizers,
            out=out,
            facts=_describe_training(methods, training, out=out, budget=budget),
            compared=LTDIFF if LTDIFF in methods else None,
        )
    facts = {"wall_s": round(time.monotonic() - started_s), "peak_memory_bytes": memory.peak_bytes}
    add_to_summary(out, facts)
    if failed:
        raise FitError(f"{out / 'report.md'} lacks {', '.join(failed)}: {'; '.join(map(str, failed.values()))}")
    return main_tables(scores)


def _warn_of_unused(training: TrainingConfig) -> None:
    """Settings that are for `ltdiff train` alone must not seem to do something here."""
    default = TrainingConfig()
    names = [f"{phase}.{name}" for phase in PHASES for name in ("num_steps", "max_minutes")]
    unused = [
        name
        for name in [*names, "num_workers", "use_gpu", "init"]
        if attrgetter(name)(training) != attrgetter(name)(default)
    ]
    if unused:
        logger.warning(
            "not used by a comparison, whose methods have the same minutes in one process: %s", ", ".join(unused)
        )


def _fit(
    methods: Sequence[str],
    training: pd.DataFrame,
    *,
    out: Path,
    budget: TimeBudget,
    settings: Settings,
    config: EvaluationConfig,
) -> tuple[dict[str, Method], dict[str, Harmonizer], dict[str, FitError]]:
    """The fitted methods and their variants by name, those that change features instead of images, and why others failed."""
    fitted: dict[str, Method] = {}
    harmonizers: dict[str, Harmonizer] = {}
    failed: dict[str, FitError] = {}
    torch.set_num_threads(num_cores())
    # what cannot be made, for bad settings or a package that is missing, shows now
    made = {name: FACTORIES[name](budget, settings) for name in methods if name in FACTORIES}
    combat = ComBat(FEATURE_SETS[config.features], num_workers=config.num_workers) if COMBAT in methods else None
    for number, name in enumerate(methods, start=1):
        logger.info("method %d of %d: %s", number, len(methods), name)
        folder = out / "methods" / name
        try:
            if combat is not None and name == COMBAT:
                combat.fit(training, folder=folder)
                harmonizers[name] = combat
            elif name != SOURCE:
                method = made[name]
                method.fit(training, folder=folder)
                fitted |= _rows(name, method, training, folder=folder, num_workers=config.num_workers)
        except FitError as error:
            logger.error("%s failed, the others go on: %s", name, error)
            failed[name] = error
    return fitted, harmonizers, failed


def _rows(
    name: str, method: Comparator, training: pd.DataFrame, *, folder: Path, num_workers: int
) -> dict[str, Method]:
    """The rows of a fitted method: itself, its variants and a sample of it.

    LTDiff++ itself is its mean or its sample, whichever is better on the validation pairs; the other one has a row of its own.
    Variants are means.
    """
    endings = method.variants()
    variants: dict[str, Method] = {f"{name}{ending}": variant for ending, variant in endings.items()}
    if name not in SAMPLED:
        return {name: method, **variants}
    assert isinstance(method, TrainedComparator)
    pairs = read_validation_pairs(training, at_most=MAX_VALIDATION_PAIRS, purpose=f"the sample of {name}")
    if not pairs:
        return {name: method, **variants}
    sample = fit_sampled(method, pairs, range_hu=method.range_hu)
    if not isinstance(method, LTDiffMethod):
        return {name: method, **variants, f"{name}_sample": sample}
    choice = None
    if has_validation_pairs(training):  # else `calibrate` could not make the sample
        choice = choose_output(method, sample, pairs, num_workers=num_workers)
    if choice is not None:
        _write_where_new(folder / OUTPUT_FILE, json.dumps(choice._asdict(), indent=1) + "\n")
        logger.info("%s: the %s is better on the validation pairs", name, choice.output)
    if choice is None or choice.output == "mean":
        return {name: method, **variants, f"{name}_sample": sample}
    means: dict[str, Method] = {f"{name}_mean{ending}": variant for ending, variant in endings.items()}
    return {name: sample, f"{name}_mean": method, **means}


def _write_where_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def _describe_training(
    methods: Sequence[str], training: pd.DataFrame, *, out: Path, budget: TimeBudget
) -> dict[str, Any]:
    """What a reader of the report needs to know of the training of all methods."""
    return {
        "minutes": budget.minutes,
        "training_seed": budget.training.seed,
        "training_split": training.attrs.get("split", ""),
        "num_training_pairs": _count_pairs(training),
        "methods": {name: describe_fit(out / "methods" / name) for name in methods},
        "machine": {"cores": num_cores(), "processor": platform.machine()},
        "versions": {"ltdiff": __version__, **{name: version(name) for name in REPORTED_VERSIONS}},
    }


def describe_fit(folder: Path) -> dict[str, Any]:
    """What a method's folder says of its training: rates tried, steps, seconds and losses of each phase; mean or sample."""
    fit = {
        path.parent.name: json.loads(path.read_text())
        | ({"rates": json.loads(rates.read_text())} if (rates := path.with_name(RATES_FILE)).is_file() else {})
        for path in sorted(folder.glob(f"*/{RESULT_FILE}"))
    }
    chosen = folder / OUTPUT_FILE
    return fit | ({"output": json.loads(chosen.read_text())} if chosen.is_file() else {})


def _check_names(methods: Sequence[str]) -> None:
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"there is no method {', '.join(map(repr, unknown))}; known are {', '.join(METHODS)}")
    if not methods:
        raise ValueError(f"name at least one method; known are {', '.join(METHODS)}")


def _manifests(pairs: Path, test: Path | None, split: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What trains (with its validation rows), and what is scored."""
    manifest = read_manifest(pairs)
    if test is None:
        manifest = split_manifest(manifest, split) if split else manifest
        return manifest, manifest
    training = split_manifest(manifest, split or "z:1")
    scored = read_manifest(test)
    both = set(training["series_uid"]) & set(scored["series_uid"])
    if both:
        raise ValueError(f"{len(both)} series are in {pairs} and in {test}: what trains must not be scored")
    if set(training["patient"]) & set(scored["patient"]):
        logger.warning("%s and %s have a patient in common: what is scored may show what trains", pairs.name, test.name)
    scored = scored.assign(split="test")
    scored.attrs["split"] = f"all of {test.name}"
    return training, scored


def _count_pairs(manifest: pd.DataFrame) -> Mapping[str, int]:
    sources = manifest[(manifest["role"] == "source") & manifest["pair_id"].notna()]
    return {str(key): int(value) for key, value in sources["split"].value_counts().items()}
