"""The shape of the house: data flows one way, each big dependency is imported in one place, and a name stands for one thing.

The order of the rooms (the folders of ltdiff/ and its lone files) and the places of dependencies are contracts of import-linter
in pyproject.toml; imports inside functions and under TYPE_CHECKING count.
"""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAX_DEPENDENCIES = 87
"""Between rooms, jobs/ and tuning/ among them; more than this cannot be kept in mind."""
MAY_REPEAT = ("__init__", "config")


def test_imports_go_one_way():
    checked = _lint_imports(REPOSITORY)
    assert checked.returncode == 0, checked.stdout


def test_an_import_that_runs_upwards_is_found(tmp_path):
    """The contracts see what stands inside a function."""
    for room in (REPOSITORY / "ltdiff").iterdir():
        if room.is_dir() and any(room.glob("*.py")):
            (tmp_path / "ltdiff" / room.name).mkdir(parents=True)
            (tmp_path / "ltdiff" / room.name / "__init__.py").touch()
        elif room.suffix == ".py":
            (tmp_path / "ltdiff").mkdir(exist_ok=True)
            (tmp_path / "ltdiff" / room.name).touch()
    (tmp_path / "ltdiff" / "data" / "rois.py").write_text("def f():\n    from ltdiff.training import loop\n")
    (tmp_path / "ltdiff" / "training" / "loop.py").touch()
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    checked = _lint_imports(tmp_path, "--contract", "rooms")
    assert checked.returncode == 1
    assert "ltdiff.data.rois -> ltdiff.training.loop" in checked.stdout


def _lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", *options]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_there_are_few_dependencies_between_rooms():
    dependencies = {pair for path in _product_files() for pair in _dependencies(path)}
    assert len(dependencies) <= MAX_DEPENDENCIES, sorted(dependencies)


@pytest.mark.parametrize("kind", ["file", "class"])
def test_no_name_stands_for_two_things(kind):
    names = Counter(name for path in _product_files() for name in ([path.stem] if kind == "file" else _classes(path)))
    assert [name for name, number in names.items() if number > 1 and name not in MAY_REPEAT] == []


def _product_files() -> list[Path]:
    return sorted(path for top in ("ltdiff", "jobs", "tuning") for path in (REPOSITORY / top).rglob("*.py"))


def _classes(path: Path) -> list[str]:
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


def _dependencies(path: Path) -> set[tuple[str, str]]:
    """(room, room that it imports) of a file; a package's face, which only hands names on, is no room."""
    room = _room(path.relative_to(REPOSITORY).with_suffix("").parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            alone = node.module == "ltdiff"
            modules = [f"ltdiff.{alias.name}" for alias in node.names] if alone else [node.module]
        found |= {(room, _room(tuple(module.split(".")))) for module in modules if module.startswith("ltdiff.")}
    return {(one, other) for one, other in found if one != other and "" not in (one, other)}


def _room(parts: tuple[str, ...]) -> str:
    """ltdiff.data.rois -> data; jobs.compare -> jobs; "" of the package itself."""
    if parts[0] != "ltdiff":
        return parts[0]
    return "" if len(parts) == 1 or parts[1] in ("__init__", "__version__") else parts[1]
