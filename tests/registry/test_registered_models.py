"""Models registered in MLflow's SQLite store and loaded back, whole and verified."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from logged_runs import DESCRIPTION, WEIGHTS, describe, fail, log, stored, uri_of, write_model
from safetensors.numpy import load_file, save_file
from tiny_registry import NAMES

from ltdiff.model.config import ModelConfig
from ltdiff.model.ltdiff import LTDiff, load_model, save_model
from ltdiff.model.model_folder import weights_sha256
from ltdiff.registry import register as registry_models
from ltdiff.registry.register import register_model
from ltdiff.registry.versions import download, list_models


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
    assert json.loads((part / "model.json").read_text())["kernel_match"] == DESCRIPTION["kernel_match"]
    np.testing.assert_array_equal(load_file(part / "denoiser.safetensors")["weight"], np.ones(4, np.float32))


def test_the_calibration_comes_with_the_whole(out, mlflow_client, tmp_path):
    model = write_model(tmp_path / "model", value=5.0)
    calibration = '{"output": "sample", "validation_ccc": {"sample": {"glcm": 0.9}}, "data_fingerprint": "d"}'
    (model / "calibration.json").write_text(calibration)
    versions = register_model(model, run_id=log(out, "calibrated"), out=out)
    fetched = tmp_path / "cache"
    whole = download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=fetched, tracking_uri=uri_of(out))
    assert (whole / "calibration.json").read_text() == calibration
    part = download(f"models:/ltdiff-ddpm/{versions['ltdiff-ddpm']}", out_dir=tmp_path, tracking_uri=uri_of(out))
    assert not (part / "calibration.json").exists()
    assert download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=fetched, tracking_uri=uri_of(out)) == whole
    for changed in (whole, stored(mlflow_client, "ltdiff", versions["ltdiff"])):
        (changed / "calibration.json").write_text('{"output": "mean"}')
        with pytest.raises(ValueError, match=r"calibration.json is not the file that was registered"):
            download(f"models:/ltdiff/{versions['ltdiff']}", out_dir=fetched, tracking_uri=uri_of(out))
        shutil.rmtree(whole, ignore_errors=True)


def test_a_saved_model_is_the_same_after_the_registry(out, tmp_path):
    model = LTDiff(ModelConfig())
    save_model(model, tmp_path / "model", about={"process": "bridge"})
    run_id = log(out, weights_sha256(tmp_path / "model"))
    version = register_model(tmp_path / "model", run_id=run_id, out=out)["ltdiff"]
    loaded, about = load_model(download(f"models:/ltdiff/{version}", out_dir=tmp_path / "cache", tracking_uri=uri_of(out)))
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
    (model / "model.json").write_text(json.dumps(DESCRIPTION | {"files": {}}))
    with pytest.raises(ValueError, match=r"does not list decoder\.safetensors, denoiser"):
        register_model(model, run_id="any", out=out)
    (model / "model.json").write_text("[]")
    with pytest.raises(ValueError, match=r"model\.json has format version None"):
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
