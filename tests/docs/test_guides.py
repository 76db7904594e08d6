"""The pages say what is true: every command block runs, every option and setting in them exists, and links lead somewhere.

A comment before a block may say that it takes minutes (`<!-- long -->`: its page runs with the slow tests), or why it is not
run (`<!-- not run: … -->`: its options are still checked). Blocks of a page run in order, in one shell, in a folder of their
own, as printed but on small data and for seconds: SMALLER says what is added.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ltdiff.cli import COMMANDS
from ltdiff.commands.command_line import make_app
from ltdiff.commands.configuration import Configuration, read_settings_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>.*?) -->\n)?^```bash\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
OF_JOBS = {"train_autoencoder": "train", "train_ddpm": "train", "train_joint": "train", "search": "tune"}

SMALL_SCANS = {
    "simulation.num_patients": 3,
    "simulation.num_slices": 3,
    "simulation.matrix": 128,
    "simulation.fov_mm": 330,
    "simulation.scanner.num_views": 300,
    "simulation.scanner.num_detectors": 320,
    "simulation.scanner.detector_pitch_mm": 1.6,
}
SHORT = {"training.patch_size": 32, "training.batch_size_per_worker": 2, "training.checkpoint_every_steps": 2}
STEPS = {f"training.{phase}.num_steps": 4 for phase in ("autoencoder", "ddpm", "joint", "residual")}
FEW_TRIALS = {"search.share": 1.0, "search.num_rois": 12, "search.num_pairs": 2, "search.num_scores": 1}
FEW_ROIS = {"evaluation.num_rois": 12}
SMALLER = {
    "simulate": SMALL_SCANS,
    "train": SHORT,
    "compare": SHORT | FEW_ROIS,
    "tune": SHORT | STEPS | FEW_TRIALS,
    "evaluate": FEW_ROIS,
}
FEWER = {"--minutes": "0.05", "--num_trials": "2"}

PROGRAM = f"""#!{sys.executable}
import sys
from ltdiff.cli import main
SMALLER, FEWER = {SMALLER!r}, {FEWER!r}
if __name__ == "__main__":
    words = [FEWER.get(before, word) for before, word in zip(sys.argv, sys.argv[1:])]
    named = [word.partition("=")[0] for word in words]
    for name, value in SMALLER.get(words[0], {{}}).items():
        words += [] if name in named else ["--set", f"{{name}}={{value}}"]
    if words[0] in ("train", "tune", "compare", "calibrate"):
        from ltdiff.uncertainty import calibration
        calibration.NUM_DRAWS = 4
    sys.argv[1:] = words
    main()
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(mark, text) of the command blocks of a page."""
    return [(match["mark"] or "", match["text"]) for match in BLOCK.finditer(page.read_text())]


def script(page: Path) -> str:
    """All blocks of a page that are run, as one script."""
    return "\n".join(text for mark, text in blocks(page) if not mark.startswith("not run"))


def is_long(page: Path) -> bool:
    return any(mark == "long" for mark, _ in blocks(page))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def archive(tmp_path_factory, program) -> Path:
    """Paired DICOM series of three small patients, with their lesions."""
    folder = tmp_path_factory.mktemp("scans")
    run_script("ltdiff simulate --out archive", folder, program)
    return folder / "archive"


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """A folder with the program `ltdiff` for a shell."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ltdiff").write_text(PROGRAM)
    (folder / "ltdiff").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, archive, program) -> Path:
    """A folder with what a page may begin with: an archive, a manifest and a run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "archive").symlink_to(archive)
    commands = "ltdiff pair archive --out pairs.parquet\nltdiff train pairs.parquet --out runs/first --minutes 30\n"
    run_script(commands, folder, program)
    return folder


def run_script(commands: str, folder: Path, program: Path) -> None:
    """Run commands as a reader would, in bash; the first that fails ends them."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PATH"] = f"{program}:{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("page", [page for page in PAGES if script(page) and not is_long(page)], ids=name)
def test_commands_of_a_page_run(page, archive, program, tmp_path):
    (tmp_path / "archive").symlink_to(archive)
    run_script(script(page), tmp_path, program)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", [page for page in PAGES if is_long(page)], ids=name)
def test_long_commands_of_a_page_run(page, trained, program, tmp_path):
    commands = script(page)
    for start in ("archive", "pairs.parquet", "runs"):
        if not re.search(rf"--out {start}\b", commands):
            (shutil.copytree if (trained / start).is_dir() else shutil.copy)(trained / start, tmp_path / start)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    run_script(commands, tmp_path, program)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/reference/api/index.md"])
def test_python_of_a_page_runs(page, trained, monkeypatch):
    monkeypatch.chdir(trained)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 40, 48), -800, np.int16)), "scan.nii.gz")
    names: dict = {}
    for text in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        exec(text, names)
    assert names["standardized_hu"].shape == (2, 40, 48)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_options_and_settings_of_a_page_exist(page):
    app = make_app(name="ltdiff")
    for command, function in COMMANDS.items():
        app.command(function, name=command)
    for arguments in commands_of("\n".join(text for _, text in blocks(page))):
        _, bound, *_ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        read_settings_of("default", bound.arguments.get("settings", ()), sections=Configuration.__dataclass_fields__)


def commands_of(text: str) -> list[list[str]]:
    """The arguments of all calls of `ltdiff` and of the jobs, each as `ltdiff` takes them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = [word.strip(";") for word in shlex.split(line, comments=True)]
        for place, word in enumerate(words):
            job = re.fullmatch(r"(?:jobs|tuning)/(\S+)\.py", word)
            if word == "ltdiff" or (job and job[1] != "measure_mtf"):
                command = [] if job is None else [re.sub(r"\$phase", "ddpm", job[1])]
                rest = words[place + 1 :]
                end = next((i for i, one in enumerate(rest) if one in ("&", ">", "|", "&&")), len(rest))
                found.append([OF_JOBS.get(one, one) for one in command] + rest[:end])
    return found


def test_calls_are_found():
    text = 'ray job submit -- python jobs/train_$phase.py P \\\n  --out R\n(cd x; ltdiff pair "a b" --out c) # ltdiff x\n'
    assert commands_of(text) == [["train", "P", "--out", "R"], ["pair", "a b", "--out", "c)"]]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "cluster/README.md"])
def test_links_outside_the_site_lead_somewhere(page):
    """Those inside are checked when it is built (`make docs`)."""
    links = LINK.findall((ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_pages_that_the_code_names_exist():
    files = [path for room in ("ltdiff", "jobs", "tuning", "cluster") for path in (ROOT / room).rglob("*")]
    texts = [path.read_text() for path in files if path.suffix in (".py", ".md", ".yaml")]
    pages = {page for text in texts for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text)}
    assert pages
    assert [page for page in pages if not (ROOT / page).exists()] == []


def test_the_readme_is_short():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(text.split()) <= 900
