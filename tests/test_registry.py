"""Runs and models really logged in MLflow's SQLite store, and the faults that must not end a training."""

import hashlib
import json
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from mlflow_servers import free_port, hanging_server, mlflow_server
from safetensors.numpy import load_file, save_file

from ltdiff.model.ltdiff import LTDiff, ModelConfig, load_model, save_model, weights_sha256
from ltdiff.registry import client as registry_client
from ltdiff.registry import (
    code_version,
    download,
    export_model,
    list_models,
    log_run,
    read_run,
    register_model,
    set_champion,
)
from ltdiff.registry import models as registry_models

WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "decoder.safetensors")
NAMES = ("ltdiff-encoder", "ltdiff-ddpm", "ltdiff-decoder", "ltdiff")


@pytest.fixture(scope="module", autouse=True)
def no_tracking_uri():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """One run folder for most tests: making MLflow's database takes seconds."""
    return tmp_path_factory.mktemp("run folder")  # with a space in its name


@pytest.fixture
def mlflow_client(out):
    with registry_client.open_client(uri_of(out)) as client:
        yield client


def uri_of(out: Path) -> str:
    return f"sqlite:///{out}/mlflow.db"


def log(out: Path, run_key: str, **changes) -> str | None:
    arguments = {
        "out": out,
        "run_key": run_key,
        "data_fingerprint": "d" * 64,
        "parameters": {"seed": 7, "bridge": {"kappa": 0.1, "steps": [1, 4]}, "data": Path("/archive/DOE^JANE")},
        "metrics": {"ccc": 0.98},
        "history": [{"step": 1, "loss": 2.0, "phase": "joint"}, {"step": 2, "loss": 1.5}],
    }
    return log_run("joint", **(arguments | changes))


def write_model(folder: Path, *, value: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    for name in WEIGHTS:
        save_file({"weight": np.full(4, value, np.float32)}, folder / name)
    describe(folder)
    return folder


def describe(folder: Path, **extra: str) -> None:
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in WEIGHTS} | extra
    (folder / "model.json").write_text(json.dumps({"format_version": 2, "kernel_match": [1.0, 0.5], "files": files}))


def fail(*args):
    raise ConnectionError("gone")


def stored(client, name: str, version: int) -> Path:
    """Where the files of a registered version lie."""
    source = client.get_model_version(name, str(version)).source
    run_id, path = re.fullmatch(r"runs:/(\w+)/(.+)", source).groups()
    return Path(urllib.request.url2pathname(client.get_run(run_id).info.artifact_uri.removeprefix("file://")), path)


# --- runs


def test_log_run_keeps_settings_figures_data_and_code(out, mlflow_client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    (results / "ccc.csv").write_text("method\n")
    before = dict(os.environ)
    run_id = log(out, "everything", artifacts=results)
    assert dict(os.environ) == before
    run = mlflow_client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "bridge.kappa": "0.1", "bridge.steps": "[1, 4]"}
    assert run.data.metrics == {"ccc": 0.98, "loss": 1.5}
    assert [(m.step, m.value) for m in mlflow_client.get_metric_history(run_id, "loss")] == [(1, 2.0), (2, 1.5)]
    assert run.data.tags["ltdiff.data_fingerprint"] == "d" * 64
    assert run.data.tags["ltdiff.version"] == code_version()["version"]
    assert Path(urllib.request.url2pathname(run.info.artifact_uri.removeprefix("file://"))).is_relative_to(out)
    assert [f.path for f in mlflow_client.list_artifacts(run_id, "results")] == ["results/ccc.csv"]
    assert list(tmp_path.iterdir()) == [results]  # nothing in the current folder


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
    with pytest.raises(ValueError, match=r"absent is no folder of results"):
        log(out, "no-results", artifacts=out / "absent")


def test_a_run_may_have_any_name(tmp_path):
    """A run is named after its folder."""
    arguments = {"out": tmp_path, "run_key": "k", "data_fingerprint": "d", "parameters": {}, "metrics": {}}
    assert log_run("kappa = 0.2", tracking_uri="http://127.0.0.1:9", **arguments) is None
    assert [path.name for path in tmp_path.iterdir()] == ["unlogged-kappa___0.2.json"]
    assert log_run("kappa = 0.2", **arguments)
    with registry_client.open_client(uri_of(tmp_path)) as client:
        assert client.search_runs(["1"])[0].info.run_name == "kappa = 0.2"


