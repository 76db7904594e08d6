"""The command line: what a user sees of wrong arguments and bad files, and the exit codes."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from cyclopts import App

from ltdiff import __version__
from ltdiff.cli import COMMANDS, run_ltdiff
from ltdiff.commands.command_line import make_app, run
from ltdiff.radiomics.catalogue import feature_names

MAX_OPTIONS = 25
HEAVY = ("torch", "ray", "mlflow", "pandas", "matplotlib", "numpy", "scipy", "pydicom", "SimpleITK", "radiomics")


def _app(*names: str) -> App:
    app = make_app(name="ltdiff")
    for name, function in COMMANDS.items():
        app.command(function, name=name)
    for name in names:
        app = app[name]
    return app


GROUPS = ("models", "harmonize-features")
"""Commands that only have commands of their own."""
ALL_COMMANDS = [
    *([name] for name in COMMANDS if name not in GROUPS),
    *([group, name] for group in GROUPS for name in _app(group) if not name.startswith("-")),
]


def test_help_names_every_command(capsys):
    assert run_ltdiff(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in [*COMMANDS, "completion"])


@pytest.mark.parametrize("command", [[], ["completion"], *([name] for name in GROUPS), *ALL_COMMANDS], ids=" ".join)
def test_help_imports_nothing_heavy(command):
    """What help takes is the start of Python and of a small library: a tenth of a second or two."""
    code = f"""
