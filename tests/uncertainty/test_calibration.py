"""Calibrating a model on validation pairs, and what a calibrated model tells of a series."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import identity
from tiny_run import SPACING_MM, make_volumes, one_thread, save_tiny_model, save_volume, write_pairs  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.data.manifest import data_fingerprint, read_manifest, write_manifest
from ltdiff.data.volume_files import read_volume
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import CALIBRATION_FILE, write_sums
from ltdiff.radiomics.pyradiomics import feature_names
from ltdiff.uncertainty import calibration, measure
from ltdiff.uncertainty.calibration import calibrate, calibrate_run, read_choice
from ltdiff.uncertainty.measure import measure_uncertainty
from ltdiff.uncertainty.validation_ccc import ValidationRegions

READ_DEFAULTS = ValidationRegions.read.__func__.__kwdefaults__


@pytest.fixture(scope="module", autouse=True)
def few(request):
    """Few regions and draws."""
    patch = pytest.MonkeyPatch()
    patch.setitem(READ_DEFAULTS, "num_rois", 20)
    patch.setattr(calibration, "NUM_DRAWS", 3)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, pairs):
    folder = save_tiny_model(tmp_path_factory.mktemp("calibrated") / "model", source_kernel="soft", target_kernel="sharp")
    (folder / "report").write_text(calibrate(pairs, model=folder, num_workers=1))
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    hu = make_volumes()[0]
    labels = np.zeros(hu.shape)
    labels[1:3, 10:20, 10:20] = 1
    labels[2, 30:36, 30:36] = 7
    return save_volume(hu, folder / "scan.mha"), save_volume(labels, folder / "mask.nii.gz")


def test_the_report_covers_the_test_pairs(model):
    report = (model / "report").read_text()
    for name in ("firstorder", "glcm", "glrlm", "ngtdm", "coverage", "crps"):
        assert name in report
    assert (model / CALIBRATION_FILE).is_file()


def test_without_test_pairs_there_is_no_coverage(tmp_path, pairs):
    manifest = read_manifest(pairs)
    write_manifest(manifest[manifest["split"] != "test"], tmp_path / "pairs.parquet")
    folder = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    (folder / CALIBRATION_FILE).write_text("{}")
    write_sums(folder)  # as of an exported model, which may be calibrated anew
    assert calibrate(tmp_path / "pairs.parquet", model=folder, num_workers=1) == ""
    content = json.loads((folder / CALIBRATION_FILE).read_text())
    assert content["data_fingerprint"] == data_fingerprint(read_manifest(tmp_path / "pairs.parquet"))
    Standardizer.load(folder)


def test_test_pairs_that_cannot_be_measured_cost_no_calibration(tmp_path, caplog):
    source, target = (hu.copy() for hu in make_volumes())
    target[5] = -1000  # the slice that tests
    pairs = write_pairs(tmp_path, volumes=(source, target))
    folder = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    assert calibrate(pairs, model=folder, num_workers=1) == ""
    assert "what its intervals cover is not measured: 1 pairs of split 'test' have room for 0 of 20 regions" in caplog.text
    assert Standardizer.load(folder)
    assert (folder / CALIBRATION_FILE).is_file()


def test_pairs_of_other_sizes_calibrate_too(tmp_path):
    pairs = write_pairs(tmp_path / "first")
    other = read_manifest(write_pairs(tmp_path / "other", volumes=make_volumes(size=64)))
    for column in ("pair_id", "series_uid"):
        other[column] += " other"
    write_manifest(pd.concat([read_manifest(pairs), other], ignore_index=True), pairs)
    folder = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    assert "on 20 random regions of the test pairs" in calibrate(pairs, model=folder, num_workers=1)


def test_without_validation_pairs_it_is_refused(tmp_path, pairs):
    manifest = read_manifest(pairs)
    write_manifest(manifest[manifest["split"] != "val"], tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match="calibrating needs validation pairs"):
        calibrate(tmp_path / "pairs.parquet", model=tmp_path)


def test_map_and_intervals(model, series, tmp_path):
    path, mask = series
    measure_uncertainty(path, model=model, out=tmp_path / "out", mask=mask, num_workers=1)
    source, deviation = read_volume(path), read_volume(tmp_path / "out" / "sd.nii.gz")
    assert deviation.hu.shape == source.hu.shape
    assert deviation.spacing_mm == pytest.approx(source.spacing_mm)
    assert 0 < deviation.hu.mean() < 500
    table = pd.read_csv(tmp_path / "out" / "features.csv")
    assert set(zip(table["slice_index"], table["label"], strict=True)) == {(1, "label_1"), (2, "label_1"), (2, "label_7")}
    assert len(table) == 3 * len(feature_names())
    assert table.pop("out_of_domain").isna().all()
    known = table.dropna()
    assert len(known) > 0.9 * len(table)
    assert (known["low"] <= known["high"]).all()


def test_many_slices_are_measured_in_parts(model, series, tmp_path, monkeypatch):
    path, mask = series
    for name in ("whole", "parts"):
        measure_uncertainty(path, model=model, out=tmp_path / name, mask=mask, num_workers=1)
        monkeypatch.setattr(measure, "SLICES_AT_A_TIME", 1)
    whole, parts = (pd.read_csv(tmp_path / name / "features.csv") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(parts, whole)


def test_without_a_mask_there_is_the_map_alone(model, series, tmp_path):
    measure_uncertainty(series[0], model=model, out=tmp_path / "out", num_workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sd.nii.gz"]


def test_a_series_that_the_model_is_not_for_is_refused_or_marked(model, series, tmp_path, caplog):
    path, mask = series
    narrow = shutil.copytree(model, tmp_path / "model")
    description = json.loads((narrow / "model.json").read_text())
    description["about"]["training_domain"]["spacing_mm"] = [0.3, 0.4]
    (narrow / "model.json").write_text(json.dumps(description))
    options = {"model": narrow, "out": tmp_path / "out", "mask": mask, "num_workers": 1}
    reason = "pixel spacing 0.7 to 0.8 mm instead of 0.3 to 0.4 mm"
    with pytest.raises(ValueError, match=rf"scan\.mha is outside what .* {reason}; --force"):
        measure_uncertainty(path, **options)
    assert not (tmp_path / "out").exists()
    measure_uncertainty(path, force=True, **options)
    assert set(pd.read_csv(tmp_path / "out" / "features.csv")["out_of_domain"]) == {reason}
    assert reason in caplog.text


def test_of_a_dicom_series_the_kernel_is_checked(model, tmp_path):
    write_ct_series(
        make_volumes()[0],
        out_dir=tmp_path / "scan",
        identity=identity(kernel="B80f", slice_thickness_mm=5.0),
        spacing_mm=SPACING_MM,
    )
    with pytest.raises(ValueError, match="kernel 'B80f' instead of 'soft'"):
        measure_uncertainty(tmp_path / "scan", model=model, out=tmp_path / "out")


def test_a_sample_scatters_as_the_map_says(model):
    source = make_volumes()[0].astype(np.float32)
    mean = Standardizer.load(model, InferenceConfig(output="mean")).standardize(source, (0.8, 0.7))
    sampler = Standardizer.load(model, InferenceConfig(output="sample"))
    samples = np.stack(
        [Standardizer.load(model, InferenceConfig(output="sample", seed=k)).standardize(source, (0.8, 0.7)) for k in (0, 1)]
    )
    assert not np.array_equal(*samples)
    assert np.array_equal(samples[0], sampler.standardize(source, (0.8, 0.7)))
    sigma = np.stack([sampler.procedure.residual.noise.sigma(plane) for plane in mean])
    assert (samples[0] - mean).std() == pytest.approx(np.sqrt(np.mean(sigma**2)), rel=0.1)
    assert "with a draw of what is left over" in sampler.procedure.describe_sampling(sampler.precision)


def test_a_sample_of_another_calibration_has_another_uid_and_the_mean_has_not(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "model")
    content = json.loads((other / CALIBRATION_FILE).read_text())
    content["residual"]["noise"]["sigma_hu"][0][0] += 1
    (other / CALIBRATION_FILE).write_text(json.dumps(content))
    for output, is_same in (("sample", False), ("mean", True)):
        inference = InferenceConfig(output=output)
        first, second = (TrainedModel.load(folder, inference).derivation_for("soft") for folder in (model, other))
        assert (first == second) == is_same


@pytest.mark.parametrize("case", ["not calibrated", "another size", "no label", "absent"])
def test_errors_are_one_sentence(case, model, series, tmp_path, capsys):
    path, mask = series
    if case == "not calibrated":
        model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    if case == "another size":
        mask = save_volume(np.ones((2, 48, 48)), tmp_path / "mask.nii.gz")
    if case == "no label":
        mask = save_volume(np.zeros((6, 48, 48)), tmp_path / "mask.nii.gz")
    if case == "absent":
        path = tmp_path / "scan.mha"
    arguments = [str(path), "--model", str(model), "--out", str(tmp_path / "out"), "--mask", str(mask)]
    assert run_ltdiff(["uncertainty", *arguments]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    expected = {
        "not calibrated": "is not calibrated",
        "another size": "(2, 48, 48)",
        "no label": "the mask is empty",
        "absent": "scan",
    }
    assert expected[case] in message
    assert not (tmp_path / "out").exists()


def test_json_is_plain(model):
    content = json.loads((model / CALIBRATION_FILE).read_text())
    assert set(content) == {"output", "validation_ccc", "data_fingerprint", "residual", "intervals"}


# --- mean or sample ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["mean", "sample"])
def test_what_the_validation_pairs_chose_is_what_a_series_becomes(model, tmp_path, output):
    copy = shutil.copytree(model, tmp_path / "model")
    content = json.loads((copy / CALIBRATION_FILE).read_text())
    assert content["output"] in ("mean", "sample")
    (copy / CALIBRATION_FILE).write_text(json.dumps(content | {"output": output}))
    assert Standardizer.load(copy).procedure.output == output
    assert ("with a draw" in TrainedModel.load(copy, InferenceConfig()).derivation.process) == (output == "sample")


def test_a_damaged_calibration_is_named(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "model")
    (copy / CALIBRATION_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"calibration.json is damaged; run `ltdiff calibrate` again"):
        Standardizer.load(copy)


def test_a_trained_model_is_calibrated_once(pairs, tmp_path, caplog):
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate_run(read_manifest(pairs), model=model, num_workers=1)
    before = (model / CALIBRATION_FILE).stat().st_mtime_ns
    with caplog.at_level("INFO"):
        calibrate_run(read_manifest(pairs), model=model, num_workers=1)
    assert "calibration: done already" in caplog.text
    assert (model / CALIBRATION_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("problem", ["air", "gone"])
def test_a_model_whose_validation_pairs_do_not_serve_stays_uncalibrated(tmp_path, caplog, problem):
    """They could still be trained with: what was trained is not lost for it."""
    pairs = write_pairs(tmp_path)
    manifest = read_manifest(pairs)
    for name in manifest["path"].unique():
        if problem == "air":
            save_volume(np.full(make_volumes()[0].shape, -1000.0), Path(name))
        else:
            Path(name).unlink()
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate_run(manifest, model=model, num_workers=1)
    num_pairs = {"air": 1, "gone": 0}[problem]
    assert f"the model is not calibrated: {num_pairs} pairs of split 'val' have room for 0 of 20 regions" in caplog.text
    assert Standardizer.load(model).procedure.residual is None


def test_pairs_that_may_have_trained_the_model_are_named(pairs, tmp_path, caplog):
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate(pairs, model=model, num_workers=1)
    assert "pairs.parquet is not what the model was trained on, or split in another way" in caplog.text


def test_a_model_without_validation_pairs_stays_uncalibrated(pairs, tmp_path, caplog):
    manifest = read_manifest(pairs)
    write_manifest(manifest[manifest["split"] != "val"], tmp_path / "pairs.parquet")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    calibrate_run(read_manifest(tmp_path / "pairs.parquet"), model=model)
    assert "the model is not calibrated: " in caplog.text
    assert Standardizer.load(model).procedure.residual is None


# --- one calibration for all ------------------------------------------------------------------------------------------


def test_what_is_on_record_is_what_the_same_pairs_give_again(model, pairs):
    """As `ltdiff models promote --pairs` measures it."""
    choice = read_choice(model)
    methods = {output: Standardizer.load(model, InferenceConfig(output=output)) for output in ("mean", "sample", "match")}
    on_record = {output: ccc for output, ccc in choice.ccc.items() if output in methods}
    assert ValidationRegions.read(read_manifest(pairs), num_workers=2).ccc(methods) == on_record
    assert set(choice.ccc) - set(methods) == {"expected"}
    assert read_choice(pairs.parent) is None


def test_of_two_alike_the_mean_is_taken():
    ccc = {"firstorder": 0.9, "glcm": 0.8}
    assert calibration.OutputChoice.of({"mean": ccc, "sample": ccc}).output == "mean"
