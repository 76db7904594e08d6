"""Evaluating a trained model: what it is set against."""

import pandas as pd
import pytest
from tiny_run import one_thread, save_tiny_model, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest, split_manifest, write_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.inference.config import InferenceConfig
from ltdiff.model.residual_model import read_output
from ltdiff.training.run import describe_model
from ltdiff.uncertainty.calibration import calibrate_run
from ltdiff.uncertainty.validation_ccc import ValidationRegions


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
    assert error["linear"] == pytest.approx(error["source"], rel=0.05)  # the filter of an untrained model passes everything


def test_of_a_calibrated_model_all_outputs_and_the_expectation_have_a_row(tmp_path, monkeypatch):
    monkeypatch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", 20)
    pairs = write_pairs(tmp_path / "data")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate_run(read_manifest(pairs), model=model, num_workers=1)
    others = {f"ltdiff_{output}" for output in ("mean", "sample") if output != read_output(model)}
    for inference, rows in (
        (InferenceConfig(), {"source", "linear", "ltdiff"} | others),
        (InferenceConfig(output="mean"), {"source", "linear", "ltdiff"}),
    ):
        config = EvaluationConfig(num_rois=3, num_workers=1)
        evaluate_model(pairs, model=model, out=tmp_path / "report", config=config, inference=inference)
        assert set(pd.read_csv(tmp_path / "report" / "image_metrics.csv")["method"]) == rows
        expected = {"ltdiff_expected"} if others <= rows else set()
        assert set(pd.read_csv(tmp_path / "report" / "ccc.csv")["method"]) == rows | expected


def test_slices_that_may_have_trained_the_model_are_named(tmp_path, caplog):
    """Not those of the manifest that it was trained by, nor those of other series."""
    pairs = write_pairs(tmp_path / "data")
    manifest = read_manifest(pairs)
    again, other = tmp_path / "again.parquet", tmp_path / "other.parquet"
    write_manifest(split_manifest(manifest, "z:0.5"), again)
    write_manifest(manifest.assign(series_uid="other " + manifest["series_uid"]), other)
    facts = describe_model(manifest, tiny_settings())
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp", facts=facts)
    config = EvaluationConfig(num_rois=3, num_workers=1)
    for path, is_named in ((pairs, False), (again, True), (other, False)):
        caplog.clear()
        evaluate_model(path, model=model, out=tmp_path / "out", config=config, inference=InferenceConfig())
        assert ("scored slices may have trained it" in caplog.text) == is_named