def test_code_version_has_the_revision_of_an_image(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no git there
    monkeypatch.setenv("LTDIFF_REVISION", "4129535a0c")
    assert code_version()["git_revision"] == "4129535a0c"


def test_code_version_has_the_revision_of_a_checkout():
    version = code_version()
    if not (Path(registry_client.__file__).parents[2] / ".git").exists():
        pytest.skip("not a git checkout")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", version["git_revision"])


# --- models


def test_registered_model_comes_back_whole_and_in_parts(out, mlflow_client, tmp_path):
    model = write_model(tmp_path / "model")
    (model / "optimizer.pkl").write_bytes(pickle.dumps({"not": "registered"}))
    run_id = log(out, "registered")
    versions = register_model(model, run_id=run_id, out=out)
    assert list(versions) == list(NAMES)
    for name in NAMES:
        candidate = mlflow_client.get_model_version_by_alias(name, "candidate")
        assert (candidate.version, candidate.run_id) == (versions[name], run_id)
    whole = download("models:/ltdiff@candidate", out_dir=tmp_path / "cache", tracking_uri=uri_of(out))
    assert whole.parent == tmp_path / "cache"
    assert whole.name.startswith(f"ltdiff-{versions['ltdiff']}-")
    assert sorted(path.name for path in whole.iterdir()) == sorted([*WEIGHTS, "model.json"])
    assert (whole / "model.json").read_bytes() == (model / "model.json").read_bytes()
    part = download(f"models:/ltdiff-ddpm/{versions['ltdiff-ddpm']}", out_dir=tmp_path, tracking_uri=uri_of(out))
    assert sorted(path.name for path in part.iterdir()) == ["denoiser.safetensors", "model.json"]
    assert json.loads((part / "model.json").read_text())["kernel_match"] == [1.0, 0.5]
    np.testing.assert_array_equal(load_file(part / "denoiser.safetensors")["weight"], np.ones(4, np.float32))


def test_the_calibration_comes_with_the_whole(out, mlflow_client, tmp_path):
    model = write_model(tmp_path / "model", value=5.0)
    (model / "spread.json").write_text('{"output": "sample"}')
    versions = register_model(model, run_id=log(out, "calibrated"), out=out)
    fetched = tmp_path / "cache"
    whole = download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=fetched, tracking_uri=uri_of(out))
    assert (whole / "spread.json").read_text() == '{"output": "sample"}'
    part = download(f"models:/ltdiff-ddpm/{versions['ltdiff-ddpm']}", out_dir=tmp_path, tracking_uri=uri_of(out))
    assert not (part / "spread.json").exists()
    (whole / "spread.json").write_text('{"output": "mean"}')  # calibrated anew, here
    assert download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=fetched, tracking_uri=uri_of(out)) == whole
    assert (whole / "spread.json").read_text() == '{"output": "mean"}'
    (stored(mlflow_client, "ltdiff", versions["ltdiff"]) / "spread.json").write_text("{}")
    with pytest.raises(ValueError, match=r"spread.json is not the file that was registered"):
        download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=tmp_path / "other", tracking_uri=uri_of(out))


def test_a_saved_model_is_the_same_after_the_registry(out, tmp_path):
    model = LTDiff(ModelConfig())
    save_model(model, tmp_path / "model", about={"process": "bridge"})
    run_id = log(out, weights_sha256(tmp_path / "model"))
    version = register_model(tmp_path / "model", run_id=run_id, out=out)["ltdiff"]
    loaded, about = load_model(
        download(f"models:/ltdiff/{version}", out_dir=tmp_path / "cache", tracking_uri=uri_of(out))
    )
    assert about == {"process": "bridge"}
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].equal(value), name


def test_registries_may_share_a_folder_of_downloads(out, tmp_path):
    log(out, "before-the-two")
    shutil.copyfile(out / "mlflow.db", tmp_path / "mlflow.db")  # from here on there are two
    versions, folders = [], []
    for place, value in ((out, 6.0), (tmp_path, 7.0)):
        model = write_model(tmp_path / f"model {value}", value=value)
        versions.append(register_model(model, run_id=log(place, f"shared-{value}"), out=place))
        uri = f"models:/ltdiff/{versions[-1]['ltdiff']}"
        folders.append(download(uri, out_dir=tmp_path / "cache", tracking_uri=uri_of(place)))
    assert versions[0] == versions[1]
    assert [load_file(folder / "encoder.safetensors")["weight"][0] for folder in folders] == [6.0, 7.0]


