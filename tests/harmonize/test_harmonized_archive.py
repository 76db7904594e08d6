"""An archive in one command: other patients, other protocols, one that does not fit, and the same command twice."""

import shutil
from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pydicom
import pytest
from bodies import make_bodies
from dicom_files import identity
from tiny_run import one_thread, tiny_settings  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.dicom import header_table
from ltdiff.dicom.header import read_header
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.harmonize.harmonized_archive import harmonize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import read_training_domain
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import read_description, weights_sha256
from ltdiff.physics.spectrum import half_overlapping_windows, tapered_power
from ltdiff.uncertainty import calibration

NUM_SLICES, SIZE = 3, 192
PHASES = ["autoencoder", "ddpm", "joint"]
SOFT, SHARP = {"blur_px": 1.0, "noise_hu": 18.0, "noise_px": 0.95}, {"blur_px": 0.7, "noise_hu": 30.0, "noise_px": 0.6}


def _write(folder, *, patient, kernel, thickness_mm=5.0, **protocol):
    uids = {
        name: stable_uid(name, f"{patient} {kernel} {thickness_mm}")
        for name in ("study_uid", "frame_of_reference_uid", "series_uid")
    }
    acquired = datetime(2020, 1, 1) + timedelta(days=patient)
    one = identity(patient_id=f"P{patient}", kernel=kernel, slice_thickness_mm=thickness_mm, acquired=acquired, **uids)
    hu = make_bodies(NUM_SLICES, size=SIZE, seed=patient, **protocol)
    spacing_mm = (thickness_mm, 0.8, 0.8)
    write_ct_series(hu, out_dir=folder, identity=one, spacing_mm=spacing_mm, origin_mm=(-60.0, -60.0, 0.0))
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two patients with a soft kernel, two others with a sharp one, and one whose slices are thinner."""
    root = tmp_path_factory.mktemp("archive")
    for patient in range(2):
        _write(root / f"soft{patient}", patient=patient, kernel="B", **SOFT)
        _write(root / f"sharp{patient}", patient=10 + patient, kernel="L", **SHARP)
    _write(root / "thin", patient=20, kernel="B", thickness_mm=1.0, **SOFT)
    return root


@pytest.fixture(scope="module")
def harmonized(archive, tmp_path_factory):
    """(out, what became of each series)"""
    out = tmp_path_factory.mktemp("harmonized")
    return out, harmonize_archive(archive, target_kernel="L", out=out, settings=tiny_settings())


def _fine_power(hu):
    """Power of the body's windows in the upper half of the frequencies."""
    windows = np.concatenate([half_overlapping_windows(plane, (32, 32)) for plane in hu])
    windows = windows[windows.mean(axis=(1, 2)) > -950]
    power = tapered_power(windows - windows.mean(axis=(1, 2), keepdims=True))
    return float(np.median(power[:, 8:16, 8:16]))


def test_every_series_is_standardized_or_refused_with_a_reason(harmonized):
    _, results = harmonized
    assert sorted(result.status for result in results) == ["fail", "skip", "skip", "written", "written"]
    (failed,) = [result for result in results if result.status == "fail"]
    assert "has slices of 1 mm, and the series of the target kernel have 5 mm" in failed.reason


def test_the_noise_of_other_patients_becomes_that_of_the_target(archive, harmonized):
    out, _ = harmonized
    derived, _ = find_series(out / "images")
    originals, _ = find_series(archive)
    found = np.mean([_fine_power(one.read_hu()) for one in derived])
    expected = np.mean([_fine_power(one.read_hu()) for one in originals if one.kernel == "L"])
    before = np.mean([_fine_power(one.read_hu()) for one in originals if one.kernel == "B" and one.slice_thickness_mm == 5])
    assert abs(np.log(found / expected)) < 0.15 < abs(np.log(before / expected))


def test_the_survey_says_what_was_there(harmonized):
    out, _ = harmonized
    protocols = pd.read_csv(out / "survey" / "protocols.csv")
    assert sorted(protocols["kernel"]) == ["B", "B", "L"]
    assert (out / "survey" / "protocols.png").is_file()


def test_the_images_say_that_no_network_made_them(harmonized):
    out, results = harmonized
    (derived, *_) = [result.output for result in results if result.status == "written"]
    description = pydicom.dcmread(next(derived.iterdir())).DerivationDescription
    assert "the kernel match alone" in description
    assert {str(result.model) for result in results if result.status == "written"} == {
        str(path) for path in out.glob("protocols/*/run/model")
    }


def test_its_networks_are_not_to_be_used(harmonized):
    out, _ = harmonized
    (model,) = out.glob("protocols/*/run/model")
    with pytest.raises(ValueError, match="are not trained: it has no output but match"):
        Standardizer.load(model, InferenceConfig(output="mean"))


def test_the_report_shows_the_protocol_before_and_after(harmonized):
    out, _ = harmonized
    (table,) = out.glob("reports/*/unpaired.csv")
    distance = pd.read_csv(table).set_index("method")["frd"]
    assert distance["ltdiff"] < distance["source"] - 1


