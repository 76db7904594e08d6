"""What a user gets from `pip install .`: the command, the configurations, one version."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import ltdiff

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("ltdiff/",)
COMMAND = Path(sys.executable).with_name("ltdiff")


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.mark.skipif(not COMMAND.exists(), reason="ltdiff is not installed beside this Python")
@pytest.mark.parametrize(("option", "expected"), [("--version", ltdiff.__version__), ("--help", "Usage")])
def test_console_script(option, expected):
    ended = subprocess.run([COMMAND, option], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert expected in ended.stdout


def test_pyproject_package_and_changelog_have_one_version(pyproject):
    assert "version" in pyproject["project"]["dynamic"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ltdiff.__version__"}
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] in (ltdiff.__version__, "Unreleased")


@pytest.mark.skipif(not COMMAND.exists(), reason="ltdiff is not installed beside this Python")
def test_installed_metadata_has_the_same_version():
    assert version("ltdiff") == ltdiff.__version__


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="building a wheel needs setuptools")
def test_the_wheel_holds_every_file_of_the_package(pyproject, tmp_path):
    source = tmp_path / "source"
    for package in (*PACKAGES, "jobs/", "tuning/"):  # those stay in the repository
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", pyproject["project"]["readme"], *pyproject["project"]["license-files"]):
        shutil.copy(REPOSITORY / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = source.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"ltdiff", f"ltdiff-{ltdiff.__version__}.dist-info"}
    packed = {name for name in names if name.startswith(PACKAGES)}
    assert "ltdiff/py.typed" in packed
    files = {path.relative_to(REPOSITORY) for name in PACKAGES for path in (REPOSITORY / name).rglob("*") if path.is_file()}
    assert packed == {file.as_posix() for file in files if "__pycache__" not in file.parts}
