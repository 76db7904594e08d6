"""`ltdiff compare` at a tiny size: every method trained for a moment on the same pairs, scored on the same regions."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bodies import make_bodies
from tiny_run import few_validation_patches, make_volumes, one_thread, save_volume, tiny_settings, write_pairs, write_unpaired  # noqa: F401

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.scoring import CCC_COLUMNS
from ltdiff.inference.standardizer import Standardizer
from ltdiff.methods import METHOD_NAMES, METHODS, compare_methods, make_method, training_regions
from ltdiff.model.config import OUTPUTS
from ltdiff.model.ltdiff import ModelConfig
from ltdiff.system.lock import LOCK_FILE, only_writer
from ltdiff.training import fit_kernel_match
from ltdiff.training.config import LossConfig, TrainingConfig
from ltdiff.uncertainty import calibration
from ltdiff.uncertainty.calibration import read_choice
from ltdiff.uncertainty.validation_ccc import ValidationRegions

MINUTES = 0.004
SETTINGS = tiny_settings()
SCORING = EvaluationConfig(num_rois=2, num_workers=1)
CHOSEN = ("source", "linear", "combat", "residual_cnn", "ltdiff")
FILES = {
    "ccc.csv",
    "relative_error.csv",
    "feature_ccc.csv",
    "robust_features.csv",
    "reporting.md",
    "image_metrics.csv",
    "remaining_error.csv",
    "noise_power.csv",
    "structures.csv",
    "structure_summary.csv",
    "slice_correlation.csv",
    "slices.csv",
    "content.csv",
    "features.parquet",
    "rois.json",
    "summary.json",
    "report.md",
    "ccc.png",
    "slices.png",
}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Few regions for ComBat, and one thread, as everywhere in the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_regions, "NUM_ROIS", 10)
        patch.setattr(compare_methods, "num_cores", lambda: 1)
        patch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", 4)
        patch.setattr(calibration, "NUM_DRAWS", 2)
        patch.setattr(fit_kernel_match, "NUM_CHOOSING_ROIS", 6)
        yield


def _compare(pairs, out, *, methods=("source", "linear"), **options):
    options = {"minutes": MINUTES, "settings": SETTINGS, "config": SCORING} | options
    return compare_methods.compare_methods(pairs, methods=methods, out=out, **options)


def _summary(out):
    return json.loads((out / "summary.json").read_text())


def _write_other(folder, *, num_slices=2, seed_shift=5.0):
    """A manifest of other series, none of whose slices is a test slice by its own account."""
    source, target = make_volumes()
    path = write_pairs(folder, volumes=(source[:num_slices] + seed_shift, target[:num_slices] + seed_shift))
    manifest = read_manifest(path)
    write_manifest(manifest.assign(series_uid="other " + manifest["series_uid"], split="train"), path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory, pairs):
    """(folder, printed tables) of a comparison of some methods."""
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, _compare(pairs, out, methods=CHOSEN)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_every_file_is_written(compared):
    out, _ = compared
    assert {path.name for path in out.iterdir()} == FILES | {"methods", LOCK_FILE}
    assert {path.name for path in (out / "methods").iterdir()} == {"combat", "residual_cnn", "ltdiff"}
    assert (out / "methods" / "ltdiff" / "model").is_dir()


def test_every_method_has_its_rows(compared):
    out, printed = compared
    ccc = pd.read_csv(out / "ccc.csv")
    assert tuple(ccc.columns) == CCC_COLUMNS
    chosen = read_choice(out / "methods" / "ltdiff" / "model").output
    rows = {"source", "linear", "combat", "residual_cnn", "residual_cnn_sample", "ltdiff"}
    rows |= {f"ltdiff_{output}" for output in OUTPUTS if output != chosen}
    rows |= {"ltdiff_2_steps" if chosen == "mean" else "ltdiff_mean_2_steps"}
    expected = {"residual_cnn_expected", "ltdiff_expected"}
    assert set(ccc["method"]) == rows | expected
    assert set(ccc["feature_class"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}
    assert "random" in set(ccc["roi_set"])
    assert ccc.groupby("method").size().nunique() == 1
    assert set(pd.read_csv(out / "image_metrics.csv")["method"]) == rows - {"combat"}
    ratios = pd.read_csv(out / "remaining_error.csv")
    assert set(ratios["method"]) == {"ltdiff"}
    assert set(ratios["other"]) == (rows | expected) - {"ltdiff"}
    assert all(f"| {name} " in printed for name in rows | expected)


def test_the_summary_says_what_each_method_was_given(compared):
    out, _ = compared
    summary = _summary(out)
    assert summary["minutes"] == MINUTES
    assert summary["num_training_pairs"] == {"train": 4, "val": 1, "test": 1}
    assert summary["split"]["num_pairs"] == 1
    assert set(summary["methods"]) == set(CHOSEN)
    cnn, ltdiff = summary["methods"]["residual_cnn"]["regression"], summary["methods"]["ltdiff"]
    assert set(map(float, cnn["rates"])) == set(TrainingConfig().learning_rates)
    assert float(cnn["learning_rate"]) == min(map(float, cnn["rates"]), key=lambda rate: cnn["rates"][f"{rate}"])
    assert cnn["step"] >= 1
    output = ltdiff.pop("output")
    assert set(output["ccc"]) == {*OUTPUTS, "expected"}
    assert list(ltdiff) == ["autoencoder", "ddpm", "joint"]
    assert sum(phase["minutes"] for phase in ltdiff.values()) == pytest.approx(MINUTES)
    assert set(ltdiff["joint"]["rates"]) == set(cnn["rates"])  # the same are tried
    assert "rates" not in ltdiff["autoencoder"]
    assert summary["methods"]["source"] == summary["methods"]["linear"] == {}
    others = {f"ltdiff_{other}" for other in OUTPUTS if other != output["output"]}
    two_steps = "ltdiff_2_steps" if output["output"] == "mean" else "ltdiff_mean_2_steps"
    images = {"linear", "residual_cnn", "residual_cnn_sample", "ltdiff", two_steps} | others
    assert set(summary["seconds_per_slice"]) == images
    assert 1 <= summary["wall_s"] < 600
    assert summary["peak_memory_bytes"] > 10_000_000
    assert set(summary["versions"]) >= {"ltdiff", "torch", "numpy"}


def test_no_file_names_a_path_of_the_data(compared, pairs):
    out, _ = compared
    for path in [*out.glob("*.json"), *out.glob("*.csv"), *out.glob("*.md"), *out.glob("methods/*/*.json")]:
        assert str(pairs.parent) not in path.read_text()


def test_the_compared_model_is_one_that_a_user_can_have(compared):
    out, _ = compared
    standardizer = Standardizer.load(out / "methods" / "ltdiff" / "model")
    hu = make_volumes(num_slices=1)[0].astype(np.float32)
    assert standardizer.standardize(hu, (0.8, 0.7)).shape == hu.shape


def test_a_second_run_trains_nothing_and_says_the_same(compared, pairs):
    out, printed = compared
    before = {path: path.stat().st_mtime_ns for path in (out / "methods").rglob("*")}
    ccc = (out / "ccc.csv").read_bytes()
    assert _compare(pairs, out, methods=CHOSEN) == printed
    assert {path: path.stat().st_mtime_ns for path in (out / "methods").rglob("*")} == before
    assert (out / "ccc.csv").read_bytes() == ccc


def test_the_table_can_be_built_over_several_runs(tmp_path, pairs, caplog):
    _compare(pairs, tmp_path, methods=["unetpp"])
    assert set(pd.read_csv(tmp_path / "ccc.csv")["method"]) == {"source", "unetpp"}
    assert not (tmp_path / "remaining_error.csv").exists()
    before = (tmp_path / "methods" / "unetpp" / "regression" / "result.safetensors").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        _compare(pairs, tmp_path, methods=["linear", "unetpp"])
    assert "method 2 of 2: unetpp" in caplog.text
    assert set(pd.read_csv(tmp_path / "ccc.csv")["method"]) == {"source", "linear", "unetpp"}
    assert (tmp_path / "methods" / "unetpp" / "regression" / "result.safetensors").stat().st_mtime_ns == before


def test_a_method_that_fails_costs_the_others_nothing(tmp_path, pairs, caplog):
    """A learning rate that is named is taken as it is, and this one leads nowhere."""
    joint = replace(SETTINGS.training.joint, learning_rate=1e38)
    settings = replace(SETTINGS, training=replace(SETTINGS.training, joint=joint, checkpoint_every_steps=2))
    with pytest.raises(ValueError, match=r"report.md lacks ltdiff: .*joint: the gradient at step .* is not finite"):
        _compare(pairs, tmp_path, methods=["ltdiff", "linear"], settings=settings, minutes=0.05)
    assert set(pd.read_csv(tmp_path / "ccc.csv")["method"]) == {"source", "linear"}
    assert not (tmp_path / "remaining_error.csv").exists()
    assert "ltdiff failed, the others go on" in caplog.text


def test_variants_of_what_is_a_sample_are_called_means(tmp_path, pairs, monkeypatch):
    of = calibration.OutputChoice.of
    monkeypatch.setattr(calibration.OutputChoice, "of", lambda ccc: of(ccc)._replace(output="sample"))
    _compare(pairs, tmp_path, methods=["ltdiff"])
    rows = {"source", "ltdiff", "ltdiff_mean", "ltdiff_match", "ltdiff_mean_2_steps", "ltdiff_expected"}
    assert set(pd.read_csv(tmp_path / "ccc.csv")["method"]) == rows


def test_a_second_comparison_in_the_same_folder_at_the_same_time_is_refused(tmp_path, pairs):
    with only_writer(tmp_path / "out"), pytest.raises(ValueError, match="is being written by process"):
        _compare(pairs, tmp_path / "out")


def test_other_minutes_in_the_same_folder_are_refused(compared, pairs):
    out, _ = compared
    with pytest.raises(ValueError, match=r"residual_cnn holds work with other settings or data \(training\.minutes was "):
        _compare(pairs, out, methods=["residual_cnn"], minutes=2 * MINUTES)


# --- what trains and what is scored -----------------------------------------------------------------------------------


def test_another_manifest_can_be_scored(tmp_path, pairs):
    """All of its pairs, and all of the other's train."""
    test = _write_other(tmp_path / "other", num_slices=3)
    _compare(pairs, tmp_path / "out", test=test)
    summary = _summary(tmp_path / "out")
    assert summary["split"] == {"spec": "all of pairs.parquet", "scored": "test", "num_pairs": 3}
    assert summary["num_training_pairs"] == {"train": 5, "val": 1}
    assert summary["training_split"] == "z:1"


