"""`ltdiff models`: what is registered, shown and exported; an exported model needs no registry and shows a changed byte."""

import json
import os
import pickle
import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tiny_registry import PAIRS, record
from tiny_run import one_thread  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import SUMS_FILE, weights_sha256, write_calibration, write_sums
from ltdiff.registry.runs import code_version

FILES = ("calibration.json", "decoder.safetensors", "denoiser.safetensors", "encoder.safetensors", "model.json")
HU = np.full((1, 48, 48), -700, np.float32) + np.arange(48, dtype=np.float32)


def models(*arguments: str) -> int:
    return run_ltdiff(["models", *arguments])


def flip(path: Path) -> None:
    """Change a digit of a text, or the last byte of anything else; the text stays JSON."""
    data = bytearray(path.read_bytes())
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    place = digits[-1] if path.suffix == ".json" else len(data) - 1
    data[place] ^= 1
    path.write_bytes(data)


def stored(client, version: str) -> Path:
    """Where the files of a version of the whole lie."""
    place = client.get_model_version_download_uri("ltdiff", version).removeprefix("runs:/")
    run_id, path = place.split("/", 1)
    return Path(urllib.request.url2pathname(client.get_run(run_id).info.artifact_uri.removeprefix("file://")), path)


class Trap:
    """Pickled, it leaves a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_an_empty_registry_is_no_error(uri, capsys):
    assert models("list") == 0
    assert capsys.readouterr().out == "no model is registered\n"


def test_the_list_has_the_newest_first(client, tmp_path, capsys):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", seed=1, pairs="1e5" + "0" * 61)
    assert models("list") == 0
    header, _, newest, oldest = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    registered = "registered (UTC)"
    assert header == ["version", "aliases", "kernels", registered, "CCC", "firstorder", "glcm", "data", "code", "run"]
    revision = code_version().get("git_revision", "")
    code = re.sub(r"^(.{10})[^-]*", r"\1", revision)
    assert newest[:3] + newest[4:] == ["2", "candidate", "", "", "", "", "1e50000000", code, "second"]
    assert oldest[:3] + oldest[4:] == ["1", "champion", "", "0.9450", "0.9900", "0.9000", PAIRS[:10], code, "first"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", newest[3])


def test_a_version_is_shown_with_all_that_it_is_tied_to(client, tmp_path, capsys):
    folder = record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", glcm=0.95, seed=1)
    assert models("promote", "candidate") == 0
    capsys.readouterr()
    assert models("show", "champion") == 0
    shown = capsys.readouterr().out
    for pattern in (
        r"version +2\n",
        r"aliases +candidate, champion\n",
        r"run +second \([0-9a-f]{32}\)\n",
        rf"validation +CCC 0\.9700 \(firstorder 0\.9900, glcm 0\.9500\) of the mean, pairs {PAIRS}\n",
        rf"data +{PAIRS}\n",
        rf"code +ltdiff {code_version()['version']}",
        r"parts +ltdiff-encoder 2, ltdiff-ddpm 2, ltdiff-decoder 2\n",
        r"promoted \S+ +in place of version 1; CCC 0\.9700 \(.*\) against 0\.9450 \(.*\), on record for the pairs a{10}\n",
        r"metrics\njoint\.loss +0\.25\nvalidation_ccc +0\.97\nvalidation_ccc\.firstorder +0\.99\n",
        r"settings\ndiffusion\.kappa +0\.1\n",
    ):
        assert re.search(pattern, shown), pattern
    assert models("show", "1") == 0
    described = json.loads((folder / "model.json").read_text())
    assert described["files"]
    sha256 = re.search(r"sha256 +([0-9a-f]{64})\n", capsys.readouterr().out)[1]
    assert client.get_model_version("ltdiff", "1").tags["ltdiff.model_sha256"] == sha256


def test_what_is_not_there_is_one_sentence(client, tmp_path, capsys, monkeypatch):
    record(tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    for arguments, sentence in (
        (["show", "7"], "there is no model '7'; the versions are 1, the aliases candidate, champion"),
        (["show", "best"], "there is no model 'best'; the versions are 1, the aliases candidate, champion"),
        (["promote", "0"], "there is no model '0'"),
        (["export", "2", "--out", "there"], "there is no model '2'"),
        (["export", "1", "--out", "first"], "first is not an empty folder"),
        (["export", "1", "--out", "first/run.json"], "run.json is not an empty folder"),
        (["list", "--tracking_uri", "sqlite:///absent.db"], "cannot be read: there is no registry at absent.db"),
        (["list", "--tracking_uri", "nonsense"], "the registered models cannot be read: "),
    ):
        assert models(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ltdiff: ")
        assert sentence in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "the registry"]


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "1"], ["promote", "1"], ["export", "1", "--out", "there"]], ids=lambda one: one[0]
)
def test_without_a_registry_it_is_said_how_to_name_one(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert models(*arguments) == 1
    assert "set MLFLOW_TRACKING_URI to the registry, such as sqlite:////" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- exported


@pytest.fixture
def exported(client, tmp_path, monkeypatch) -> Path:
    """A model folder; there is no registry any more."""
    record(tmp_path / "first", glcm=0.9)
    assert models("export", "champion", "--out", str(tmp_path / "exported")) == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "the registry").rename(tmp_path / "gone")
    return tmp_path / "exported"


def test_an_exported_model_is_the_trained_one_and_needs_no_registry(exported, tmp_path):
    assert sorted(path.name for path in exported.iterdir()) == [SUMS_FILE, *FILES]
    for name in FILES:
        assert (exported / name).read_bytes() == (tmp_path / "first" / "model" / name).read_bytes()
    assert weights_sha256(exported) == weights_sha256(tmp_path / "first" / "model")
    images = [Standardizer.load(f).standardize(HU, (0.8, 0.8)) for f in (exported, tmp_path / "first" / "model")]
    np.testing.assert_array_equal(*images)


def test_any_changed_byte_of_an_exported_model_is_refused(exported):
    for name in FILES:
        before = (exported / name).read_bytes()
        flip(exported / name)
        with pytest.raises(ValueError, match=rf"{name} is missing or damaged: its sha256"):
            Standardizer.load(exported)
        (exported / name).write_bytes(before)
    Standardizer.load(exported)
    (exported / "calibration.json").unlink()
    with pytest.raises(ValueError, match=r"calibration\.json is missing or damaged"):
        Standardizer.load(exported)


def test_a_calibration_that_is_made_anew_has_a_new_sum(exported):
    write_calibration(exported, {"output": "mean"})
    Standardizer.load(exported)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE], cwd=exported, check=True)
    flip(exported / "model.json")
    with pytest.raises(ValueError, match=r"model\.json is missing or damaged"):
        Standardizer.load(exported)


def test_a_changed_byte_in_the_store_is_not_exported(client, tmp_path, capsys):
    record(tmp_path / "first", glcm=0.9)
    for name in FILES:
        path = stored(client, "1") / name
        before = path.read_bytes()
        flip(path)
        assert models("export", "1", "--out", str(tmp_path / "exported")) == 1
        said = rf"models:/ltdiff/1 cannot be loaded: \S*{name} is (not the file that was registered|missing or damaged)"
        assert re.search(said, capsys.readouterr().err)
        assert not (tmp_path / "exported").exists()
        path.write_bytes(before)


def test_a_planted_pickle_is_never_run(client, tmp_path, capsys):
    """Beside the model it is left behind; in the place of weights, with every sha256 to match, it is no safetensors file."""
    record(tmp_path / "first")
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (stored(client, "1") / "python_model.pkl").write_bytes(trap)
    assert models("export", "1", "--out", str(tmp_path / "exported")) == 0
    assert not list((tmp_path / "exported").glob("*.pkl"))
    (tmp_path / "exported" / "encoder.safetensors").write_bytes(trap)
    described = (tmp_path / "exported" / "model.json").read_text()
    old = json.loads(described)["files"]["encoder.safetensors"]
    write_sums(tmp_path / "exported")
    new = re.search(r"(\w+)  encoder\.safetensors", (tmp_path / "exported" / SUMS_FILE).read_text())[1]
    (tmp_path / "exported" / "model.json").write_text(described.replace(old, new))
    write_sums(tmp_path / "exported")
    with pytest.raises(ValueError, match="is no safetensors file"):
        Standardizer.load(tmp_path / "exported")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists()  # so the trap works
