"""The whole path on simulated scans: scanner → pairs → three phases on Ray → registry → derived series → CCC table."""

import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from ltdiff import __version__
from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.data.pairing import pair_archive
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.evaluation.report import add_to_summary
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.results import exit_code
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.dataset import simulate
from ltdiff.system.atomic_files import write_text
from ltdiff.system.resources import PeakMemory
from ltdiff.training.config import read_settings
from ltdiff.training.finish_run import record_run
from ltdiff.training.phases import PHASES
from ltdiff.training.ray_driver import train_on_ray
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.uncertainty.calibration import calibrate_run

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

STAGES = {
    "simulate": "scan simulated patients, and reconstruct each scan with two kernels",
    "pair": "find the pairs of series in the archive",
    "train": "train the three phases on the pairs of most patients (4 to 9 minutes)",
    "calibrate": "learn from validation slices what the model leaves over",
    "register": "log the run and its model in MLflow",
    "standardize": "write the held-out scans as derived DICOM series",
    "evaluate": "compare the radiomic features of the held-out scans",
}
SIMULATION = SimulationConfig(num_lesions=20)
"""So many lesions that one patient's cross-sections are enough for a CCC: of a dozen, two features of small counts decide."""
SPLIT = "patient:0.7"
REPORTED_VERSIONS = ("ray", "torch", "numpy", "pydicom", "pyradiomics-bhklab", "mlflow")
REPORT_FOLDER, DERIVED_FOLDER = "report", "standardized"
TABLES_FILE = "tables.md"


def run_demo(out: Path) -> str:
    """Run the demo in the folder `out`, or what is left of it, and return its tables as Markdown."""
    report = out / REPORT_FOLDER
    if (report / TABLES_FILE).is_file():
        logger.info("%s: the demo is done already; delete the folder to run it again", out)
    else:
        _run_stages(out, report)
    return (report / TABLES_FILE).read_text()


def _run_stages(out: Path, report: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    stages = _Stages(out / "times.json")
    settings = read_settings("demo")
    archive, pairs, run, derived = (out / name for name in ("archive", "pairs.parquet", "run", DERIVED_FOLDER))
    with PeakMemory() as memory:
        stages.run("simulate", lambda: simulate(archive, config=SIMULATION, num_workers=2))
        stages.run("pair", lambda: write_manifest(pair_archive(archive, split=SPLIT).manifest, pairs))
        stages.run("train", lambda: train_on_ray(list(PHASES), manifest_path=pairs, out=run, settings=settings))
        stages.run("calibrate", lambda: calibrate_run(read_manifest(pairs), model=run / MODEL_FOLDER))
        stages.run("register", lambda: record_run(run))
        stages.run("standardize", lambda: _standardize_held_out(pairs, model=run / MODEL_FOLDER, out=derived))
        tables = stages.run(
            "evaluate",
            lambda: evaluate_model(
                pairs, model=run / MODEL_FOLDER, out=report, config=EvaluationConfig(), inference=InferenceConfig(), mask=archive
            ),
        )
    add_to_summary(
        report,
        {
            "seconds": stages.seconds,
            "peak_memory_bytes": memory.peak_bytes,
            "versions": {"ltdiff": __version__, **{name: version(name) for name in REPORTED_VERSIONS}},
            "training_seed": settings.training.seed,
        },
    )
    # Written last: where this file is, the demo is done.
    write_text(report / TABLES_FILE, tables + "\n")


def _standardize_held_out(pairs: Path, *, model: Path, out: Path) -> None:
    """Standardize the source series of the test patients."""
    manifest = read_manifest(pairs)
    held_out = manifest[(manifest["split"] == "test") & (manifest["role"] == "source")]
    for folder in sorted({Path(path).parent for path in held_out["path"]}):
        if exit_code(standardize_archive(folder, model=model, out=out)) != 0:
            raise ValueError(f"{folder} could not be standardized; the log says why")


class _Stages:
    """Runs the stages one after the other, and keeps in a file the seconds of each, summed over interrupted runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def run(self, stage: str, work: Callable[[], Result]) -> Result:
        logger.info("stage %d of %d: %s", list(STAGES).index(stage) + 1, len(STAGES), STAGES[stage])
        started_s = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0) + time.monotonic() - started_s, 1)
            write_text(self.path, json.dumps(self.seconds) + "\n")
