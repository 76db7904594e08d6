"""Scoring methods on the pairs of a manifest, and a trained model beside what a user would pick instead."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ltdiff.data.manifest import data_fingerprint, read_manifest, series_digests
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluation_result import collect_result
from ltdiff.evaluation.evaluation_set import EvaluationSet, read_evaluation_set, standardize_slices
from ltdiff.evaluation.feature_values import ExtractAll
from ltdiff.evaluation.markdown import ccc_markdown
from ltdiff.evaluation.report import write_report
from ltdiff.evaluation.scoring import SOURCE, Harmonizer, Scores, score
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch, Method
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import OUTPUTS
from ltdiff.model.model_folder import CALIBRATION_FILE, CHANGES, DATA_CHANGES, read_description, weights_sha256
from ltdiff.radiomics.feature_sets import FEATURE_SETS
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)


def evaluate_model(
    manifest_path: Path,
    *,
    model: Path,
    out: Path,
    config: EvaluationConfig,
    inference: InferenceConfig,
    mask: Path | None = None,
    extract_all: ExtractAll | None = None,
) -> str:
    """Score the source, the linear match and the model; write the report to `out`; return the main tables as Markdown.

    Of a calibrated model the outputs that were not chosen have rows of their own, unless one was asked for.

    Features are extracted by processes on this machine, or by `extract_all`.
    """
    torch.set_num_threads(1)  # several slices at a time, one thread each, as archives are standardized: the same values
    manifest = read_manifest(manifest_path)
    standardizer = Standardizer.load(model, inference)
    linear = LinearMatch(standardizer.model.kernel_match)  # fitted to the pairs that the model was trained on
    methods: dict[str, Method] = {"linear": linear, "ltdiff": standardizer}
    if inference.output is None and (model / CALIBRATION_FILE).is_file():
        others = [output for output in OUTPUTS if output not in (standardizer.procedure.output, "match")]  # "linear" is the match
        methods |= {f"ltdiff_{other}": Standardizer.load(model, replace(inference, output=other)) for other in others}
    about = read_description(model)["about"]
    if _has_trained(about, manifest, split=config.split):
        logger.warning(
            "%s is not what the model was trained on, or split in another way, and has series that it was trained on: scored "
            "slices may have trained it",
            printable(manifest_path),
        )
    facts = {
        "model_weights_sha256": weights_sha256(model),
        "model": about,
        "num_inference_steps": standardizer.procedure.num_steps,
        "decode": standardizer.procedure.describe_decoding(),
        "inference_seed": inference.seed,
    }
    evaluation_set = read_evaluation_set(manifest, config=config, mask=mask)
    return main_tables(evaluate(evaluation_set, methods=methods, out=out, facts=facts, extract_all=extract_all))


def evaluate(
    evaluation_set: EvaluationSet,
    *,
    methods: Mapping[str, Method],
    harmonizers: Mapping[str, Harmonizer] | None = None,
    out: Path,
    facts: Mapping[str, Any],
    compared: str | None = None,
    extract_all: ExtractAll | None = None,
) -> Scores:
    """Standardize the source slices with every method, score them against the targets, write the report to `out`.

    The source itself, SOURCE, is always in the tables. The report sets the remaining error of the method `compared` against that
    of all others. `facts` (times, versions, seeds) are for summary.json.
    """
    config = evaluation_set.config
    source_hu, spacings_mm, numbers = evaluation_set.source_hu, evaluation_set.spacings_mm, evaluation_set.slice_numbers
    images, seconds = {SOURCE: source_hu}, {}
    for name, method in methods.items():
        started_s = time.perf_counter()
        made = standardize_slices(method, source_hu, spacings_mm, numbers=numbers, num_workers=config.num_workers, name=name)
        images[name] = np.stack(made)
        seconds[name] = (time.perf_counter() - started_s) / len(source_hu)
    scores = score(
        images,
        target_hu=evaluation_set.target_hu,
        spacing_mm=spacings_mm,
        rois=evaluation_set.scored,
        feature_set=FEATURE_SETS[config.features],
        harmonizers=harmonizers,
        seed=config.seed,
        num_workers=config.num_workers,
        extract_all=extract_all,
    )
    facts = {"seconds_per_slice": seconds, **facts}
    result = collect_result(scores, images=images, evaluation_set=evaluation_set, facts=facts, compared=compared)
    write_report(result, out_dir=out)
    return scores


def _has_trained(about: dict[str, Any], manifest: pd.DataFrame, *, split: str) -> bool:
    """Whether series of the split trained the model, by another manifest than this one."""
    of_one_manifest = not any(change.startswith(DATA_CHANGES) for change in about.get(CHANGES, ()))
    if of_one_manifest and about.get("data_fingerprint") == data_fingerprint(manifest):
        return False
    return not series_digests(manifest, (split,)).isdisjoint(about.get("trained_series", ()))


def main_tables(scores: Scores) -> str:
    """CCC across regions (primary definition), and the image metrics; the regions of a HU range are in the report alone."""
    primary = scores.ccc[scores.ccc["definition"] == "across_rois"]
    parts = [
        f"CCC, {roi_set} regions ({int(table['num_rois'].max())}):\n\n{ccc_markdown(table)}"
        for roi_set, table in primary.groupby("roi_set", sort=False)
        if not str(roi_set).startswith("hu_")
    ]
    return "\n\n".join([*parts, scores.image_metrics.to_markdown(index=False, floatfmt=".3f")])
