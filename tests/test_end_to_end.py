"""The whole path at a tiny size, by the commands a user types: simulate, pair, train, standardize, evaluate."""

import json

import pandas as pd
import pydicom
import pytest
from dicom_files import assert_no_new_errors

from ltdiff.cli import run_ltdiff
from ltdiff.dicom.series import find_series
from ltdiff.model.config import OUTPUTS
from ltdiff.model.model_folder import CALIBRATION_FILE
from ltdiff.model.residual_model import read_output
from ltdiff.system.ray_cluster import ray_session
from ltdiff.uncertainty import calibration
from ltdiff.uncertainty.validation_ccc import ValidationRegions

pytestmark = pytest.mark.ray

TINY = [
    *("--set=training.patch_size=32", "--set=training.batch_size_per_worker=2"),
    *("--set=training.checkpoint_every_steps=2", "--set=training.num_workers=2"),
    *(f"--set=training.{phase}.num_steps=4" for phase in ("autoencoder", "ddpm", "joint", "residual")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which simulate, pair and train have run."""
    folder = tmp_path_factory.mktemp("end-to-end")
    simulation = [
        "--set=simulation.num_patients=3",
        "--set=simulation.num_slices=3",
        "--set=simulation.matrix=128",
        "--num_workers=1",
    ]
    with ray_session(num_cpus=5, dashboard=True), pytest.MonkeyPatch.context() as patch:
        patch.setitem(ValidationRegions.read.__kwdefaults__, "num_rois", 20)
        patch.setattr(calibration, "NUM_DRAWS", 2)
        assert run_ltdiff(["simulate", "--out", str(folder / "archive"), *simulation]) == 0
        assert run_ltdiff(["pair", str(folder / "archive"), "--out", str(folder / "pairs.parquet")]) == 0
        assert run_ltdiff(["train", str(folder / "pairs.parquet"), "--out", str(folder / "run"), *TINY]) == 0
        yield folder


def test_training_again_does_nothing(folder):
    before = (folder / "run" / "model" / "model.json").stat().st_mtime_ns
    assert run_ltdiff(["train", str(folder / "pairs.parquet"), "--out", str(folder / "run"), *TINY]) == 0
    assert (folder / "run" / "model" / "model.json").stat().st_mtime_ns == before


def test_the_trained_model_is_calibrated(folder):
    assert (folder / "run" / "model" / CALIBRATION_FILE).is_file()
    assert read_output(folder / "run" / "model") in OUTPUTS


def test_other_settings_on_the_same_folder_are_refused(folder, capsys):
    changed = [*TINY, "--set=diffusion.kappa=0.3"]
    assert run_ltdiff(["train", str(folder / "pairs.parquet"), "--out", str(folder / "run"), *changed]) == 1
    assert "kappa" in capsys.readouterr().err


def test_the_source_series_become_derived_ones(folder):
    arguments = ["standardize", str(folder / "archive"), "--model", str(folder / "run" / "model")]
    assert run_ltdiff([*arguments, "--out", str(folder / "derived")]) == 0
    series, _ = find_series(folder / "derived")
    assert len(series) == 3  # the sources; the targets have the standard kernel already
    assert all(one.standardized_by_ltdiff and one.num_slices == 3 for one in series)
    assert pydicom.dcmread(series[0].slices[0].path).ImageType[:2] == ["DERIVED", "SECONDARY"]
    sources = {one.slices[0].sop_instance_uid: one for one in find_series(folder / "archive")[0]}
    for one in series:
        assert_no_new_errors(sources[one.slices[0].source_sop_instance_uid], one.path.parent)


def test_the_report_has_the_promised_table(folder):
    arguments = ["evaluate", str(folder / "pairs.parquet"), "--model", str(folder / "run" / "model")]
    options = ["--mask", str(folder / "archive"), "--set=evaluation.num_rois=12", "--set=evaluation.num_workers=1"]
    assert run_ltdiff([*arguments, "--out", str(folder / "report"), *options]) == 0
    ccc = pd.read_csv(folder / "report" / "ccc.csv")
    chosen = read_output(folder / "run" / "model")
    assert set(ccc["method"]) == {"source", "linear", "ltdiff", "ltdiff_expected"} | {
        f"ltdiff_{one}" for one in ("mean", "sample") if one != chosen
    }
    assert {"random", "tumour"} <= set(ccc["roi_set"])
    assert set(ccc["feature_class"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["data_fingerprint"]
    assert summary["seconds_per_slice"]["ltdiff"] > 0
    assert (folder / "report" / "slices.png").stat().st_size > 10_000


def test_the_registered_model_is_the_trained_one(folder, monkeypatch):
    from ltdiff.commands.command_line import resolve_model
    from ltdiff.model.model_folder import weights_sha256

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'run' / 'mlflow.db'}")
    monkeypatch.setattr("ltdiff.commands.command_line.MODEL_CACHE", folder / "cache")
    assert weights_sha256(resolve_model("models:/ltdiff@champion")) == weights_sha256(folder / "run" / "model")
