"""A model folder is what it was, or it is refused."""

import json
import subprocess

import pytest

from ltdiff.model.ltdiff import load_model, save_model
from ltdiff.model.model_folder import (
    CALIBRATION_FILE,
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    SUMS_FILE,
    read_calibration,
    verify_model_folder,
    weights_sha256,
    write_calibration,
    write_sums,
)
from ltdiff.system.atomic_files import file_sha256

ABOUT = {"trained": {}, "seed": 3}
CALIBRATION = {"output": "mean"}


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model", about=ABOUT)
    return tmp_path / "model"


def edit_description(folder, **changes):
    path = folder / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_is_verified_and_described(folder):
    assert verify_model_folder(folder)["about"] == ABOUT
    registered = {DESCRIPTION_FILE: file_sha256(folder / DESCRIPTION_FILE), CALIBRATION_FILE: None}
    verify_model_folder(folder, registered=registered)
    write_calibration(folder, CALIBRATION)
    assert not (folder / SUMS_FILE).exists()
    with pytest.raises(ValueError, match=r"calibration\.json is not the file that was registered"):
        verify_model_folder(folder, registered=registered)
    edit_description(folder, about={})
    with pytest.raises(ValueError, match=r"model\.json is not the file that was registered"):
        verify_model_folder(folder, registered=registered)


@pytest.mark.parametrize("name", ["../model/encoder.safetensors", "start.pkl"])
def test_only_weights_of_the_folder_may_be_listed(folder, name):
    edit_description(folder, files={name: "0"})
    with pytest.raises(ValueError, match="which is no safetensors file of its folder"):
        verify_model_folder(folder)


@pytest.mark.parametrize("name", ["../model/encoder.safetensors", "/etc/hostname"])
def test_sums_of_other_folders_are_not_read(folder, name):
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ValueError, match=r"SHA256SUMS lists .*, which is no file of its folder"):
        verify_model_folder(folder)


def test_sums_are_those_of_sha256sum_and_follow_a_new_calibration(folder):
    for content in (CALIBRATION, {"output": "sample"}):
        write_calibration(folder, content)
        write_sums(folder)
        verify_model_folder(folder)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE], cwd=folder, check=True)
        assert read_calibration(folder) == content
    (folder / CALIBRATION_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"calibration\.json is missing or damaged: its sha256 .* SHA256SUMS"):
        verify_model_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"7", b"null", b"[]", b"{}"])
def test_a_damaged_calibration_is_named(folder, content):
    assert read_calibration(folder) == {}
    (folder / CALIBRATION_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"calibration\.json is damaged; run `ltdiff calibrate` again"):
        read_calibration(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_broken_description_is_refused(folder, content):
    (folder / DESCRIPTION_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json"):
        verify_model_folder(folder)


@pytest.mark.parametrize("version", [0, 1, None])
def test_another_format_version_is_refused(folder, version):
    edit_description(folder, format_version=version)
    with pytest.raises(ValueError, match=f"format version {version}; this ltdiff reads {FORMAT_VERSION}"):
        verify_model_folder(folder)


def test_a_description_without_end_is_refused(folder):
    (folder / DESCRIPTION_FILE).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"model\.json has too many brackets"):
        verify_model_folder(folder)


@pytest.mark.parametrize("part", ["config", "kernel_match", "about", "files"])
def test_a_description_without_one_of_its_parts_is_refused(folder, part):
    description = json.loads((folder / DESCRIPTION_FILE).read_text())
    for changed, sentence in (
        ({key: value for key, value in description.items() if key != part}, f"it has no part '{part}'"),
        (description | {part: None}, f"it has another kind of part '{part}'"),
        (description | {f"{part}s": {}}, f"it has an unknown part '{part}s'"),
    ):
        (folder / DESCRIPTION_FILE).write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=rf"model\.json is damaged: {sentence}"):
            verify_model_folder(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config": {"autoencoders": {}}}, "there is no setting 'autoencoders'"),
        ({"config": {"autoencoder": 3}}, "autoencoder is a section"),
        ({"kernel_match": {"gains": "x"}}, ""),
        ({"kernel_match": {"gains": {"a": 1}}}, ""),
    ],
)
def test_a_model_with_another_part_inside_is_refused(folder, changes, sentence):
    edit_description(folder, **changes)
    with pytest.raises(ValueError, match=rf"model\.json.*{sentence}"):
        load_model(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match="holds no model"):
            verify_model_folder(folder)


def test_weights_sha256_follows_weights_kernel_match_and_shape_but_not_remarks(folder, model, tmp_path):
    first = weights_sha256(folder)
    save_model(model, tmp_path / "same", about={"other": "remarks"})
    model.kernel_match.gains[3] += 1e-9
    save_model(model, tmp_path / "other_match", about=ABOUT)
    next(model.encoder.parameters()).data[0] += 1e-3
    save_model(model, tmp_path / "other_weights", about=ABOUT)
    assert weights_sha256(tmp_path / "same") == first
    assert len({first, weights_sha256(tmp_path / "other_match"), weights_sha256(tmp_path / "other_weights")}) == 3