import sys
from ltdiff.cli import run_ltdiff
assert run_ltdiff({[*command, "--help"]}) == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: ltdiff" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=" ".join)
def test_options_are_few_and_have_their_help(command):
    arguments = [argument for argument in _app(*command).assemble_argument_collection(parse_docstring=True) if argument.parse]
    assert len(arguments) <= MAX_OPTIONS
    assert [argument.name for argument in arguments if not argument.parameter.help] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "x.parquet", "--out", "run", "--set", "training.num_step=3"], "num_step"),
        (["train", "x.parquet", "--out", "run", "--set", "training.num_worker=3"], "nearest is 'training.num_workers'"),
        (["train", "x.parquet", "--out", "run", "--set", "diffusion.process=flow"], "'bridge' or 'ddpm', got 'flow'"),
        (["train", "x.parquet", "--out", "run", "--set", "diffusion.kappa=-1"], "kappa must not be negative, got -1"),
        (["train", "x.parquet", "--out", "run", "--set", "diffusion.kappa"], "takes section.key=value"),
        (["train", "x.parquet", "--out", "run", "--set", "kappa=1"], "takes section.key=value"),
        (["train", "x.parquet", "--out", "run", "--set", "diffusion.kappa=[1"], "as YAML writes it, got '[1'"),
        (["train", "x.parquet", "--out", "run", "--set", "inference.seed=1"], "inference.seed has no effect here"),
        (["train", "x.parquet", "--out", "run", "--set", "loss.decode=direct", "--set", "loss.decode=direct"], "twice"),
        (["train", "x", "--out", "o", "--minutes", "3", "--set", "training.ddpm.num_steps=2"], "has no effect here"),
        (["train", "x", "--out", "o", "--minutes", "3", "--set", "training.minutes=2"], "training.minutes is given twice"),
        (["train", "x", "--out", "o", "--minutes", "0"], "minutes must be above 0, got 0.0"),
        (["compare", "x.parquet", "--out", "o", "--set", "training.minutes=2"], "has no effect here"),
        (["compare", "x.parquet", "--out", "o", "--set", "training.num_workers=2"], "has no effect here"),
        (["compare", "x.parquet", "--out", "o", "--set", "training.joint.num_steps=2"], "has no effect here"),
        (["compare", "x.parquet", "--out", "o", "--set", "training.joint={num_steps: 2}"], "has no effect here"),
        (["evaluate", "x", "--model", "m", "--out", "o", "--features", "catalogue", "--set",
          "evaluation.features=catalogue"], "evaluation.features is given twice"),
        (["tune", "x", "--out", "o", "--num_trials", "2", "--set", "search.num_trials=3"], "search.num_trials is given twice"),
        (["nothing"], "nothing"),
        (["trian", "x"], 'Did you mean "train"'),
        (["evaluate", "x.parquet"], "--model"),
        (["train", "x.parquet", "y.parquet", "--out", "o"], "y.parquet"),
        (["train", "x.parquet", "--out", "o", "--out", "p"], "--out"),
        (["radiomics"], "IMAGE and MASK are required"),
        (["radiomics", "scan.nrrd"], "MASK is required"),
        (["radiomics", "--list", "scan.nrrd"], "no effect"),
        (["models", "promote"], "MODEL"),
        (["models", "install"], "MODEL"),
        (["models", "pack", "model"], "--out"),
        (["find-pairs", "--kernels", "A,B"], "--kernels and --out belong together"),
        (["models", "promote", "3", "--force=perhaps"], "--force"),
        (["endpoints"], "name at least one IMAGE"),
        (["evaluate", "x", "--model", "m", "--out", "o", "--risk_command", "python x {dir}"], "--risk_command needs {out}"),
        (["evaluate", "x", "--model", "m", "--out", "o", "--risk_timeout_minutes", "3"], "needs --risk_command"),
        (["pair"], "--source and --target"),
        (["pair", "--source", "a"], "--source and --target"),
        (["pair", "--source", "a", "--target", "b", "--out", "p.parquet", "--target_kernel", "L"],
         "--source and --target are chosen"),
        (["settings", "nothing"], "no section of settings 'nothing'"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_and_ends_with_2(arguments, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_ltdiff(arguments) == 2
    shown = capsys.readouterr().err
    assert named in shown
    assert shown.startswith("ltdiff: ")
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


PATH_ARGUMENTS = [
    ["pair", "PATH", "--out", "/o"],
    ["pair", "/a", "--out", "PATH"],
    ["pair", "--source", "PATH", "--target", "/b", "--out", "/o"],
    ["simulate", "--out", "PATH"],
    ["train", "PATH", "--out", "/o"],
    ["train", "/p", "--out", "PATH"],
    ["tune", "/p", "--out", "PATH"],
    ["standardize", "PATH", "--model", "/m", "--out", "/o"],
    ["standardize", "/a", "--model", "PATH", "--out", "/o"],
    ["standardize", "/a", "--model", "/m", "--out", "PATH"],
    ["evaluate", "/p", "--model", "PATH", "--out", "/o"],
    ["evaluate", "PATH", "--model", "/m", "--out", "/o"],
    ["compare", "/p", "--out", "PATH"],
    ["endpoints", "/a", "PATH"],
    ["endpoints", "/a", "--out", "PATH"],
    ["calibrate", "PATH", "--model", "/m"],
    ["calibrate", "/p", "--model", "PATH"],
    ["uncertainty", "/a", "--model", "/m", "--mask", "PATH", "--out", "/o"],
    ["radiomics", "PATH", "/m"],
    ["radiomics", "/a", "/m", "--out", "PATH"],
    ["models", "export", "3", "--out", "PATH"],
    ["models", "promote", "3", "--pairs", "PATH"],
    ["models", "pack", "PATH", "--out", "/o.zip"],
    ["models", "pack", "/m", "--out", "PATH"],
    ["models", "pack", "/m", "--out", "/o.zip", "--notes", "PATH"],
    ["models", "install", "PATH"],
    ["models", "install", "/m.zip", "--into", "PATH"],
    ["find-pairs", "--kernels", "A,B", "--out", "PATH"],
    ["find-pairs", "--index", "PATH"],
    ["demo", "--out", "PATH"],
]


@pytest.mark.parametrize("arguments", PATH_ARGUMENTS, ids=" ".join)
@pytest.mark.parametrize("path", ["file:///tmp/x", "hdfs://host:1/x", "abfs+ssl://x/y", "gcs:/bucket"])
def test_another_uri_is_refused_and_not_made_into_a_folder(arguments, path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_ltdiff([path if one == "PATH" else one for one in arguments]) == 2
    shown = capsys.readouterr().err
    assert "of URIs only s3://, gs:// and az:// are supported" in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", PATH_ARGUMENTS, ids=" ".join)
def test_every_path_may_be_a_url_or_is_refused_by_name(arguments, capsys, tmp_path, monkeypatch, bucket):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # a URL is not relative
    is_refused = arguments in (["calibrate", "/p", "--model", "PATH"], ["models", "install", "/m.zip", "--into", "PATH"])
    assert run_ltdiff(["s3://no-bucket/x" if one == "PATH" else one for one in arguments]) == (2 if is_refused else 1)
    name = arguments[-2].removeprefix("--")
    sentence = (
        f"{name} cannot be a URL, got s3://no-bucket/x" if is_refused else "s3://no-bucket/x: there is no bucket 'no-bucket'"
    )
    shown = capsys.readouterr().err
    assert shown.startswith(f"ltdiff: {sentence}")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("arguments", PATH_ARGUMENTS, ids=" ".join)
def test_a_relative_path_is_refused_in_a_submitted_job(arguments, capsys, tmp_path, monkeypatch):
    """Ray's copy of the working directory, and all that a job writes there, is deleted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run_ltdiff(["runs/first" if one == "PATH" else one for one in arguments]) == 2
    assert "'runs/first' is relative: in a submitted job that is a folder in Ray's copy" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_a_colon_is_none(tmp_path, capsys):
    assert run_ltdiff(["pair", str(tmp_path / "s3:") + "/a", "--out", "/o"]) == 1
    assert "of URIs" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["models"]])
def test_without_a_command_the_help_names_them_and_ends_with_2(arguments, capsys):
    assert run_ltdiff(arguments) == 2
    names = ("list", "show", "promote", "export", "pack", "install") if arguments else COMMANDS
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "absent.parquet", "--out", "run"], "absent.parquet"),
        (["train", "x.parquet", "--out", "run", "--config", "quick"], "no configuration 'quick': neither default, demo"),
        (["pair", "absent"], "absent"),
        (["evaluate", "absent.parquet", "--model", "m", "--out", "o"], "absent.parquet"),
        (["standardize", "absent", "--model", "m", "--out", "o"], "m"),
        (["compare", "absent.parquet", "--out", "o"], "absent.parquet"),
        (["compare", "absent.parquet", "--out", "o", "--methods", "linear, magic"], "no method 'magic'; known are source"),
        (["calibrate", "p.parquet", "--model", "models:/ltdiff@champion"], "is what was registered and stays so"),
        (["models", "pack", "absent", "--out", "m.zip"], "absent holds no model"),
        (["find-pairs", "--index", "absent"], "absent is no index of the Imaging Data Commons"),
        (["radiomics", "absent", "mask.nrrd"], "absent: there is no such file or folder"),
        (["radiomics", "absent.nrrd", "mask.nrrd"], "absent.nrrd: there is no such file"),
        (["radiomics", "a.nrrd", "b.nrrd", "--only", "GLCM"], "no feature or class of features 'GLCM'; the classes are GLCM25D"),
        (["radiomics", "a.nrrd", "b.nrrd", "--out", "f.xlsx"], "f.xlsx: the name of a table ends with .parquet or"),
    ],
)
def test_a_bad_file_is_one_sentence_and_ends_with_1(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_ltdiff(arguments) == 1
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_ct_ends_with_3(capsys, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("n" * 200)
    assert run_ltdiff(["pair", str(tmp_path / "in"), "--out", str(tmp_path / "p.parquet")]) == 3
    assert "no original CT series found: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("catalogue: {bin_width: 0}", "bin_width must be above 0, got 0"),
        ("catalog: {bin_width: 1}", "there is no setting 'catalog'"),
        ("training: {num_worker: 1}", "'training.num_worker'; the nearest is 'training.num_workers'"),
    ],
)
def test_a_configuration_may_hold_sections_of_other_commands_but_no_unknown_ones(text, sentence, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    arguments = ["radiomics", "absent.nrrd", "b.nrrd", "--config", str(tmp_path / "mine.yaml")]
    assert run_ltdiff(arguments) == 1
    assert f"{tmp_path}/mine.yaml: " in (shown := capsys.readouterr().err)
    assert sentence in shown
    (tmp_path / "mine.yaml").write_text("training: {num_workers: 3}\ncatalogue: {bin_width: 50}")
    assert run_ltdiff(arguments) == 1
    assert "absent.nrrd: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("pair", ["absent", "--out", "p.parquet"]),
        ("pair", ["--out", "p.parquet", "absent"]),
        ("pair", ["--out=p.parquet", "absent", "--split", "z:0.5"]),
        ("standardize", ["--force", "absent", "--model", "absent", "--out", "o"]),
        ("standardize", ["absent", "--model", "absent", "--force", "--out", "o"]),
        ("standardize", ["absent", "--force=false", "--model", "absent", "--out", "o"]),
        ("standardize", ["absent", "--model", "absent", "--out", "o", "--force", "--use_gpu"]),
    ],
)
def test_arguments_may_come_in_any_order(command, arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_ltdiff([command, *arguments]) == 1
    assert "absent" in capsys.readouterr().err


def test_every_setting_is_listed_with_its_meaning(capsys):
    assert run_ltdiff(["settings"]) == 0
    shown = capsys.readouterr().out
    names = [line for line in shown.splitlines() if not line.startswith(" ")]
    assert {name.split(".")[0] for name in names} == {
        *("model", "diffusion", "loss", "training", "inference", "evaluation", "catalogue", "ibsi", "simulation", "search")
    }
    lines = shown.splitlines()
    assert all(below.startswith("    ") for line, below in pairwise(lines) if line in names)
    assert "diffusion.process = bridge  (bridge | ddpm)" in names
    assert "training.joint.num_steps = 2000  (int)" in names
    assert run_ltdiff(["settings", "training.joint"]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert listed == [name for name in names if name.startswith("training.joint.")]


def test_completion_is_written_for_a_shell(tmp_path, capsys):
    assert run_ltdiff(["completion", "--shell", "bash", "--output", str(tmp_path / "ltdiff")]) == 0
    script = (tmp_path / "ltdiff").read_text()
    assert all(name in script for name in (*COMMANDS, "--target_kernel", "pyradiomics"))


def test_what_the_system_refuses_is_one_sentence(capsys, tmp_path):
    def read(path: Path, /) -> int:
        """Read a file.

        Args:
            path: its place.
        """
        return len(path.read_text())

    assert run(read, [str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err == f"ltdiff: {tmp_path}/absent: No such file or directory\n"


def test_the_features_are_listed_without_an_image(capsys):
    assert run_ltdiff(["radiomics", "--list"]) == 0
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
    shown = subprocess.run([sys.executable, "-m", "ltdiff.cli", "--version"], capture_output=True, text=True, check=True)
    assert f"ltdiff {__version__}" in shown.stdout
