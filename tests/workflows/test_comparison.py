"""Evaluating a trained model: what it is set against."""

import pandas as pd
import pytest
from tiny_run import one_thread, save_tiny_model, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.evaluation.test_set import EvaluationConfig
from ltdiff.inference.standardizer import InferenceConfig
from ltdiff.workflows.comparison import evaluate_model


def test_the_linear_match_is_the_model_s_own(tmp_path):
    """Fitted again, it would learn from a patient that the model has never seen; here there is nothing to fit it to."""
    manifest = read_manifest(write_pairs(tmp_path / "data"))
    write_manifest(manifest[manifest["split"] == "test"], tmp_path / "pairs.parquet")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    evaluate_model(
        tmp_path / "pairs.parquet",
        model=model,
        out=tmp_path / "report",
        config=EvaluationConfig(num_rois=3, num_workers=1),
        inference=InferenceConfig(),
    )
    error = pd.read_csv(tmp_path / "report" / "image_metrics.csv").set_index("method")["mae_hu"]
    assert error["linear"] == pytest.approx(
        error["source"], rel=0.05
    )  # the filter of an untrained model passes everything
