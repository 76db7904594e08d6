"""Score a trained model on held-out pairs, with the features of all regions extracted on Ray. Not for diagnostic use.

    python jobs/evaluate.py PAIRS --model MODEL --out OUT --features catalogue --num_workers 4
    ray job submit --working-dir . -- python jobs/evaluate.py PAIRS --model MODEL --out OUT --features catalogue

PAIRS, MODEL and OUT must be absolute paths on storage that the node can reach. The same command does what an interrupted one
left: features that are done lie in OUT/regions.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from ltdiff.cli import resolve_model
from ltdiff.command_line import run
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.inference.standardizer import InferenceConfig
from ltdiff.radiomics.ray_extraction import extract_on_ray


def evaluate(
    pairs: Path,
    *,
    model: str,
    out: Path,
    mask: Path | None = None,
    features: Literal["pyradiomics", "catalogue"] | None = None,
    num_workers: int = 2,
    scoring: EvaluationConfig = EvaluationConfig(),
    inference: InferenceConfig = InferenceConfig(),
) -> int:
    """Score source, linear match and LTDiff++ on held-out pairs, as `ltdiff evaluate` does.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        model: Folder of a trained model, or models:/ltdiff@champion.
        out: Folder for tables (CSV, Markdown) and figures (PNG).
        mask: Lesion mask: a volume file, a DICOM SEG, or a folder of DICOM SEG files.
        features: Short for --scoring.features: four classes of PyRadiomics, or the whole catalogue of 1,450.
        num_workers: Actors for the feature extraction.
        scoring: Which slices and regions.
        inference: Decoding, steps, precision, seed.
    """
    tables = evaluate_model(
        pairs,
        model=resolve_model(model),
        out=out,
        mask=mask,
        config=replace(scoring, features=features or scoring.features),
        inference=inference,
        extract_all=partial(extract_on_ray, folder=out / "regions", num_workers=num_workers),
    )
    print(f"{tables}\nreport: {out / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(run(evaluate))
