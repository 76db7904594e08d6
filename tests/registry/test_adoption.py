"""`ltdiff models register`: a model folder from elsewhere becomes a version, once."""

import json
from pathlib import Path

import pytest
from tiny_registry import NAMES, record, versions_of
from tiny_run import one_thread, save_tiny_model  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.model.model_folder import write_calibration

CALIBRATION = {"output": "mean", "validation_ccc": {"mean": {"glcm": 0.9}}, "data_fingerprint": "a" * 64}
FACTS = {"trained": {"joint": {"step": 4.0, "loss": 0.25}}, "data_fingerprint": "d" * 64}


def models(*arguments: str) -> int:
    return run_ltdiff(["models", *arguments])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A trained model that no registry knows."""
    model = save_tiny_model(tmp_path / "from elsewhere", source_kernel="soft", target_kernel="sharp", facts=FACTS)
    write_calibration(model, CALIBRATION)
    return model


def test_a_folder_becomes_a_version_with_a_run(client, folder, tmp_path, capsys):
    assert models("register", str(folder)) == 0
    assert capsys.readouterr().out.endswith("version 1\n")
    assert versions_of(client, "champion") == versions_of(client, "candidate") == dict.fromkeys(NAMES, 1)
    version = client.get_model_version("ltdiff", "1")
    assert (version.tags["ltdiff.version"], version.tags["ltdiff.data_fingerprint"]) == ("0.0.1", "d" * 64)
    assert "ltdiff.git_revision" not in version.tags
    run = client.get_run(version.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "from elsewhere")
    assert run.data.metrics == {"joint.loss": 0.25, "validation_ccc": 0.9, "validation_ccc.glcm": 0.9}
    assert run.data.params["training.joint.num_steps"] == "4"
    assert models("export", "1", "--out", str(tmp_path / "exported")) == 0
    for path in folder.iterdir():
        assert (tmp_path / "exported" / path.name).read_bytes() == path.read_bytes()


def test_the_same_folder_is_registered_once(client, folder, capsys):
    models("register", str(folder))
    assert models("register", str(folder)) == 0
    assert capsys.readouterr().out.endswith("version 1, registered already\n")
    write_calibration(folder, CALIBRATION | {"data_fingerprint": "b" * 64})
    models("register", str(folder))
    assert capsys.readouterr().out.endswith("version 2\n")
    assert json.loads(client.get_model_version("ltdiff", "2").tags["ltdiff.parts"]) == dict.fromkeys(NAMES[:3], 2)


def test_networks_that_are_not_trained_are_refused(client, tmp_path, capsys):
    model = record(tmp_path / "run")
    assert models("register", str(model)) == 1
    assert "networks that are not trained" in capsys.readouterr().err


def test_a_new_registry_is_made_of_a_folder(folder, tmp_path, capsys):
    address = f"sqlite:///{tmp_path}/new.db"
    assert models("register", str(folder), "--tracking_uri", address) == 0
    assert models("show", "champion", "--tracking_uri", address) == 0
    assert models("export", "champion", "--out", str(tmp_path / "exported"), "--tracking_uri", address) == 0


def test_a_registry_that_is_not_named_is_an_error(folder, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert models("register", str(folder)) == 1
    assert "set MLFLOW_TRACKING_URI to the registry" in capsys.readouterr().err


def test_a_registry_that_is_down_is_an_error(folder, capsys):
    assert models("register", str(folder), "--tracking_uri", "http://127.0.0.1:9") == 1
    assert "cannot be registered" in capsys.readouterr().err
    assert "unlogged" not in "".join(path.name for path in folder.iterdir())