def test_mlflow_itself_loads_the_newest(out, tmp_path, monkeypatch):
    model = write_model(tmp_path / "model", value=2.0)
    register_model(model, run_id=log(out, "by-mlflow"), out=out)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(out))
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts("models:/ltdiff@candidate", dst_path=str(tmp_path / "by-mlflow")))
    assert load_file(folder / "encoder.safetensors")["weight"][0] == 2.0
    in_place = Path(download_artifacts("models:/ltdiff@candidate"))
    assert (in_place / "model.json").is_file()
    assert download("models:/ltdiff@candidate", out_dir=tmp_path / "cache").is_dir()  # MLflow's own file does no harm


def test_register_model_again_registers_nothing_and_moves_no_alias(out, mlflow_client, tmp_path):
    first = register_model(write_model(tmp_path / "a", value=3.0), run_id=log(out, "run-a"), out=out)
    run_b = log(out, "run-b")
    second = register_model(write_model(tmp_path / "b", value=4.0), run_id=run_b, out=out)
    assert second["ltdiff"] == first["ltdiff"] + 1
    for alias in ("candidate", "champion"):
        mlflow_client.set_registered_model_alias("ltdiff", alias, str(first["ltdiff"]))  # somebody goes back
    assert register_model(tmp_path / "b", run_id=run_b, out=out) == second
    for alias in ("candidate", "champion"):
        assert mlflow_client.get_model_version_by_alias("ltdiff", alias).version == first["ltdiff"]


def test_a_registration_that_is_completed_late_is_no_candidate(tmp_path, monkeypatch):
    """The aliases of the first are missing when the second is registered."""
    first, second = (write_model(tmp_path / name, value=value) for name, value in (("first", 1.0), ("second", 2.0)))
    runs = [log(tmp_path, key) for key in ("first", "second")]
    with monkeypatch.context() as patch:
        patch.setattr(registry_models, "_set_aliases", fail)
        assert register_model(first, run_id=runs[0], out=tmp_path) is None
    register_model(second, run_id=runs[1], out=tmp_path)
    register_model(first, run_id=runs[0], out=tmp_path)
    newest, oldest = list_models(uri_of(tmp_path))
    assert (newest.number, newest.aliases, oldest.aliases) == (2, ("candidate", "champion"), ())


def test_register_model_completes_what_was_cut_off(out, mlflow_client, tmp_path, monkeypatch):
    model, run_id = write_model(tmp_path / "model", value=5.0), log(out, "cut-model")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_registered_model_alias", fail)
        assert register_model(model, run_id=run_id, out=out) is None
    versions = register_model(model, run_id=run_id, out=out)
    for name in NAMES:
        assert mlflow_client.get_model_version_by_alias(name, "candidate").version == versions[name]
        assert len(mlflow_client.search_model_versions(f"name='{name}' and run_id='{run_id}'")) == 1


def test_a_changed_byte_is_found(out, mlflow_client, tmp_path):
    version = register_model(write_model(tmp_path / "model"), run_id=log(out, "flipped"), out=out)["ltdiff"]
    weights = stored(mlflow_client, "ltdiff", version) / "decoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"models:/ltdiff/\d+ cannot be loaded: .*decoder\.safetensors .*sha256"):
        download(f"models:/ltdiff/{version}", out_dir=tmp_path / "cache", tracking_uri=uri_of(out))
    assert list((tmp_path / "cache").iterdir()) == []


def test_changed_weights_with_a_matching_description_are_found(out, mlflow_client, tmp_path):
    version = register_model(write_model(tmp_path / "model"), run_id=log(out, "forged"), out=out)["ltdiff"]
    place = stored(mlflow_client, "ltdiff", version)
    save_file({"weight": np.zeros(4, np.float32)}, place / "decoder.safetensors")
    describe(place)
    with pytest.raises(ValueError, match=r"model\.json is not the file that was registered"):
        download(f"models:/ltdiff/{version}", out_dir=tmp_path / "cache", tracking_uri=uri_of(out))


def test_a_downloaded_folder_is_checked_again(out, tmp_path):
    version = register_model(write_model(tmp_path / "model"), run_id=log(out, "cached"), out=out)["ltdiff"]
    uri = f"models:/ltdiff/{version}"
    folder = download(uri, out_dir=tmp_path, tracking_uri=uri_of(out))
    assert download(uri, out_dir=tmp_path, tracking_uri=uri_of(out)) == folder
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(ValueError, match=r"encoder\.safetensors is missing"):
        download(uri, out_dir=tmp_path, tracking_uri=uri_of(out))


