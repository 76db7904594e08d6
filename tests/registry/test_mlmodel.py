"""A registered model as MLflow itself loads and serves it: it standardizes slices, and nothing is unpickled."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from logged_runs import stored
from mlflow_servers import free_port, kill, wait_for
from tiny_registry import record
from tiny_run import SPACING_MM, make_volumes, one_thread  # noqa: F401

from ltdiff.inference.standardizer import Standardizer

HU = make_volumes(num_slices=2)[0].astype(np.float32)
SPACINGS_MM = np.array([SPACING_MM[1:]] * len(HU))
URI = "models:/ltdiff@champion"


@pytest.fixture
def no_pickle(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


@pytest.fixture
def loaded(uri, tmp_path, no_pickle):
    """(the registered model as MLflow loads it, the model itself)."""
    import mlflow

    model = record(tmp_path / "run", glcm=0.9)
    return mlflow.pyfunc.load_model(URI), Standardizer.load(model)


def test_it_says_what_goes_in_and_comes_out(loaded):
    signature = loaded[0].metadata.signature
    inputs = {spec.name: (str(spec.type), spec.shape) for spec in signature.inputs}
    assert inputs == {"hu": ("float32", (-1, -1, -1)), "spacing_mm": ("float64", (-1, 2))}
    assert [(str(spec.type), spec.shape) for spec in signature.outputs] == [("float32", (-1, -1, -1))]
    assert [(spec.name, spec.default) for spec in signature.params] == [("first_slice", 0)]


def test_it_standardizes_as_the_model_does(loaded):
    served, standardizer = loaded
    expected = standardizer.standardize(HU, SPACING_MM[1:])
    np.testing.assert_array_equal(served.predict({"hu": HU, "spacing_mm": SPACINGS_MM}), expected)
    one = served.predict({"hu": HU[1:], "spacing_mm": SPACINGS_MM[1:]}, params={"first_slice": 1})
    np.testing.assert_array_equal(one, expected[1:])


def test_each_slice_has_its_own_spacing(loaded):
    served, standardizer = loaded
    result = served.predict({"hu": HU, "spacing_mm": np.array([[0.8, 0.7], [0.5, 0.5]])})
    np.testing.assert_array_equal(result[1:], standardizer.standardize(HU[1:], (0.5, 0.5), first_slice=1))


@pytest.mark.parametrize(
    ("hu", "spacing_mm", "message"),
    [
        (HU, SPACINGS_MM[:1], r"got \(2, 48, 48\) and \(1, 2\)"),
        (HU, -SPACINGS_MM, "values that are not above 0"),
        (HU * np.float32(np.nan), SPACINGS_MM, "slice 0 holds values that are not finite"),
        (HU[0], SPACINGS_MM, "Shape of input"),
    ],
)
def test_other_inputs_are_refused(loaded, hu, spacing_mm, message):
    with pytest.raises(Exception, match=message):
        loaded[0].predict({"hu": hu, "spacing_mm": spacing_mm})


def test_its_files_name_no_folder_and_hold_no_pickle(client, tmp_path):
    record(tmp_path / "run", glcm=0.9)
    place = stored(client, "ltdiff", 1)
    files = {path.name for path in place.iterdir()}
    assert {"MLmodel", "served_model.py", "requirements.txt", "python_env.yaml", "model.json", "calibration.json"} <= files
    assert {path.suffix for path in place.iterdir()} == {"", ".py", ".txt", ".yaml", ".json", ".safetensors"}
    assert str(tmp_path) not in (place / "MLmodel").read_text()


def test_a_changed_byte_is_not_loaded(client, tmp_path):
    import mlflow

    record(tmp_path / "run")
    weights = stored(client, "ltdiff", 1) / "decoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"decoder\.safetensors is missing or damaged"):
        mlflow.pyfunc.load_model(URI)


@pytest.mark.slow
def test_it_is_served_over_http(uri, tmp_path, no_pickle):
    expected = Standardizer.load(record(tmp_path / "run", glcm=0.9)).standardize(HU[:1], SPACING_MM[1:])
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", URI, "--env-manager", "local", "--port", str(port)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
    try:
        wait_for(f"{address}/ping")
        result = predict(address, {"hu": HU[:1].tolist(), "spacing_mm": SPACINGS_MM[:1].tolist()})
    finally:
        kill(server)
    np.testing.assert_array_equal(np.array(result, np.float32), expected)


def predict(address: str, inputs: dict[str, list]) -> list:
    body, header = json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/invocations", body, header), timeout=120) as answer:
        return json.load(answer)["predictions"]
