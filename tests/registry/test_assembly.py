"""`ltdiff models assemble`: registered parts load alone, and make the registered whole again, or are refused with the reason."""

import pytest
import torch
from tiny_registry import record
from tiny_run import one_thread  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.model.ltdiff import PARTS, load_model, load_part
from ltdiff.registry.register import PARTS as REGISTERED
from ltdiff.registry.versions import download


def assemble(out, **parts: str) -> int:
    options = [word for name, reference in parts.items() for word in (f"--{name}", reference)]
    return run_ltdiff(["models", "assemble", "--out", str(out), *options])


@pytest.mark.parametrize(("name", "file"), REGISTERED.items())
def test_each_part_loads_alone(client, tmp_path, name, file):
    whole, about = load_model(record(tmp_path / "run"))
    folder = download(f"models:/{name}@champion", out_dir=tmp_path)
    part, about_part = load_part(folder)
    assert tuple(part) == PARTS[file.removesuffix(".safetensors")]
    assert about_part == about
    assert not part.training
    for key, value in part.state_dict().items():
        assert value.equal(whole.state_dict()[key]), key
    with pytest.raises(ValueError, match=f"holds a part of a model alone, {file}: load_part loads it"):
        load_model(folder)


def test_parts_that_are_loaded_alone_do_what_they_do_in_the_whole(client, tmp_path):
    whole, _ = load_model(record(tmp_path / "run"))
    encoder, ddpm, decoder = (load_part(download(f"models:/{name}@champion", out_dir=tmp_path))[0] for name in REGISTERED)
    image, t = torch.randn(1, 1, 16, 16), torch.tensor([0.5])
    with torch.no_grad():
        latents, features = whole.eval().encode(image)
        own, own_features = encoder["encoder"](image)
        own = encoder["scaling"].apply_scaling(own)
        moved = ddpm["denoiser"](own, own, t)
        images = decoder["decoder"](encoder["scaling"].inverse(moved), own_features)
        expected = whole.decode(whole.denoise(latents, latents, t), features)
    assert images[-1].equal(expected[-1])


def test_a_whole_model_is_no_part(client, tmp_path):
    with pytest.raises(ValueError, match="not those of one part of a model"):
        load_part(record(tmp_path / "run"))


def test_the_parts_make_the_same_bytes_as_the_whole(client, tmp_path, capsys):
    record(tmp_path / "other", glcm=0.8, seed=1)
    model = record(tmp_path / "run", glcm=0.9)
    assert assemble(tmp_path / "new", encoder="candidate", ddpm="2", decoder="candidate") == 0
    assert capsys.readouterr().out.endswith("the parts are those of version 2, and the model is equal to it\n")
    for path in model.iterdir():
        assert (tmp_path / "new" / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in model.iterdir()} | {"SHA256SUMS"}


def test_a_model_without_calibration_is_assembled(client, tmp_path):
    model = record(tmp_path / "run")
    assert assemble(tmp_path / "new") == 0
    assert not (tmp_path / "new" / "calibration.json").exists()
    assert (tmp_path / "new" / "model.json").read_bytes() == (model / "model.json").read_bytes()


def test_parts_of_two_models_are_refused(client, tmp_path, capsys):
    record(tmp_path / "first", seed=1)
    record(tmp_path / "second", seed=2)
    assert assemble(tmp_path / "new", encoder="1", ddpm="2", decoder="1") == 1
    error = capsys.readouterr().err
    assert "these parts do not belong together" in error
    assert "ltdiff-encoder 1 is of version 1, ltdiff-ddpm 2 is of version 2, ltdiff-decoder 1 is of version 1" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("reference", ["7", "best"])
def test_a_part_that_is_not_there_is_named(client, tmp_path, capsys, reference):
    record(tmp_path / "run")
    assert assemble(tmp_path / "new", ddpm=reference) == 1
    assert f"there is no part ltdiff-ddpm '{reference}'" in capsys.readouterr().err


def test_what_is_there_is_left_alone(client, tmp_path, capsys):
    model = record(tmp_path / "run")
    assert assemble(model) == 1
    assert "is not an empty folder" in capsys.readouterr().err