def test_a_split_may_be_named(tmp_path, pairs):
    _compare(pairs, tmp_path, split="z:0.5")
    assert _summary(tmp_path)["num_training_pairs"] == {"test": 3, "train": 2, "val": 1}
    assert _summary(tmp_path)["split"] == {"spec": "z:0.5", "scored": "test", "num_pairs": 3}


def test_one_slice_is_enough_to_train(tmp_path):
    """Its columns at the right edge validate."""
    source, target = make_volumes()
    one = write_pairs(tmp_path / "one", volumes=(source[:1], target[:1]))
    _compare(one, tmp_path / "out", methods=["residual_cnn", "ltdiff"], test=_write_other(tmp_path / "other"))
    summary = _summary(tmp_path / "out")
    assert summary["num_training_pairs"] == {"train": 1}
    rates = summary["methods"]["residual_cnn"]["regression"]["rates"]
    assert all(np.isfinite(loss) for loss in rates.values())
    rows = {"source", "residual_cnn", "ltdiff", "ltdiff_2_steps"}
    assert set(pd.read_csv(tmp_path / "out" / "ccc.csv")["method"]) == rows  # nothing to calibrate on: means alone


def test_what_trains_is_not_scored(tmp_path, pairs):
    with pytest.raises(ValueError, match="what trains is not scored"):
        _compare(pairs, tmp_path / "out", test=write_pairs(tmp_path / "again"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("methods", "named"), [(["linear", "magic", "luck"], "there is no method 'magic', 'luck'"), ([], "name at least one method")]
)
def test_an_unknown_method_is_refused(tmp_path, pairs, methods, named):
    with pytest.raises(ValueError, match=f"{named}; known are source, histogram, combat, covbat, linear, "):
        _compare(pairs, tmp_path / "out", methods=methods)
    assert not (tmp_path / "out").exists()


def test_methods_that_need_no_pairs_are_compared_without_any(tmp_path):
    sources = [make_bodies(3, seed=seed, blur_px=1.3, noise_hu=12) for seed in (1, 2)]
    targets = [make_bodies(3, seed=seed, blur_px=0.8, noise_hu=40) for seed in (3, 4)]
    pairs = write_unpaired(tmp_path / "data", sources=sources, targets=targets, split="train")
    manifest = read_manifest(pairs)
    is_test = manifest["slice_index"] == 2
    write_manifest(manifest.assign(split=manifest["split"].where(~is_test, "test")), pairs)
    with pytest.raises(ValueError, match=r"report.md lacks linear: the manifest has no pair in its split"):
        _compare(pairs, tmp_path / "out", methods=["source", "histogram", "combat", "covbat", "linear"])
    table = pd.read_csv(tmp_path / "out" / "unpaired.csv")
    assert list(table["method"]) == ["source", "histogram", "combat", "covbat", "target"]
    assert not (tmp_path / "out" / "ccc.csv").exists()
    summary = _summary(tmp_path / "out")
    assert summary["num_training_pairs"] == {}
    assert summary["num_unpaired_training_slices"] == {"source": 4, "target": 4}


# --- methods ----------------------------------------------------------------------------------------------------------


def test_every_method_can_be_made():
    timed = replace(SETTINGS, training=replace(SETTINGS.training, minutes=MINUTES))
    assert ("source", *METHODS) == METHOD_NAMES
    shipped = {"ltdiff_pretrained": replace(timed, model=ModelConfig(), loss=LossConfig())}  # weights of default shapes
    made = {name: make_method(name, shipped.get(name, timed), SCORING) for name in METHODS}
    for name, method in made.items():
        assert callable(method.fit)
        assert callable(method.harmonize if name in ("combat", "covbat") else method.standardize)
    assert made["ltdiff"].settings == timed
    assert made["ltdiff_pretrained"].settings.training == replace(timed.training, init="pretrained")
    with pytest.raises(ValueError, match="pretrained weights are for networks of the default shapes"):
        make_method("ltdiff_pretrained", timed, SCORING)
    paper = made["ltdiff_paper"].settings
    assert paper.diffusion.process == "ddpm"
    assert (paper.training.rates_of("joint"), paper.training.patch_size) == ((1e-4,), SETTINGS.training.patch_size)
    assert made["unetpp"].config.encoder_skips
    assert not made["unetpp_no_skips"].config.encoder_skips


def test_patches_and_seed_of_the_settings_are_those_of_every_method(tmp_path, pairs):
    settings = replace(SETTINGS, training=replace(SETTINGS.training, seed=5, patch_size=24, batch_size_per_worker=3))
    _compare(pairs, tmp_path, methods=["stan_ct", "ltdiff"], settings=settings)
    for name in ("stan_ct", "ltdiff"):
        claimed = json.loads((tmp_path / "methods" / name / "run.json").read_text())
        training = claimed.get("training") or claimed["settings"]["training"]
        assert (training["seed"], training["patch_size"], training["batch_size_per_worker"]) == (5, 24, 3)
    assert _summary(tmp_path)["training_seed"] == 5


def test_air_is_refused_before_anything_is_trained(tmp_path):
    pairs = write_pairs(tmp_path)
    for path in read_manifest(pairs)["path"].unique():
        save_volume(np.full(make_volumes()[0].shape, -1000.0), Path(path))
    with pytest.raises(ValueError, match="the pairs of split 'test' show air alone"):
        _compare(pairs, tmp_path / "out", methods=["residual_cnn"], minutes=30)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_trained(tmp_path):
    pairs = write_pairs(tmp_path)
    write_manifest(read_manifest(pairs).assign(split="train"), pairs)
    with pytest.raises(ValueError, match="no pair in its split 'test'"):
        _compare(pairs, tmp_path / "out", methods=["residual_cnn"], minutes=30)
    assert not (tmp_path / "out").exists()