def test_a_planted_pickle_is_not_fetched(out, mlflow_client, tmp_path):
    version = register_model(write_model(tmp_path / "model"), run_id=log(out, "planted"), out=out)["ltdiff"]
    (stored(mlflow_client, "ltdiff", version) / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    folder = download(f"models:/ltdiff/{version}", out_dir=tmp_path / "cache", tracking_uri=uri_of(out))
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"../model/encoder.safetensors": "0"}, "no safetensors file of its folder"),
        ({"start.pkl": "0"}, "no safetensors file of its folder"),
        ({"absent.safetensors": "0"}, "absent.safetensors is missing"),
        ({"encoder.safetensors": "0"}, "sha256 differs"),
    ],
)
def test_register_model_refuses_a_folder_that_is_not_what_it_lists(out, tmp_path, extra, message):
    model = write_model(tmp_path / "model")
    describe(model, **extra)
    with pytest.raises(ValueError, match=message):
        register_model(model, run_id="any", out=out)


def test_register_model_refuses_half_a_model(out, tmp_path):
    model = write_model(tmp_path / "model")
    (model / "model.json").write_text('{"files": {}}')
    with pytest.raises(ValueError, match=r"does not list decoder\.safetensors, denoiser"):
        register_model(model, run_id="any", out=out)
    (model / "model.json").write_text("[]")
    with pytest.raises(ValueError, match=r"model\.json does not describe"):
        register_model(model, run_id="any", out=out)


@pytest.mark.parametrize("uri", ["ltdiff", "models:/ltdiff", "models:/../x@champion", "runs:/0/model"])
def test_download_refuses_what_names_no_model(uri, tmp_path):
    with pytest.raises(ValueError, match="names no registered model"):
        download(uri, out_dir=tmp_path)


def test_download_says_what_is_not_there(out, tmp_path):
    with pytest.raises(ValueError, match="set MLFLOW_TRACKING_URI to the registry"):
        download("models:/ltdiff@champion", out_dir=tmp_path)
    with pytest.raises(ValueError, match=f"no registry at {tmp_path}/mlflow.db"):
        download("models:/ltdiff@champion", out_dir=tmp_path, tracking_uri=uri_of(tmp_path))
    assert list(tmp_path.iterdir()) == []
    log(out, "there")
    with pytest.raises(ValueError, match=r"models:/unknown@champion cannot be loaded: .*unknown"):
        download("models:/unknown@champion", out_dir=tmp_path, tracking_uri=uri_of(out))


# --- MLflow in trouble


@pytest.fixture
def hanging():
    with hanging_server() as uri:
        yield uri


def test_a_server_that_is_down_costs_seconds_and_one_warning(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        server = f"http://reader:secret@127.0.0.1:{taken.getsockname()[1]}"
        start = time.monotonic()
        assert log(tmp_path, "down", tracking_uri=server) is None
        assert time.monotonic() - start < 30
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
    start = time.monotonic()
    assert log(tmp_path, "hangs") is None
    assert register_model(write_model(tmp_path / "model"), run_id="any", out=tmp_path) is None
    assert time.monotonic() - start < 30
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text
    with pytest.raises(ValueError, match=r"models:/ltdiff@champion cannot be loaded"):
        download("models:/ltdiff@champion", out_dir=tmp_path)


def test_no_backend_holds_up_a_run_for_longer_than_the_limit(tmp_path, caplog, monkeypatch, hanging):
    monkeypatch.setattr(registry_client, "MAX_DELAY_S", 1.0)
    start = time.monotonic()
    assert log(tmp_path, "slow", tracking_uri=hanging) is None
    assert time.monotonic() - start < 8
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
        "import sys; from pathlib import Path; from ltdiff.registry import log_run\n"
        "assert 'mlflow' not in sys.modules\n"
        f"run_id = log_run('quiet', out=Path({str(tmp_path)!r}), run_key='k', data_fingerprint='d', parameters={{}},"
        "metrics={'ccc': 1.0})\n"
        "assert run_id\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_real_server(tmp_path):
    with mlflow_server(tmp_path, port=free_port()) as (uri, _):
        model = write_model(tmp_path / "model")
        run_id = log(tmp_path, "served", tracking_uri=uri)
        assert register_model(model, run_id=run_id, out=tmp_path, tracking_uri=uri) == dict.fromkeys(NAMES, 1)
        assert register_model(model, run_id=run_id, out=tmp_path, tracking_uri=uri) == dict.fromkeys(NAMES, 1)
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
        export_model(newest, out=tmp_path / "exported", tracking_uri=uri)
        assert (tmp_path / "exported" / "model.json").read_bytes() == (better / "model.json").read_bytes()
