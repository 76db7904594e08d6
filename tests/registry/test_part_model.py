"""Registered parts as MLflow itself loads them: each alone is a network with a signature, and together they are the model."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from logged_runs import stored
from tiny_registry import record
from tiny_run import one_thread, tiny_settings  # noqa: F401

from ltdiff.data.network_inputs import position_mm
from ltdiff.model.config import AutoencoderConfig, ModelConfig
from ltdiff.model.ltdiff import load_model
from ltdiff.registry.part_tensors import part_tensors
from ltdiff.registry.register import PARTS

SIDES = (16, 24)
X = np.random.default_rng(0).normal(size=(2, 1, *SIDES)).astype(np.float32)
T = np.array([0.2, 0.7], np.float32)
SPACINGS_MM = np.array([[0.7, 0.8], [0.5, 0.5]], np.float32)


@pytest.fixture
def folder(client, tmp_path, monkeypatch):
    """Of a registered model whose networks do something: also the layers that begin with zeros."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.init, "zeros_", lambda tensor: tensor)
        return record(tmp_path / "run")


@pytest.fixture
def parts(folder):
    """The three parts, as MLflow loads them."""
    import mlflow

    return [mlflow.pyfunc.load_model(f"models:/{name}@champion") for name in PARTS]


def levels(prefix: str, values) -> dict[str, np.ndarray]:
    return {f"{prefix}_{i}": np.asarray(value) for i, value in enumerate(values)}


def test_the_parts_together_are_the_model(folder, parts):
    encoder, denoiser, decoder = parts
    model = load_model(folder)[0].eval()
    with torch.no_grad():
        latents, _ = model.encode(torch.from_numpy(X))
        moved = model.denoise(latents, latents, torch.from_numpy(T))
        places = torch.from_numpy(np.stack([np.stack(position_mm(SIDES, tuple(map(float, mm)))) for mm in SPACINGS_MM]))
        image = model.decode(moved, position_mm=places)[-1]
    encoded = encoder.predict({"x": X})
    z = [encoded[f"latent_{i}"] for i in range(len(latents))]
    outputs = denoiser.predict({**levels("z_t", z), **levels("source", z), "t": T})
    for i in range(len(z)):
        np.testing.assert_array_equal(z[i], latents[i].numpy())
        np.testing.assert_array_equal(outputs[f"output_{i}"], moved[i].numpy())
    raw = [outputs[f"output_{i}"] * encoded[f"std_{i}"] + encoded[f"mean_{i}"] for i in range(len(z))]
    made = decoder.predict({**levels("raw", raw), "spacing_mm": SPACINGS_MM})
    np.testing.assert_allclose(made["x"], image.numpy(), atol=1e-5)
    assert np.ptp(made["x"]) > 0.01


def test_each_part_says_what_goes_in_and_comes_out(parts):
    for part, name in zip(parts, ("encoder", "denoiser", "decoder"), strict=True):
        signature = part.metadata.signature
        found = [{spec.name: spec.shape for spec in schema} for schema in (signature.inputs, signature.outputs)]
        assert found == list(part_tensors(name, tiny_settings().model))
        assert {str(spec.type) for spec in [*signature.inputs, *signature.outputs]} == {"float32"}


def test_what_comes_out_is_what_the_signature_says(parts):
    encoder, _, _ = parts
    encoded = encoder.predict({"x": X})
    shapes = {spec.name: spec.shape for spec in encoder.metadata.signature.outputs}
    assert {name: len(value.shape) for name, value in encoded.items()} == {name: len(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        assert all(size in (-1, found) for size, found in zip(shape, encoded[name].shape, strict=True)), name


def test_other_inputs_are_refused(parts):
    encoder, denoiser, _ = parts
    with pytest.raises(ValueError, match=r"x has the sides \(16, 23\): they must be multiples of 4"):
        encoder.predict({"x": X[..., :-1]})
    with pytest.raises(Exception, match="missing inputs"):
        denoiser.predict({"t": T})


def test_a_decoder_with_skips_takes_the_features():
    with_skips = ModelConfig(autoencoder=AutoencoderConfig(encoder_skips=True))
    features = {"feature_0", "feature_1", "feature_2"}
    assert features <= part_tensors("decoder", with_skips).inputs.keys()
    assert features.isdisjoint(part_tensors("decoder", ModelConfig()).inputs)


def test_the_files_of_a_part_name_no_folder_and_hold_no_pickle(folder, client, tmp_path):
    for name, weights in PARTS.items():
        place = stored(client, name, 1)
        files = {"MLmodel", "served_part.py", "requirements.txt", "python_env.yaml", "model.json", weights}
        assert {path.name for path in place.iterdir()} == files
        assert str(tmp_path) not in (place / "MLmodel").read_text()


def test_a_changed_byte_of_a_part_is_not_loaded(folder, client):
    import mlflow

    weights = stored(client, "ltdiff-ddpm", 1) / "denoiser.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"denoiser\.safetensors is missing or damaged"):
        mlflow.pyfunc.load_model("models:/ltdiff-ddpm@champion")


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_part_loads_in_a_fresh_process(folder, uri, name):
    program = f"import mlflow; print(mlflow.pyfunc.load_model('models:/{name}@champion').metadata.signature.inputs.input_names())"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True)
    part = PARTS[name].removesuffix(".safetensors")
    assert done.stdout.splitlines()[-1] == str(list(part_tensors(part, tiny_settings().model).inputs))
