"""Checkpoints: a run goes on from one exactly where it was, and never from a damaged one."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ltdiff.training.checkpoint import META_FILE, load_checkpoint, save_checkpoint


def _make_state(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    module[2].requires_grad_(False)  # a phase trains some of its parts only
    parameters = [p for p in module.parameters() if p.requires_grad]
    return {
        "module": module.to(memory_format=torch.channels_last),
        "averaged": AveragedModel(module),
        "optimizer": torch.optim.AdamW(parameters, lr=0.01),
    }


def _take_steps(state, count):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        state["optimizer"].zero_grad()
        state["module"](torch.randn(4, 1, 8, 8, generator=generator)).square().mean().backward()
        state["optimizer"].step()
        state["averaged"].update_parameters(state["module"])


def _assert_same(a, b):
    for name in ("module", "averaged"):
        torch.testing.assert_close(a[name].state_dict(), b[name].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        a["optimizer"].state_dict()["state"], b["optimizer"].state_dict()["state"], rtol=0, atol=0
    )


@pytest.fixture
def saved(tmp_path):
    """A checkpoint after three steps, and the state that is in it."""
    state = _make_state(0)
    _take_steps(state, 3)
    save_checkpoint(tmp_path, step=3, elapsed_s=1.25, **state)
    return tmp_path, state


def test_everything_comes_back_bit_by_bit(saved):
    folder, state = saved
    restored = _make_state(1)
    assert load_checkpoint(folder, **restored) == (3, 1.25)
    _assert_same(restored, state)
    assert restored["averaged"].n_averaged == 3


def test_training_goes_on_as_if_it_had_never_stopped(saved):
    folder, state = saved
    restored = _make_state(1)
    load_checkpoint(folder, **restored)
    for each in (state, restored):
        _take_steps(each, 2)
    _assert_same(restored, state)


def test_a_checkpoint_before_the_first_step(tmp_path):
    state = _make_state(0)
    save_checkpoint(tmp_path, step=0, elapsed_s=0.0, **state)
    assert load_checkpoint(tmp_path, **_make_state(1)) == (0, 0.0)


def test_a_checkpoint_is_safetensors_and_json_alone(saved):
    names = {"weights.safetensors", "averaged.safetensors", "optimizer.safetensors", META_FILE}
    assert {path.name for path in saved[0].iterdir()} == names


@pytest.mark.parametrize("name", ["weights", "averaged", "optimizer"])
@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing", "pickle"])
def test_a_damaged_file_is_refused_and_nothing_is_changed(saved, name, fault):
    folder, _ = saved
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    faulty = {"flipped": content, "truncated": content[:-10], "pickle": pickle.dumps({"weights": 1})}
    path.unlink()
    if fault in faulty:
        path.write_bytes(faulty[fault])
    restored, before = _make_state(1), _make_state(1)
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is missing or damaged"):
        load_checkpoint(folder, **restored)
    _assert_same(restored, before)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"'])
def test_a_broken_description_is_refused(saved, content):
    (saved[0] / META_FILE).write_text(content)
    with pytest.raises(ValueError, match=saved[0].name):
        load_checkpoint(saved[0], **_make_state(1))


@pytest.mark.parametrize("version", [1, 2, None])  # 1: before checkpoints knew how long they took
def test_another_format_version_is_refused(saved, version):
    path = saved[0] / META_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(ValueError, match=f"format version {version}; this ltdiff reads 3"):
        load_checkpoint(saved[0], **_make_state(1))


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        load_checkpoint(Path(tmp_path), **_make_state(1))
