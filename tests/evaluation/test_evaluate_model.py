"""Evaluating a trained model: what it is set against."""

import weakref

import pandas as pd
import pytest
from tiny_run import make_volumes, one_thread, save_tiny_model, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.paired_scans import read_all_hu
from ltdiff.evaluation import evaluation_set
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate, evaluate_model
from ltdiff.evaluation.evaluation_result import ScanMeasures
from ltdiff.inference import standardizer
from ltdiff.inference.config import InferenceConfig
from ltdiff.model.ltdiff import load_model
from ltdiff.model.residual_model import read_output
from ltdiff.training.run import describe_model
from ltdiff.uncertainty import calibration
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
    monkeypatch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", 6)
    monkeypatch.setattr(calibration, "NUM_DRAWS", 2)
    pairs = write_pairs(tmp_path / "data")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate_run(read_manifest(pairs), model=model, num_workers=1)
    others = {f"ltdiff_{output}" for output in ("mean", "sample") if output != read_output(model)}
    loaded = []
    monkeypatch.setattr(standardizer, "load_model", lambda folder: loaded.append(folder) or load_model(folder))
    for inference, rows in (
        (InferenceConfig(), {"source", "linear", "ltdiff"} | others),
        (InferenceConfig(output="mean"), {"source", "linear", "ltdiff"}),
    ):
        config = EvaluationConfig(num_rois=3, num_workers=1)
        evaluate_model(pairs, model=model, out=tmp_path / "report", config=config, inference=inference)
        assert set(pd.read_csv(tmp_path / "report" / "image_metrics.csv")["method"]) == rows
        expected = {"ltdiff_expected"} if others <= rows else set()
        assert set(pd.read_csv(tmp_path / "report" / "ccc.csv")["method"]) == rows | expected
    assert loaded == [model, model]  # once for each evaluation


def test_slices_that_may_have_trained_the_model_are_named(tmp_path, caplog):
    """Not those of the manifest that it was trained by, nor those of other series."""
    pairs = write_pairs(tmp_path / "data")
    manifest = read_manifest(pairs)
    again, other = tmp_path / "again.parquet", tmp_path / "other.parquet"
    write_manifest(split_manifest(manifest, "z:0.5"), again)
    write_manifest(manifest.assign(series_uid="other " + manifest["series_uid"]), other)
    facts = describe_model(manifest, tiny_settings())
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp", facts=facts)
    config = EvaluationConfig(num_rois=1, num_workers=1)
    for path, is_named in ((pairs, False), (again, True), (other, False)):
        caplog.clear()
        evaluate_model(path, model=model, out=tmp_path / "out", config=config, inference=InferenceConfig())
        assert ("scored slices may have trained it" in caplog.text) == is_named


class _Doubler:
    """A method whose images are arrays of their own."""

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return 2 * hu


def test_pixels_of_one_scan_are_in_memory_at_a_time(tmp_path, monkeypatch):
    """Whenever slices are read, those of earlier scans and all images of them are gone."""
    tables = []
    for number in range(4):
        rows = read_manifest(write_pairs(tmp_path / str(number), volumes=make_volumes(size=64)))
        named = {"series_uid": f"{number} " + rows["series_uid"], "pair_id": f"{number} " + rows["pair_id"], "split": "test"}
        tables.append(rows.assign(**named))
    manifest = pd.concat(tables, ignore_index=True)
    living, most = [], []

    def remember(array):
        living.append(weakref.ref(array))
        return array

    def read(rows):
        most.append(sum(reference() is not None for reference in living))
        return remember(read_all_hu(rows))

    def take(measures, one):
        for image in one.images.values():
            remember(image)
        return take_images(measures, one)

    take_images = ScanMeasures.take
    monkeypatch.setattr(evaluation_set, "read_all_hu", read)
    monkeypatch.setattr(ScanMeasures, "take", take)
    scored = evaluation_set.read_evaluation_set(manifest, config=EvaluationConfig(num_rois=3, num_workers=1))
    evaluate(scored, methods={"double": _Doubler()}, out=tmp_path / "report", facts={})
    assert len(most) == 4 + 2 * 4  # targets to draw regions on, then both images of each scan
    assert most == [0] * 4 + [0, 1] * 4  # the source is read when the target is there
    assert set(pd.read_csv(tmp_path / "report" / "image_metrics.csv")["method"]) == {"source", "double"}
