"""Runs really logged in MLflow's SQLite store."""

import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
from logged_runs import fail, log, uri_of

from ltdiff.registry import client as registry_client
from ltdiff.registry import runs
from ltdiff.registry.runs import RunFacts, code_version, log_run


def test_log_run_keeps_settings_figures_data_and_code(out, mlflow_client, tmp_path, monkeypatch):
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    before = dict(os.environ)
    run_id = log(out, "everything")
    assert dict(os.environ) == before
    run = mlflow_client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "bridge.kappa": "0.1", "bridge.steps": "[1, 4]"}
    assert run.data.metrics == {"ccc": 0.98, "loss": 1.5}
    assert [(m.step, m.value) for m in mlflow_client.get_metric_history(run_id, "loss")] == [(1, 2.0), (2, 1.5)]
    assert run.data.tags["ltdiff.data_fingerprint"] == "d" * 64
    assert run.data.tags["ltdiff.version"] == code_version()["version"]
    assert Path(urllib.request.url2pathname(run.info.artifact_uri.removeprefix("file://"))).is_relative_to(out)
    assert list(current.iterdir()) == []


def test_log_run_names_nobody(out, mlflow_client):
    run_id = log(out, "nobody")
    assert "DOE" not in str(mlflow_client.get_run(run_id).to_dictionary())
    assert "mlflow.user" not in mlflow_client.get_run(run_id).data.tags


def test_log_run_again_adds_nothing(out, mlflow_client):
    run_id = log(out, "twice")
    assert log(out, "twice", metrics={"ccc": 0.5}) == run_id
    assert mlflow_client.get_run(run_id).data.metrics["ccc"] == 0.98


def test_log_run_takes_more_than_one_batch(out, mlflow_client):
    run_id = log(
        out,
        "long",
        parameters={f"p{i}": i for i in range(150)},
        history=[{"step": step, "loss": 1.0 / (step + 1)} for step in range(2500)],
    )
    assert len(mlflow_client.get_run(run_id).data.params) == 150
    assert len(mlflow_client.get_metric_history(run_id, "loss")) == 2500


def test_log_run_completes_a_run_that_was_cut_off(out, mlflow_client, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_terminated", fail)
        assert log(out, "cut") is None
    assert len(caplog.records) == 1
    record = out / "unlogged-joint.json"
    assert ["loss", 1.5, 2] in json.loads(record.read_text())["metrics"]
    run_id = log(out, "cut")
    assert not record.exists()
    runs = mlflow_client.search_runs(["1"], "tags.`ltdiff.run_key` = 'cut'")
    assert [run.info.run_id for run in runs] == [run_id]
    assert [m.value for m in mlflow_client.get_metric_history(run_id, "loss")] == [2.0, 1.5]


def test_log_run_refuses_what_it_cannot_log(out):
    with pytest.raises(ValueError, match="it's"):
        log(out, "it's")


def test_a_run_may_have_any_name(tmp_path):
    """A run is named after its folder."""
    facts = RunFacts("kappa = 0.2", "k", "d", {})
    assert log_run(facts, out=tmp_path, metrics={}, tracking_uri="http://127.0.0.1:9") is None
    assert [path.name for path in tmp_path.iterdir()] == ["unlogged-kappa___0.2.json"]
    assert log_run(facts, out=tmp_path, metrics={})
    with registry_client.open_client(uri_of(tmp_path)) as client:
        assert client.search_runs(["1"])[0].info.run_name == "kappa = 0.2"


def test_code_version_has_the_revision_of_an_image(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no git there
    monkeypatch.setenv("LTDIFF_REVISION", "4129535a0c")
    assert code_version()["git_revision"] == "4129535a0c"


def test_code_version_has_the_revision_that_lies_beside_the_code(monkeypatch, tmp_path):
    """As in the image; a job that uploads code of its own has none, unless it is told."""
    monkeypatch.delenv("LTDIFF_REVISION", raising=False)
    monkeypatch.setattr(runs.ltdiff, "__file__", str(tmp_path / "ltdiff" / "__init__.py"))
    assert "git_revision" not in code_version()
    (tmp_path / "ltdiff").mkdir()
    (tmp_path / "ltdiff" / "REVISION").write_text("4129535a0c\n")
    assert code_version()["git_revision"] == "4129535a0c"
    monkeypatch.setenv("LTDIFF_REVISION", "77")
    assert code_version()["git_revision"] == "77"


def test_code_version_has_the_revision_of_a_checkout():
    version = code_version()
    if not (Path(registry_client.__file__).parents[2] / ".git").exists():
        pytest.skip("not a git checkout")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", version["git_revision"])
