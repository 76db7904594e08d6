"""The import direction of ltdiff/: data flows one way, and each big dependency is imported in one place.

Every import statement counts, those inside functions and under TYPE_CHECKING too. What a part may import is MAY_IMPORT;
a new part has to be entered there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

MAY_IMPORT = {  # a folder or a file of ltdiff/: the other parts it may import
    "configs": set(),
    "dicom": {"durable"},
    "model": {"durable"},
    "diffusion": set(),
    "environment": set(),
    "registry": {"durable", "environment"},
    "local_ray": {"environment"},
    "lock": set(),
    "durable": set(),
    "memory": set(),
    "cores": set(),
    "data": {"dicom", "durable"},
    "simulation": {"data", "dicom", "durable"},
    "radiomics": {"data", "local_ray", "durable"},
    "training": {"data", "model", "diffusion", "local_ray", "lock", "durable", "environment", "memory", "cores"},
    "inference": {"dicom", "data", "model", "diffusion", "local_ray", "lock", "durable", "memory", "cores"},
    "comparators": {"data", "model", "diffusion", "training", "inference", "radiomics", "durable"},
    "evaluation": {"data", "radiomics", "comparators", "inference", "durable"},
}
MAY_IMPORT["workflows"] = set(MAY_IMPORT)
MAY_IMPORT["command_line"] = {"radiomics"}
MAY_IMPORT["cli_models"] = {"workflows"}
MAY_IMPORT["cli"] = set(MAY_IMPORT) | {"tuning"}  # the command line may start a search
MAY_IMPORT["jobs"] = set(MAY_IMPORT)
MAY_IMPORT["tuning"] = set(MAY_IMPORT) - {"cli", "command_line", "jobs"}
MAY_IMPORT["tuning/search.py"] = set(MAY_IMPORT) - {"jobs"}  # a script like those in jobs/

PLACES = {  # a dependency: the only folders and files that import it
    "pydicom": ("ltdiff/dicom/",),
    "highdicom": ("ltdiff/dicom/",),
    # PyRadiomics takes SimpleITK images
    "SimpleITK": ("ltdiff/data/formats.py", "ltdiff/radiomics/pyradiomics.py"),
    "matplotlib": ("ltdiff/evaluation/figures.py",),
    "radiomics": ("ltdiff/radiomics/pyradiomics.py",),
    "combatlearn": ("ltdiff/comparators/combat.py",),
    "mlflow": ("ltdiff/registry/",),
    "ray": (
        "ltdiff/data/stream.py",
        "ltdiff/training/ray_glue.py",
        "ltdiff/training/ray_worker.py",
        "ltdiff/inference/batch.py",
        "ltdiff/radiomics/batch.py",
        "ltdiff/local_ray.py",
        "jobs/",
        "tuning/",
    ),
}


def find_violations(root: Path) -> list[str]:
    """One sentence for each import in ltdiff/, jobs/ and tuning/ below `root` that breaks the tables above."""
    found = []
    for path in sorted(path for top in ("ltdiff", "jobs", "tuning") for path in (root / top).rglob("*.py")):
        file = path.relative_to(root)
        for line, module in imported_modules(ast.parse(path.read_text()), file):
            if reason := reason_against(module, file):
                found.append(f"{file}:{line} imports {module}: {reason}")
    return found


def imported_modules(tree: ast.AST, file: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of all that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(file.parts[: len(file.parts) - node.level]) if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            # `from ltdiff import data` imports a part, `from ltdiff.data import rois` belongs to the part anyway
            names = [f"{module}.{alias.name}" for alias in node.names] if module in ("ltdiff", "jobs") else [module]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Call) and is_import_call(node):
            yield node.lineno, node.args[0].value


def is_import_call(node: ast.Call) -> bool:
    """`import_module("…")` or `__import__("…")` with a literal name."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return (
        name in ("import_module", "__import__")
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    )


def reason_against(module: str, file: Path) -> str | None:
    """Why `file` may not import `module`; None when it may."""
    top, _, rest = module.partition(".")
    if top in PLACES:
        places = PLACES[top]
        return None if file.as_posix().startswith(places) else f"{top} belongs to {', '.join(places)}"
    if top not in ("ltdiff", "jobs", "tuning"):
        return None
    importer, target = part_of(file), rest.split(".")[0] if top == "ltdiff" else top
    if importer == target or target in ("", "__version__") or importer == "__init__":
        return None if importer != "__init__" else "the package itself imports none of its parts"
    if importer not in MAY_IMPORT:
        return f"{importer} has no entry in MAY_IMPORT"
    return None if target in MAY_IMPORT[importer] else f"{importer} may not import {target}"


