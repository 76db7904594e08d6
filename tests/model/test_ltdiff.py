"""The composed model: what is saved is loaded bit by bit, and nothing that was tampered with is."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from ltdiff.model.config import ModelConfig
from ltdiff.model.ltdiff import LTDiff, load_model, save_model
from ltdiff.model.model_folder import DESCRIPTION_FILE, weights_sha256

ABOUT = {"trained": {}, "seed": 3}


@pytest.fixture
def folder(model, tmp_path):
    model.scaling.mean_0.fill_(0.1)
    model.kernel_match.gains *= torch.linspace(1, 0.1, len(model.kernel_match.gains)).double() ** 0.5
    save_model(model, tmp_path / "model", about=ABOUT)
    return tmp_path / "model"


def _edit_description(folder, **changes):
    path = folder / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("encoder_skips", [False, True])
def test_saved_and_loaded_bit_by_bit(make_model, tmp_path, image, encoder_skips):
    model = make_model(encoder_skips=encoder_skips, scale=4)
    save_model(model, tmp_path / "model", about=ABOUT)
    loaded, about = load_model(tmp_path / "model")
    assert about == ABOUT
    assert loaded.config == model.config
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(loaded.decode(*loaded.encode(image))[-1], model.decode(*model.encode(image))[-1])


def test_channels_last_weights_are_saved_too(model, tmp_path):
    save_model(model.to(memory_format=torch.channels_last), tmp_path / "model", about=ABOUT)
    loaded, _ = load_model(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_a_model_folder_holds_safetensors_and_json_alone(folder):
    names = {"encoder.safetensors", "denoiser.safetensors", "decoder.safetensors", DESCRIPTION_FILE}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == ["model"]  # no partial folder is left


def test_saving_over_a_model_is_refused_and_leaves_it_alone(folder, make_model):
    before = weights_sha256(folder)
    with pytest.raises(OSError, match="not empty"):
        save_model(make_model(scale=1), folder, about=ABOUT)
    assert weights_sha256(folder) == before


def test_an_unfinished_save_is_taken_up_again(model, tmp_path):
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "encoder.safetensors").write_bytes(b"torn")
    save_model(model, tmp_path / "model", about=ABOUT)
    load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["encoder", "denoiser", "decoder"])
@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing"])
def test_damaged_weights_are_refused(folder, name, fault):
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if fault == "flipped" else content[:-10])
    if fault == "missing":
        path.unlink()
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is missing or damaged"):
        load_model(folder)


class _Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_planted_pickle_is_never_run(folder, tmp_path):
    sprung = tmp_path / "sprung"
    planted = pickle.dumps(_Planted(sprung))
    for name in ("encoder.pt", "model.pkl", "pytorch_model.bin"):
        (folder / name).write_bytes(planted)
    load_model(folder)
    path = folder / "encoder.safetensors"
    path.write_bytes(planted)
    files = json.loads((folder / DESCRIPTION_FILE).read_text())["files"]
    _edit_description(folder, files=files | {path.name: hashlib.sha256(planted).hexdigest()})
    with pytest.raises(ValueError, match="no safetensors file"):
        load_model(folder)
    assert not sprung.exists()
    pickle.loads(planted)
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize("kernel_match", [True, False])
def test_kernel_match_can_be_left_out(kernel_match):
    model = LTDiff(ModelConfig(kernel_match=kernel_match))
    model.kernel_match.gains.fill_(0.5)
    hu = torch.full((1, 8, 8), -500, dtype=torch.int16)
    matched = model.match_kernel(hu, (0.7, 0.7))
    assert matched.dtype == torch.float32
    torch.testing.assert_close(matched, torch.full((1, 8, 8), -250.0 if kernel_match else -500.0))


def test_decoding_inverts_the_latent_scaling(model, image):
    raw, features = model.encoder(image)
    model.scaling.track(raw)
    torch.testing.assert_close(model.decode(*model.encode(image))[-1], model.decoder(raw, features)[-1])
