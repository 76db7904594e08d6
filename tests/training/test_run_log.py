"""A training in MLflow: one run for all its commands, with the facts of its data, and nothing of its patients."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_run import one_thread, tiny_settings, write_pairs  # noqa: F401

from ltdiff.data.manifest import read_manifest
from ltdiff.registry.client import open_client
from ltdiff.system.ray_cluster import ray_session
from ltdiff.training.config import PhaseConfig
from ltdiff.training.finish_run import finish_run, record_run
from ltdiff.training.phase_training import train_here
from ltdiff.training.ray_driver import num_cpus_needed, train_on_ray
from ltdiff.training.run import prepare_run
from ltdiff.training.run_log import read_history, watch_training
from ltdiff.uncertainty import calibration

SETTINGS = tiny_settings()


def runs_of(out: Path) -> list:
    with open_client(f"sqlite:///{out}/mlflow.db") as client:
        return client.search_runs(["1"])


@pytest.fixture(autouse=True)
def no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(calibration, "NUM_DRAWS", 4)


def test_a_training_is_one_run_from_its_beginning_to_its_model(tmp_path):
    pairs, out = write_pairs(tmp_path), tmp_path / "run"
    manifest = read_manifest(pairs)
    prepare_run(manifest, out=out, settings=SETTINGS)
    with pytest.raises(ValueError, match="lost"), watch_training(pairs, out=out):
        raise ValueError("a worker was lost")
    (begun,) = runs_of(out)
    assert (begun.info.status, begun.info.run_name) == ("FAILED", "run")
    assert begun.data.params["training.joint.num_steps"] == "4"
    (data,) = begun.inputs.dataset_inputs
    counts = json.loads(data.dataset.profile)
    assert counts == {
        f"{role} slices, {split}": n for role in ("source", "target") for split, n in (("test", 1), ("train", 4), ("val", 1))
    }
    with watch_training(pairs, out=out):
        train_here(manifest, out=out, settings=SETTINGS)
    (trained,) = runs_of(out)
    assert (trained.info.run_id, trained.info.status) == (begun.info.run_id, "RUNNING")
    for phase in SETTINGS.training.phases:
        assert f"{phase}.loss" in trained.data.metrics
    record_run(out)
    (ended,) = runs_of(out)
    assert (ended.info.run_id, ended.info.status) == (begun.info.run_id, "FINISHED")
    with open_client(f"sqlite:///{out}/mlflow.db") as client:
        history = client.get_metric_history(ended.info.run_id, "joint.loss")
        files = {one.path for one in client.list_artifacts(ended.info.run_id)}
        assert client.get_model_version_by_alias("ltdiff", "champion").run_id == ended.info.run_id
    rows = [row for row in read_history(out) if "joint.loss" in row]
    assert [(one.step, one.timestamp) for one in history] == [(row["step"], int(row["time"] * 1000)) for row in rows]
    assert {"settings.yaml", "model_card.md"} <= files
    assert manifest["patient"][0] not in str(ended.to_dictionary())
    assert str(tmp_path) not in str(ended.data.to_dictionary())


@pytest.fixture(scope="module")
def ray():
    with ray_session(num_cpus=num_cpus_needed(SETTINGS), num_gpus=0, dashboard=True):
        yield


@pytest.mark.ray
def test_phases_that_jobs_train_are_one_run(ray, tmp_path):
    pairs, out = write_pairs(tmp_path), tmp_path / "run"
    states = []
    for phase in SETTINGS.training.phases:
        train_on_ray([phase], manifest_path=pairs, out=out, settings=SETTINGS, in_mlflow=True)
        (run,) = runs_of(out)
        states.append((run.info.status, f"{phase}.loss" in run.data.metrics))
    assert states == [("SCHEDULED", True), ("SCHEDULED", True), ("RUNNING", True)]
    finish_run(pairs, out=out)
    (run,) = runs_of(out)
    assert run.info.status == "FINISHED"


@pytest.mark.ray
def test_a_training_that_diverges_has_failed_and_goes_on(ray, tmp_path):
    pairs, out = write_pairs(tmp_path), tmp_path / "run"
    short = replace(SETTINGS, training=replace(SETTINGS.training, autoencoder=PhaseConfig(0), joint=PhaseConfig(0)))
    wrong = replace(short, training=replace(short.training, ddpm=PhaseConfig(num_steps=4, learning_rate=1e30)))
    with pytest.raises(ValueError, match="phase ddpm failed"):
        train_on_ray(["ddpm"], manifest_path=pairs, out=out, settings=wrong, in_mlflow=True)
    (failed,) = runs_of(out)
    assert failed.info.status == "FAILED"
    train_on_ray(["ddpm"], manifest_path=pairs, out=out, settings=short, allow_changes=True, in_mlflow=True)
    (run,) = runs_of(out)
    assert (run.info.run_id, run.info.status) == (failed.info.run_id, "RUNNING")
    assert "learning_rate" in run.data.tags["ltdiff.changes"]
