"""Checkpoints: a run goes on from one exactly where it was, and never from a damaged one."""

import json
import math
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_disk import fill, small_disk
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ltdiff.training.checkpoint import META_FILE, find_checkpoint, keep_checkpoint, load_best, load_checkpoint, save_checkpoint


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
    torch.testing.assert_close(a["optimizer"].state_dict()["state"], b["optimizer"].state_dict()["state"], rtol=0, atol=0)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint after three steps, and the state that is in it."""
    state = _make_state(0)
    _take_steps(state, 3)
    save_checkpoint(tmp_path, step=3, elapsed_s=1.25, metrics={}, **state)
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
    save_checkpoint(tmp_path, step=0, elapsed_s=0.0, metrics={}, **state)
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


@pytest.mark.parametrize("version", [1, 3, None])  # 3: before checkpoints knew their metrics
def test_another_format_version_is_refused(saved, version):
    path = saved[0] / META_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(ValueError, match=f"format version {version}; this ltdiff reads 4"):
        load_checkpoint(saved[0], **_make_state(1))


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        load_checkpoint(Path(tmp_path), **_make_state(1))


# --- the checkpoints of a phase --------------------------------------------------------------------------------------


@pytest.fixture
def keep(tmp_path):
    """Keeps a checkpoint of a step among the others of a phase; returns the folder of all."""
    state, among = _make_state(0), tmp_path / "phase" / "checkpoints"

    def keep_one(step, **metrics):
        made = tmp_path / "made"
        made.mkdir()
        save_checkpoint(made, step=step, elapsed_s=float(step), metrics={"step": step, **metrics}, **state)
        keep_checkpoint(made, among=among)
        shutil.rmtree(made)
        return among

    return keep_one


def _damage(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def test_there_is_none_at_first(tmp_path):
    assert find_checkpoint(tmp_path / "checkpoints") is None


def test_the_newest_two_are_kept_and_the_newest_is_found(keep):
    for step in (5, 10, 200):
        among = keep(step)
    assert sorted(path.name for path in among.iterdir()) == ["step_00000010", "step_00000200"]
    assert load_checkpoint(find_checkpoint(among), **_make_state(1)) == (200, 200.0)


def test_the_best_is_kept_beside_the_newest_two_and_its_average_is_the_result(keep):
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5), (4, math.nan), (5, 0.3 + 1e-9)):
        among = keep(step, val_loss=loss)
    assert sorted(path.name for path in among.iterdir()) == ["step_00000002", "step_00000004", "step_00000005"]
    assert find_checkpoint(among).name == "step_00000005"
    module = _make_state(1)["module"]
    assert load_best(among, module) == {"step": 2, "val_loss": 0.3}
    expected = _make_state(1)
    load_checkpoint(among / "step_00000002", **expected)
    torch.testing.assert_close(module.state_dict(), expected["averaged"].module.state_dict(), rtol=0, atol=0)


def test_without_validation_the_newest_is_the_best(keep):
    keep(5)
    assert load_best(keep(10), _make_state(1)["module"]) == {"step": 10}


def test_a_damaged_best_is_named_and_the_next_best_is_the_result(keep, caplog):
    keep(5, val_loss=0.1)
    keep(10, val_loss=0.3)
    among = keep(15, val_loss=0.2)
    _damage(among / "step_00000005")
    assert load_best(among, _make_state(1)["module"]) == {"step": 15, "val_loss": 0.2}
    assert "step_00000005/weights.safetensors is missing or damaged" in caplog.text
    for folder in among.iterdir():
        _damage(folder)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be used"):
        load_best(among, _make_state(1)["module"])


def test_a_damaged_one_is_named_and_the_one_before_is_found(keep, caplog):
    keep(5)
    among = keep(10)
    _damage(among / "step_00000010")
    assert find_checkpoint(among) == among / "step_00000005"
    assert "step_00000010/weights.safetensors is missing or damaged" in caplog.text
    keep(10)  # written again
    assert find_checkpoint(among) == among / "step_00000010"


def test_where_all_are_damaged_none_is_made_up(keep):
    keep(5)
    among = keep(10)
    for folder in among.iterdir():
        _damage(folder)
    with pytest.raises(ValueError, match=r"no checkpoint in .*checkpoints can be used: .*damaged.*remove the folder"):
        find_checkpoint(among)


def test_one_of_another_format_is_named(keep):
    among = keep(5)
    meta = among / "step_00000005" / META_FILE
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format_version": 1}))
    with pytest.raises(ValueError, match="format version 1; this ltdiff reads 4"):
        find_checkpoint(among)


KEEP_MANY = """
import sys
from pathlib import Path
from ltdiff.training.checkpoint import keep_checkpoint
import json
made, among = Path(sys.argv[1]), Path(sys.argv[2])
meta = json.loads((made / "meta.json").read_text())
for step in range(1, 100_000):
    (made / "meta.json").write_text(json.dumps(meta | {"step": step}))
    keep_checkpoint(made, among=among)
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.007, 0.011, 0.02, 0.05])
def test_killed_at_any_moment_the_old_or_the_new_one_is_there(saved, tmp_path_factory, delay_s):
    among = tmp_path_factory.mktemp("phase") / "checkpoints"
    command = [sys.executable, "-c", KEEP_MANY, str(saved[0]), str(among)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        last = int(("1\n" + process.stdout.read()).split()[-1])
    step, _ = load_checkpoint(find_checkpoint(among), **_make_state(1))
    assert step in (last, last + 1)


def test_with_no_space_left_the_old_one_stays_and_the_next_is_written_once_there_is(keep, tmp_path):
    made = shutil.copytree(keep(5) / "step_00000005", tmp_path / "copy")
    size_kb = 2 * sum(path.stat().st_size for path in made.iterdir()) // 1024 + 40
    with small_disk(tmp_path / "disk", size_kb=size_kb) as disk:
        keep_checkpoint(made, among=disk / "checkpoints")
        ballast = fill(disk)
        meta = json.loads((made / META_FILE).read_text())
        (made / META_FILE).write_text(json.dumps(meta | {"step": 10}))
        with pytest.raises(OSError, match="No space left"):
            keep_checkpoint(made, among=disk / "checkpoints")
        assert [path.name for path in (disk / "checkpoints").iterdir()] == ["step_00000005"]
        assert find_checkpoint(disk / "checkpoints").name == "step_00000005"
        ballast.unlink()
        keep_checkpoint(made, among=disk / "checkpoints")
        assert find_checkpoint(disk / "checkpoints").name == "step_00000010"
