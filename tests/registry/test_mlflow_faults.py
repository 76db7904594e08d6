"""MLflow in trouble: a server that is down, hangs or is slow, a damaged store; none ends a training."""

import json
import logging
import socket
import subprocess
import sys
import urllib.request

import pytest
from logged_runs import facts, log, uri_of, write_model
from mlflow_servers import free_port, hanging_server, mlflow_server
from tiny_registry import NAMES

from ltdiff.registry import client as registry_client
from ltdiff.registry.live_run import LiveRun
from ltdiff.registry.register import register_model
from ltdiff.registry.versions import download, export_model, list_models, read_run, set_champion


@pytest.fixture
def hanging():
    with hanging_server() as uri:
        yield uri


def test_a_server_that_is_down_costs_seconds_and_one_warning(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        server = f"http://reader:secret@127.0.0.1:{taken.getsockname()[1]}"
        assert log(tmp_path, "down", tracking_uri=server) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "run joint was not logged" in caplog.text
    assert "secret" not in caplog.text
    record = json.loads((tmp_path / "unlogged-joint.json").read_text())
    assert record["metrics"] == [["loss", 2.0, 1], ["loss", 1.5, 2], ["ccc", 0.98, 0]]
    assert record["parameters"]["bridge.kappa"] == "0.1"


def test_a_server_that_hangs_is_given_up(tmp_path, caplog, monkeypatch, hanging):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # a user's setting counts
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", hanging)
    assert log(tmp_path, "hangs") is None
    assert register_model(write_model(tmp_path / "model"), run_id="any", out=tmp_path) is None
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text
    with pytest.raises(ValueError, match=r"models:/ltdiff@champion cannot be loaded"):
        download("models:/ltdiff@champion", out_dir=tmp_path)


def test_no_backend_holds_up_a_run_for_longer_than_the_limit(tmp_path, caplog, monkeypatch, hanging):
    monkeypatch.setattr(registry_client, "MAX_DELAY_S", 1.0)
    assert log(tmp_path, "slow", tracking_uri=hanging) is None
    assert "no answer within 1 s" in caplog.text


def test_a_damaged_database_costs_one_warning(tmp_path, caplog):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    assert log(tmp_path, "damaged") is None
    assert "file is not a database" in caplog.text
    assert (tmp_path / "unlogged-joint.json").is_file()
    with pytest.raises(ValueError, match=r"models:/ltdiff/1 cannot be loaded: .*file is not a database"):
        download("models:/ltdiff/1", out_dir=tmp_path, tracking_uri=uri_of(tmp_path))


def test_importing_takes_no_mlflow_and_logging_prints_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ltdiff.registry.runs import RunFacts, log_run\n"
        "assert 'mlflow' not in sys.modules\n"
        "facts = RunFacts('quiet', 'k', 'd', {})\n"
        f"run_id = log_run(facts, out=Path({str(tmp_path)!r}), metrics={{'ccc': 1.0}})\n"
        "assert run_id\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_real_server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")  # a busy machine is no failure
    monkeypatch.setattr(registry_client, "MAX_DELAY_S", 200.0)
    with mlflow_server(tmp_path, port=free_port()) as (uri, _):
        model = write_model(tmp_path / "model")
        live_run = LiveRun(facts("served"), read_history=lambda: [{"step": 1, "loss": 2.0, "time": 1.7e9}], tracking_uri=uri)
        live_run.update("RUNNING")
        assert not live_run.is_down
        with registry_client.open_client(uri) as client:
            assert client.get_run(live_run.run.info.run_id).info.status == "RUNNING"
        run_id = log(tmp_path, "served", tracking_uri=uri)
        assert run_id == live_run.run.info.run_id
        assert register_model(model, run_id=run_id, out=tmp_path, tracking_uri=uri) == dict.fromkeys(NAMES, 1)
        assert register_model(model, run_id=run_id, out=tmp_path, tracking_uri=uri) == dict.fromkeys(NAMES, 1)
        page = urllib.request.urlopen(f"{uri}/model-versions/get-artifact?path=MLmodel&name=ltdiff-ddpm&version=1").read()
        assert b"z_t_0" in page  # so MLflow's pages show the signature
        folder = download("models:/ltdiff@champion", out_dir=tmp_path / "cache", tracking_uri=uri)
        assert (folder / "model.json").read_bytes() == (model / "model.json").read_bytes()
        run_id = log(tmp_path, "served-too", tracking_uri=uri)
        better = write_model(tmp_path / "better", value=2.0)
        assert register_model(better, run_id=run_id, out=tmp_path, tracking_uri=uri) == dict.fromkeys(NAMES, 2)
        newest, oldest = list_models(uri)
        assert (newest.number, newest.aliases, oldest.aliases) == (2, ("candidate",), ("champion",))
        assert newest.data_fingerprint == "d" * 64
        set_champion(newest, record={"replaced": 1}, tracking_uri=uri)
        assert list_models(uri)[0].aliases == ("candidate", "champion")
        assert read_run(newest, uri)[1]["ccc"] == 0.98
        export_model(str(newest.number), out=tmp_path / "exported", tracking_uri=uri)
        assert (tmp_path / "exported" / "model.json").read_bytes() == (better / "model.json").read_bytes()
