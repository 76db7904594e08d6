"""The whole path on simulated scans: scanner → pairs → four phases on Ray → registry → derived series → CCC table."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

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

logger = logging.getLogger(__name__)

STAGES = {
    "simulate": "scan simulated patients, and reconstruct each scan with two kernels",
    "pair": "find the pairs of series in the archive",
    "train": "train the four phases on the pairs of most patients (4 to 9 minutes)",
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
        return (report / TABLES_FILE).read_text()
    out.mkdir(parents=True, exist_ok=True)
    settings, stage = read_settings("demo"), partial(_stage, times=out / "times.json")
    archive, pairs, run, derived = (out / name for name in ("archive", "pairs.parquet", "run", DERIVED_FOLDER))
    model = run / MODEL_FOLDER
    with PeakMemory() as memory:
        with stage("simulate"):
            simulate(archive, config=SIMULATION, num_workers=2)
        with stage("pair"):
            write_manifest(pair_archive(archive, split=SPLIT).manifest, pairs)
        with stage("train"):
            train_on_ray(list(PHASES), manifest_path=pairs, out=run, settings=settings, in_mlflow=True)
        with stage("calibrate"):
            calibrate_run(read_manifest(pairs), model=model)
        with stage("register"):
            record_run(run)
        with stage("standardize"):
            _standardize_held_out(pairs, model=model, out=derived)
        with stage("evaluate"):
            tables = evaluate_model(
                pairs, model=model, out=report, config=EvaluationConfig(), inference=InferenceConfig(), mask=archive
            )
    facts = {
        "seconds": json.loads((out / "times.json").read_text()),
        "peak_memory_bytes": memory.peak_bytes,
        "versions": {"ltdiff": __version__, **{name: version(name) for name in REPORTED_VERSIONS}},
        "training_seed": settings.training.seed,
    }
    add_to_summary(report, facts)
    # Written last: where this file is, the demo is done.
    write_text(report / TABLES_FILE, tables + "\n")
    return tables + "\n"


def _standardize_held_out(pairs: Path, *, model: Path, out: Path) -> None:
    """Standardize the source series of the test patients."""
    manifest = read_manifest(pairs)
    held_out = manifest[(manifest["split"] == "test") & (manifest["role"] == "source")]
    for folder in sorted({Path(path).parent for path in held_out["path"]}):
        if exit_code(standardize_archive(folder, model=model, out=out)) != 0:
            raise ValueError(f"{folder} could not be standardized; the log says why")


@contextmanager
def _stage(name: str, times: Path) -> Iterator[None]:
    """Announce a stage, and add its seconds to those of interrupted runs in the file `times`."""
    logger.info("stage %d of %d: %s", list(STAGES).index(name) + 1, len(STAGES), STAGES[name])
    seconds: dict[str, float] = json.loads(times.read_text()) if times.is_file() else {}
    started_s = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = round(seconds.get(name, 0) + time.monotonic() - started_s, 1)
        write_text(times, json.dumps(seconds) + "\n")