def part_of(file: Path) -> str:
    """ltdiff/data/rois.py -> data, ltdiff/cli.py -> cli, jobs/train_joint.py -> jobs; a script in tuning/ is itself."""
    if file.as_posix() in MAY_IMPORT:
        return file.as_posix()
    return file.with_suffix("").parts[1] if file.parts[0] == "ltdiff" else file.parts[0]


def test_imports_of_the_project_go_one_way():
    assert find_violations(REPOSITORY) == []


def test_every_part_has_its_entry():
    names = {path.name for path in (REPOSITORY / "ltdiff").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    names |= {path.stem for path in (REPOSITORY / "ltdiff").glob("*.py")} - {"__init__"}
    assert names <= set(MAY_IMPORT)


def test_allowed_imports_form_no_circle():
    done: set[str] = set()
    while ready := {part for part, targets in MAY_IMPORT.items() if part not in done and targets <= done}:
        done |= ready
    assert done == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("ltdiff/data/rois.py", "import ltdiff.evaluation.scoring"),
        ("ltdiff/data/rois.py", "from ltdiff.model import unetpp"),
        ("ltdiff/data/rois.py", "from ltdiff import model"),
        ("ltdiff/data/rois.py", "from ..model import unetpp"),
        ("ltdiff/data/rois.py", "from .. import model"),
        ("ltdiff/data/rois.py", "def f():\n    from ltdiff.training import loop"),
        ("ltdiff/data/rois.py", "if TYPE_CHECKING:\n    from ltdiff.training import loop"),
        ("ltdiff/data/rois.py", "importlib.import_module('ltdiff.training.loop')"),
        ("ltdiff/diffusion/sampler.py", "from ltdiff.model.denoiser import Denoiser"),
        ("ltdiff/model/ltdiff.py", "from ltdiff.registry import download"),
        ("ltdiff/training/loop.py", "import jobs.train_joint"),
        ("ltdiff/training/loop.py", "from tuning.space import Space"),
        ("ltdiff/cli.py", "from jobs import train_joint"),
        ("jobs/train_joint.py", "from tuning import search"),
        ("tuning/search.py", "from jobs import train_joint"),
        ("tuning/sweep.py", "from ltdiff.cli import run"),
        ("ltdiff/__init__.py", "from ltdiff.data import rois"),
        ("ltdiff/new_part/thing.py", "import ltdiff.data.rois"),
        ("ltdiff/data/manifest.py", "import pydicom"),
        ("ltdiff/simulation/dataset.py", "from pydicom.uid import generate_uid"),
        ("ltdiff/data/rois.py", "import SimpleITK as sitk"),
        ("ltdiff/evaluation/report.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("ltdiff/evaluation/scoring.py", "from radiomics import featureextractor"),
        ("ltdiff/comparators/linear.py", "from ltdiff.evaluation.scoring import score"),
        ("ltdiff/workflows/compare.py", "from combatlearn.core import ComBatModel"),
        ("ltdiff/training/loop.py", "import mlflow"),
        ("ltdiff/training/loop.py", "import ray.train"),
        ("jobs/train_joint.py", "import mlflow"),
    ],
)
def test_an_inverted_import_is_found(tmp_path, file, code):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert len(find_violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("ltdiff/evaluation/scoring.py", "from ltdiff.radiomics.pyradiomics import extract_features"),
        ("ltdiff/data/pairing.py", "from ..dicom.series import Series\nfrom .volume import Volume"),
        ("ltdiff/data/pairing.py", "from ltdiff import __version__\nimport ltdiff\nimport numpy as np"),
        ("ltdiff/radiomics/pyradiomics.py", "from radiomics import featureextractor"),
        ("ltdiff/evaluation/test_set.py", "from ltdiff.comparators.protocol import Method"),
        ("ltdiff/comparators/combat.py", "def f():\n    from combatlearn.core import ComBatModel"),
        ("ltdiff/cli.py", "from ltdiff import data, registry\nfrom tuning import search"),
        ("jobs/train_joint.py", "import ray\nfrom ltdiff.training import loop"),
    ],
)
def test_a_proper_import_is_let_through(tmp_path, file, code):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert find_violations(tmp_path) == []
