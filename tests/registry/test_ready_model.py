"""Ready models: packed with their card, installed whole or not at all, and nothing else taken out of a file."""

import json
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest
from tiny_run import one_thread, save_tiny_model  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import find_models, load_models
from ltdiff.model.model_folder import SUMS_FILE, verify_model_folder, write_calibration, write_sums
from ltdiff.registry import ready_model
from ltdiff.registry.ready_model import install_model, pack_model

FILES = {"model.json", "encoder.safetensors", "denoiser.safetensors", "decoder.safetensors", "README.md", SUMS_FILE}
CALIBRATION = {"output": "mean", "validation_ccc": {"mean": {"firstorder": 0.99, "glcm": 0.97}}, "data_fingerprint": "a" * 64}
TRAINED = {"trained": {"joint": {"loss": 0.5}}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A calibrated model from B30f to B50f, in the folder of its run."""
    folder = tmp_path_factory.mktemp("run") / "model"
    save_tiny_model(folder, source_kernel="B30f", target_kernel="B50f", facts=TRAINED | {"trained_series": ["d1", "d2"]})
    write_calibration(folder, CALIBRATION)
    (folder / "notes of the ward.txt").write_text("not packed")
    return folder


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "model.zip"
    pack_model(model, out=path)
    return path


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refuse(path: Path, sentence: str, into: Path) -> None:
    """Installing is refused in one sentence that names the file and no hidden folder, and leaves nothing."""
    with pytest.raises(ValueError, match=sentence) as fault:
        install_model(path, into=into)
    assert "\n" not in str(fault.value)
    assert ".partial" not in str(fault.value)
    assert path.name in str(fault.value)
    assert list(into.iterdir()) == []


def test_a_model_is_packed_and_installed_as_it_was(model, packed, tmp_path):
    folder = install_model(packed, into=tmp_path / "models")
    assert {path.name for path in folder.iterdir()} == FILES | {"calibration.json"}
    for name in ("model.json", "calibration.json", "encoder.safetensors"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    assert folder.name.startswith("B50f-")
    assert find_models(tmp_path / "models") == [folder]
    (trained_model,) = load_models(tmp_path / "models", InferenceConfig(), target_kernel="B50f")
    assert trained_model.domain.source_kernels == ("B30f",)
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS_FILE], cwd=folder, check=True)


def test_what_was_packed_is_the_same_file_each_time(model, packed, tmp_path):
    name = pack_model(model, out=tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert {Path(entry).parent.name for entry in contents(packed)} == {name}


def test_a_model_is_installed_once(model, packed, tmp_path):
    folder = install_model(packed, into=tmp_path)
    before = (folder / "model.json").stat().st_mtime_ns
    assert install_model(packed, into=tmp_path) == folder
    assert install_model(model, into=tmp_path) == folder  # the plain folder
    assert (folder / "model.json").stat().st_mtime_ns == before
    (folder / "decoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"missing or damaged: .*; remove {folder}, and install the model again"):
        install_model(packed, into=tmp_path)


def test_models_of_one_target_lie_side_by_side(model, packed, tmp_path):
    other = save_tiny_model(tmp_path / "other", source_kernel="B80f", target_kernel="B50f", facts=TRAINED)
    bare = save_tiny_model(tmp_path / "bare", source_kernel="B30f", target_kernel="B50f", facts=TRAINED)
    folders = {install_model(one, into=tmp_path / "models") for one in (packed, other, bare)}
    assert len(folders) == 3
    assert set(find_models(tmp_path / "models")) == folders


def test_a_kernel_makes_no_path(tmp_path):
    folder = save_tiny_model(tmp_path / "model", source_kernel="B", target_kernel="../Br40\\3 x", facts=TRAINED)
    installed = install_model(folder, into=tmp_path / "models")
    assert installed.parent == tmp_path / "models"
    assert installed.name.startswith("_Br40_3_x-")


def test_the_card_says_what_the_model_is_for(model, packed, tmp_path):
    card = (install_model(packed, into=tmp_path) / "README.md").read_text()
    assert card.startswith("# LTDiff++: B30f to B50f\n\n**Not for diagnostic use.**")
    assert "| concordance (CCC) on validation pairs | 0.9800 (firstorder 0.9900, glcm 0.9700), of the mean |" in card
    assert "| trained on | 2 series |" in card
    assert "| manufacturers | unknown |" in card


def test_notes_end_the_card_and_stay(model, tmp_path):
    (tmp_path / "citation.md").write_text("# Data\n\nNLST, CC BY 4.0.\n")
    pack_model(model, out=tmp_path / "model.zip", notes=tmp_path / "citation.md")
    folder = install_model(tmp_path / "model.zip", into=tmp_path / "models")
    assert (folder / "README.md").read_text().endswith("--out DERIVED\n\n# Data\n\nNLST, CC BY 4.0.\n")
    pack_model(folder, out=tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "model.zip").read_bytes()


def test_a_header_cannot_write_into_the_card(tmp_path):
    kernel = "B |\n\n# Approved for diagnosis"
    folder = save_tiny_model(tmp_path / "model", source_kernel=kernel, target_kernel="L", facts=TRAINED)
    lines = (install_model(folder, into=tmp_path / "models") / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == [lines[0]]


def test_what_is_no_trained_model_is_neither_packed_nor_installed(tmp_path):
    start = save_tiny_model(tmp_path / "start", source_kernel="B", target_kernel="L")
    with pytest.raises(ValueError, match="start holds networks that are not trained"):
        pack_model(start, out=tmp_path / "start.zip")
    refuse(start, "start holds networks that are not trained", tmp_path / "models")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "empty holds no model", tmp_path / "models")
    refuse(tmp_path / "absent.zip", r"absent\.zip: there is no such file or folder", tmp_path / "models")
    with pytest.raises(ValueError, match=r"model\.tar: the name of a packed model ends with \.zip"):
        pack_model(start, out=tmp_path / "model.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"start", "empty", "models"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../model.json", r"'\.\./model\.json', which leads out of its folder"),
        ("a/../../README.md", "which leads out of its folder"),
        ("/tmp/README.md", "which leads out of its folder"),
        ("m\\..\\README.md", "which is no part of a model"),
        ("m/start.pkl", "which is no part of a model"),
        ("m/encoder.safetensors\n.py", r"'m/encoder\.safetensors\\n\.py', which is no part of a model"),
        ("other/model.json", "more than one folder with a model"),
    ],
)
def test_a_file_that_is_no_part_of_a_model_is_refused(packed, tmp_path, name, sentence):
    files = {f"m/{Path(key).name}": content for key, content in contents(packed).items()}
    refuse(write_zip(tmp_path / "bad.zip", files | {name: b"x"}), sentence, tmp_path / "models")
    assert not Path("/tmp/README.md").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"bad.zip", "models"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_is_refused(packed, tmp_path, kind):
    files = contents(packed)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            if name.endswith("decoder.safetensors"):
                entry.external_attr, content = (kind | 0o777) << 16, b"/etc/passwd"
            archive.writestr(entry, content)
    refuse(tmp_path / "bad.zip", r"decoder\.safet.*, which is a link or no regular file", tmp_path / "models")


@pytest.mark.parametrize("name", ["encoder.safetensors", "model.json", "calibration.json", "README.md", SUMS_FILE])
def test_a_changed_byte_is_found(packed, tmp_path, name):
    files = contents(packed)
    path = next(key for key in files if key.endswith(name))
    files[path] = files[path].replace(b"0", b"1", 1) if b"0" in files[path] else b"x" + files[path]
    refuse(write_zip(tmp_path / "bad.zip", files), r"bad\.zip/.* missing or damaged", tmp_path / "models")


@pytest.mark.parametrize("name", ["encoder.safetensors", "calibration.json", "model.json"])
def test_a_missing_file_is_found(packed, tmp_path, name):
    files = {key: content for key, content in contents(packed).items() if not key.endswith(name)}
    refuse(write_zip(tmp_path / "bad.zip", files), "missing or damaged|holds no model", tmp_path / "models")


def test_another_format_version_is_refused(model, tmp_path):
    description = json.loads((model / "model.json").read_text()) | {"format_version": 99}
    path = write_zip(tmp_path / "bad.zip", {"m/model.json": json.dumps(description).encode()})
    refuse(path, r"bad\.zip/model\.json has format version 99; this ltdiff reads", tmp_path / "models")


def test_a_part_of_a_model_is_refused(model, tmp_path):
    description = json.loads((model / "model.json").read_text())
    files = {"denoiser.safetensors": (model / "denoiser.safetensors").read_bytes()}
    description["files"] = {name: description["files"][name] for name in files}
    path = write_zip(tmp_path / "bad.zip", files | {"model.json": json.dumps(description).encode()})
    refuse(path, r"lists denoiser\.safetensors, not those of a whole model", tmp_path / "models")


@pytest.mark.parametrize(
    ("name", "num_mib", "sentence"),
    [("decoder.safetensors", 64, "would take 0.1 GiB, and"), ("model.json", 2, "would take 2 MiB")],
)
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch, name, num_mib, sentence):
    monkeypatch.setattr(ready_model, "MAX_BYTES", 10 * 2**20)
    monkeypatch.setattr(ready_model, "MAX_TEXT_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(num_mib * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *arguments: pytest.fail("unpacked"))
    refuse(tmp_path / "bad.zip", sentence, tmp_path / "models")


def test_a_size_that_lies_is_found(packed, tmp_path):
    """The directory says less than the data hold: no more than that is read, and its CRC is another one."""
    data = bytearray(write_zip(tmp_path / "bad.zip", {"model.json": b"{}" + b" " * 5000}).read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 20 : directory + 28] = (2).to_bytes(4, "little") * 2
    (tmp_path / "bad.zip").write_bytes(data)
    refuse(tmp_path / "bad.zip", r"bad\.zip is no zip of a model, or it is damaged: Bad CRC", tmp_path / "models")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "bad.zip").write_bytes(content)
    refuse(tmp_path / "bad.zip", r"bad\.zip is no zip of a model, or it is damaged", tmp_path / "models")


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(packed, tmp_path, part):
    data = packed.read_bytes()
    (tmp_path / "bad.zip").write_bytes(data[: int(part * len(data))])
    refuse(tmp_path / "bad.zip", r"bad\.zip is no zip of a model, or it is damaged", tmp_path / "models")


def test_encrypted_and_unusual_zips_are_refused(packed, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.json", b"{}")
    refuse(tmp_path / "bad.zip", "which is encrypted, or not compressed as zip files usually are", tmp_path / "models")
    data = bytearray(write_zip(tmp_path / "bad.zip", {"model.json": b"{}"}).read_bytes())
    for place, offset in ((data.index(b"PK\x03\x04"), 6), (data.index(b"PK\x01\x02"), 8)):
        data[place + offset] |= 1
    (tmp_path / "bad.zip").write_bytes(data)
    refuse(tmp_path / "bad.zip", "which is encrypted", tmp_path / "models")


def test_a_zip_made_by_hand_is_installed(model, tmp_path):
    """At the top, without a card; with the entries for folders that other programs make."""
    files = {name: (model / name).read_bytes() for name in (*FILES - {"README.md", SUMS_FILE}, "calibration.json")}
    folder = install_model(write_zip(tmp_path / "hand.zip", files), into=tmp_path / "models")
    deep = {"a/": b"", "a/b/": b"", **{f"a/b/{name}": content for name, content in files.items()}}
    assert install_model(write_zip(tmp_path / "deep.zip", deep), into=tmp_path / "models") == folder
    assert verify_model_folder(folder)["about"]["trained"]
    assert (folder / "README.md").is_file()


def test_an_exported_folder_with_other_files_is_packed_without_them(model, tmp_path):
    folder = save_tiny_model(tmp_path / "exported", source_kernel="B", target_kernel="L", facts=TRAINED)
    (folder / "LICENSE").write_text("mine")
    write_sums(folder)
    pack_model(folder, out=tmp_path / "model.zip")
    assert {Path(name).name for name in contents(tmp_path / "model.zip")} == FILES
    install_model(tmp_path / "model.zip", into=tmp_path / "models")
    (folder / "LICENSE").write_text("yours")
    with pytest.raises(ValueError, match="LICENSE is missing or damaged"):
        pack_model(folder, out=tmp_path / "model.zip")


def test_the_commands_say_where_the_model_is(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_ltdiff(["models", "pack", str(model), "--out", str(tmp_path / "model.zip")]) == 0
    name = capsys.readouterr().out.strip().rpartition(" ")[2]
    assert run_ltdiff(["models", "install", str(tmp_path / "model.zip")]) == 0
    store = tmp_path / ".local" / "share" / "ltdiff" / "models"
    assert f"{store / name}: installed; `ltdiff standardize --model {store}`" in capsys.readouterr().out
    assert run_ltdiff(["models", "install", str(model), "--into", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / name).is_dir()
    (tmp_path / "bad.zip").write_text("nothing")
    assert run_ltdiff(["models", "install", str(tmp_path / "bad.zip"), "--into", str(tmp_path / "mine")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("ltdiff: ")
    assert shown.count("\n") == 1