def test_the_report_has_the_end_points_of_the_whole_images(archive, harmonized):
    out, results = harmonized
    (path,) = out.glob("reports/*/unpaired_endpoints.csv")
    table = pd.read_csv(path)
    assert table["method"].tolist() == ["source", "ltdiff"] * 2 + ["target"] * 2
    assert (table["num_slices"] == NUM_SLICES).all()
    originals = {one.series_instance_uid: one for one in find_series(archive)[0]}
    outputs = {result.source: result.output for result in results if result.output is not None}
    for uid, rows in table[table["role"] == "source"].groupby("series_uid"):
        hu = originals[uid].read_hu()
        lungs = find_lungs(hu, originals[uid].spacing_mm)
        (derived,), _ = find_series(outputs[originals[uid].path])
        assert rows["mean_hu"].tolist() == pytest.approx([hu[lungs].mean(), derived.read_hu()[lungs].mean()], abs=1e-3)
    assert "In the lungs of 2 patients of the source" in (path.parent / "report.md").read_text()


def test_a_model_that_is_its_match_has_one_row(harmonized):
    out, _ = harmonized
    (table,) = out.glob("reports/*/unpaired.csv")
    assert list(pd.read_csv(table)["method"]) == ["source", "ltdiff", "target"]


def test_every_header_is_read_once_and_then_known(archive, harmonized, monkeypatch, settled, tmp_path):
    out, _ = harmonized
    read = Counter()

    def count(path):
        read[path] += 1
        return read_header(path)

    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path))
    monkeypatch.setattr(header_table, "read_header", count)
    for _ in range(2):
        harmonize_archive(archive, target_kernel="L", out=out, settings=tiny_settings())
        assert read == Counter(archive.rglob("*.dcm"))


def test_the_same_command_again_does_nothing_and_a_new_series_gets_the_same_match(archive, harmonized, tmp_path):
    out, _ = harmonized
    before = {path: path.stat().st_mtime_ns for path in (out / "protocols").rglob("*.json")}
    results = harmonize_archive(archive, target_kernel="L", out=out, settings=tiny_settings())
    assert sorted(result.status for result in results) == ["fail", "present", "present", "skip", "skip"]
    new = _write(archive / "late", patient=3, kernel="B", **SOFT)
    try:
        again = harmonize_archive(archive, target_kernel="L", out=out, settings=tiny_settings())
    finally:
        for path in sorted(new.iterdir()):
            path.unlink()
        new.rmdir()
    assert [result.source.parent.name for result in again if result.status == "written"] == ["late"]
    assert {path: path.stat().st_mtime_ns for path in (out / "protocols").rglob("*.json")} == before


def test_a_kernel_that_is_not_there_is_named_with_those_that_are(archive, tmp_path, capsys):
    assert run_ltdiff(["harmonize", str(archive), "--target_kernel", "X", "--out", str(tmp_path / "out")]) == 1
    assert "no series has the target kernel 'X': here are 'B', 'L'" in capsys.readouterr().err


def test_a_damaged_manifest_or_model_costs_its_own_protocol(archive, tmp_path):
    root, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(archive, root)
    for patient, kernel in ((30, "C"), (31, "D")):
        _write(root / kernel, patient=patient, kernel=kernel, blur_px=0.85, noise_hu=24.0, noise_px=0.8)
    assert (
        Counter(one.status for one in harmonize_archive(root, target_kernel="L", out=out, settings=tiny_settings()))["written"]
        == 4
    )
    shutil.rmtree(out / "images")
    runs = {read_training_domain(model).source_kernels[0]: model.parent for model in out.glob("protocols/*/run/model")}
    (runs["C"].parent / "pairs.parquet").write_text("torn")
    (runs["D"] / "model" / "encoder.safetensors").write_bytes(b"torn")
    results = harmonize_archive(root, target_kernel="L", out=out, settings=tiny_settings())
    assert Counter(one.status for one in results) == {"written": 2, "fail": 3, "skip": 2}
    reasons = " ".join(one.reason for one in results if one.status == "fail")
    assert "pairs.parquet: this is no Parquet file" in reasons
    assert "encoder.safetensors" in reasons


@pytest.mark.slow
def test_minutes_train_networks_once_for_all_protocols(archive, tmp_path, monkeypatch):
    """A protocol that comes later gets them, too, or its match alone where it is too far from those that were trained."""
    monkeypatch.setattr(calibration, "NUM_DRAWS", 3)
    root, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(archive, root)
    for patient in range(2):
        _write(root / f"medium{patient}", patient=30 + patient, kernel="C", blur_px=0.85, noise_hu=24.0, noise_px=0.8)

    def harmonize():
        settings = tiny_settings(learning_rates=(1e-3,))
        return harmonize_archive(root, target_kernel="L", out=out, minutes=0.05, settings=settings)

    def models():
        return {path.parts[-3]: path for path in out.glob("protocols/*/run/model")}

    assert sorted(result.status for result in harmonize()) == ["fail", "skip", "skip", *["written"] * 4]
    trained = {name: weights_sha256(model) for name, model in models().items()}
    assert [(model / "calibration.json").is_file() for model in models().values()] == [True, True]
    parts = [read_description(model)["files"] for model in (out / "networks" / "model", *models().values())]
    assert parts[0] == parts[1] == parts[2]
    _write(root / "late", patient=40, kernel="D", blur_px=0.9, noise_hu=22.0, noise_px=0.85)
    _write(root / "noisy", patient=41, kernel="E", blur_px=0.7, noise_hu=200.0, noise_px=0.6)
    assert Counter(result.status for result in harmonize())["written"] == 2
    assert trained == {name: weights_sha256(model) for name, model in models().items() if name in trained}
    phases = {
        read_training_domain(model).source_kernels: list(read_description(model)["about"]["trained"])
        for model in models().values()
    }
    assert phases == {("B",): PHASES, ("C",): PHASES, ("D",): PHASES, ("E",): ["match"]}
