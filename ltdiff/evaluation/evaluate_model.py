"""Putting a trained model beside what a user would pick instead, on the test pairs of a manifest."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ltdiff.data.manifest import data_fingerprint, read_manifest, series_digests
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.markdown import ccc_markdown
from ltdiff.evaluation.scoring import ExtractAll, Scores
from ltdiff.evaluation.test_set import evaluate, read_test_set
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch, Method
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import Output
from ltdiff.model.ltdiff import CHANGES, DATA_CHANGES, read_description, weights_sha256
from ltdiff.model.residual_noise import CALIBRATION_FILE
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
    summary: dict[str, Any] | None = None,
    extract_all: ExtractAll | None = None,
) -> str:
    """Score the source, the linear match and the model; write the report to `out`; return the main tables as Markdown.

    Of a calibrated model the mean or the sample that was not chosen has a row of its own, unless one was asked for.

    Features are extracted by processes on this machine, or by `extract_all`.
    """
    torch.set_num_threads(1)  # several slices at a time, one thread each, as archives are standardized: the same values
    manifest = read_manifest(manifest_path)
    standardizer = Standardizer.load(model, inference)
    linear = LinearMatch(standardizer.model.kernel_match)  # fitted to the pairs that the model was trained on
    methods: dict[str, Method] = {"linear": linear, "ltdiff": standardizer}
    if inference.output is None and (model / CALIBRATION_FILE).is_file():
        other: Output = "mean" if standardizer.residual_noise else "sample"
        methods[f"ltdiff_{other}"] = Standardizer.load(model, replace(inference, output=other))
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
        "num_inference_steps": standardizer.num_steps,
        "decode": standardizer.decoding,
        "inference_seed": standardizer.inference.seed,
    }
    test_set = read_test_set(manifest, config=config, mask=mask)
    facts |= summary or {}
    scores = evaluate(test_set, methods=methods, out=out, summary=facts, extract_all=extract_all)
    return main_tables(scores)


def _has_trained(about: dict[str, Any], manifest: pd.DataFrame, *, split: str) -> bool:
    """Whether series of the split trained the model, by another manifest than this one."""
    of_one_manifest = not any(change.startswith(DATA_CHANGES) for change in about.get(CHANGES, ()))
    if of_one_manifest and about.get("data_fingerprint") == data_fingerprint(manifest):
        return False
    return not series_digests(manifest, (split,)).isdisjoint(about.get("trained_series", ()))


def main_tables(scores: Scores) -> str:
    """CCC across regions (primary definition) of every region set, and the image metrics."""
    primary = scores.ccc[scores.ccc["definition"] == "across_rois"]
    parts = [
        f"CCC, {roi_set} regions ({int(table['num_rois'].max())}):\n\n{ccc_markdown(table)}"
        for roi_set, table in primary.groupby("roi_set", sort=False)
    ]
    return "\n\n".join([*parts, scores.image_metrics.to_markdown(index=False, floatfmt=".3f")])
