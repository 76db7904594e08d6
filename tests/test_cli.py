"""The command line: what a user sees of wrong arguments and bad files, and the exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ltdiff import __version__
from ltdiff.cli import COMMANDS
from ltdiff.command_line import run
from ltdiff.radiomics.catalogue import feature_names


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(COMMANDS, ["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "x.parquet", "--out", "run", "--settings.training.num_step", "3"], "num_step"),
        (["train", "x.parquet", "--out", "run", "--settings.diffusion.process", "flow"], "flow"),
        (["nothing"], "nothing"),
        (["evaluate", "x.parquet"], "evaluate.model"),
        (["radiomics"], "radiomics.image, radiomics.mask"),
        (["radiomics", "scan.nrrd"], "radiomics.mask"),
        (["models"], "{list,show,promote,export}"),
        (["models", "promote"], "model"),
        (["models", "promote", "3", "--force=perhaps"], "--force"),
    ],
)
def test_a_wrong_argument_is_named_and_ends_with_2(arguments, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(COMMANDS, arguments)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "absent.parquet", "--out", "run"], "absent.parquet"),
        (
            ["train", "x.parquet", "--out", "run", "--settings.diffusion.kappa", "-1"],
            "kappa must not be negative, got -1",
        ),
        (["pair", "absent"], "absent"),
        (["pair"], "--source and --target"),
        (["pair", "--source", "a"], "--source and --target"),
        (["evaluate", "absent.parquet", "--model", "m", "--out", "o"], "absent.parquet"),
        (["standardize", "absent", "--model", "m", "--out", "o"], "m"),
        (["compare", "absent.parquet", "--out", "o"], "absent.parquet"),
        (
            ["compare", "absent.parquet", "--out", "o", "--methods", "linear, magic"],
            "no method 'magic'; known are source",
        ),
        (
            ["pair", "--source", "a", "--target", "b", "--out", "p.parquet", "--target_kernel", "L"],
            "--source and --target are chosen",
        ),
        (["calibrate", "p.parquet", "--model", "models:/ltdiff@champion"], "is what was registered and stays so"),
        (["radiomics", "absent", "mask.nrrd"], "absent does not exist"),
        (["radiomics", "absent.nrrd", "mask.nrrd"], "absent.nrrd: there is no such file"),
        (
            ["radiomics", "a.nrrd", "b.nrrd", "--only", "GLCM"],
            "no feature or class of features 'GLCM'; the classes are GLCM25D",
        ),
        (["radiomics", "a.nrrd", "b.nrrd", "--discretisation.bin_width", "0"], "bin_width must be above 0, got 0"),
        (["radiomics", "a.nrrd", "b.nrrd", "--out", "f.xlsx"], "f.xlsx: the name of a table ends with .parquet or"),
    ],
)
def test_a_bad_file_is_one_sentence_and_ends_with_1(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(COMMANDS, arguments) == 1
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("pair", ["absent", "--out", "p.parquet"]),
        ("pair", ["--out", "p.parquet", "absent"]),
        ("pair", ["--out=p.parquet", "absent", "--split", "z:0.5"]),
        ("standardize", ["--force", "absent", "--model", "absent", "--out", "o"]),
        ("standardize", ["absent", "--model", "absent", "--force", "--out", "o"]),
        ("standardize", ["absent", "--force", "false", "--model", "absent", "--out", "o"]),
        ("standardize", ["absent", "--model", "absent", "--out", "o", "--force"]),
    ],
)
def test_arguments_may_come_in_any_order(command, arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(COMMANDS, [command, *arguments]) == 1
    assert "absent" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_sentence(capsys, tmp_path):
    def read(path: Path) -> int:
        """Read a file.

        Args:
            path: its place.
        """
        return len(path.read_text())

    assert run(read, [str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err == f"ltdiff: {tmp_path}/absent: No such file or directory\n"


def test_the_features_are_listed_without_an_image(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(COMMANDS, ["radiomics", "--list"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.splitlines() == list(feature_names())
    assert len(feature_names()) == 1450


def test_a_reader_may_stop_before_the_end():
    """What `ltdiff radiomics --list | head -1` does, or a reader who is gone before the first line."""
    command = [sys.executable, "-m", "ltdiff.cli", "radiomics", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_ctrl_c_says_how_to_go_on(capsys):
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run(interrupted, []) == 130
    assert "same command" in capsys.readouterr().err


def test_the_module_is_the_command():
    shown = subprocess.run(
        [sys.executable, "-m", "ltdiff.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert f"ltdiff {__version__}" in shown.stdout
