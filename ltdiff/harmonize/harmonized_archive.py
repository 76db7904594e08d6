"""`ltdiff harmonize`: every series of an archive becomes comparable with those of the target kernel, with pairs or without.

out/protocols/ID/pairs.parquet  the manifest of a source protocol, and of the target's series of its slice thickness
out/protocols/ID/run/           its match, or its training; the model is kept, and series that come later get the same
out/images/                     the standardized series, and report.csv
"""

import logging
from dataclasses import replace
from pathlib import Path

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.data.pairing import read_archive
from ltdiff.dicom.archive_files import Issue
from ltdiff.harmonize.plan import SourceProtocol, assigned_models, plan
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import Assignment
from ltdiff.inference.results import SeriesResult
from ltdiff.system.lock import only_writer
from ltdiff.system.text import printable
from ltdiff.training.config import Settings
from ltdiff.training.match_model import fit_match_model
from ltdiff.training.phase_training import train_here
from ltdiff.training.run import MODEL_FOLDER
from ltdiff.uncertainty.calibration import calibrate_run

logger = logging.getLogger(__name__)

PROTOCOLS_FOLDER, IMAGES_FOLDER, RUN_FOLDER = "protocols", "images", "run"
MANIFEST_FILE = "pairs.parquet"
FITTING_SPLIT = "z:1"
"""All series are matched and standardized: nothing is held back to be scored. The last eighth of each validates a training."""


def harmonize_archive(
    root: Path,
    *,
    target_kernel: str,
    out: Path,
    minutes: float | None = None,
    settings: Settings,
    inference: InferenceConfig = InferenceConfig(),
    num_workers: int = 1,
) -> list[SeriesResult]:
    """Match every source protocol of `root` to the target kernel, standardize its series, and return what became of each.

    With `minutes` LTDiff++ is trained, so long in all. Run it again to resume.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: no series has the target kernel; nothing can be used; or another job writes `out`.
    """
    root, out = root.absolute(), out.absolute()
    with only_writer(out):
        content = read_archive(root, target_kernel=target_kernel)
        protocols, issues = plan(content, target_kernel=target_kernel)
        fitted, unfitted = _fit(protocols, out, minutes=minutes, settings=settings)
        issues = [*content.issues, *issues, *unfitted]
    return standardize_archive(
        root,
        model=Assignment(target_kernel, assigned_models(fitted), {issue.path: issue.reason for issue in issues}),
        out=out / IMAGES_FOLDER,
        inference=inference,
        num_workers=num_workers,
        target_kernel=target_kernel,
    )


def _fit(
    protocols: list[SourceProtocol], out: Path, *, minutes: float | None, settings: Settings
) -> tuple[list[tuple[SourceProtocol, Path]], list[Issue]]:
    """The model of each protocol; one that cannot be matched costs its own series alone."""
    fitted, issues = [], []
    for number, one in enumerate(protocols, start=1):
        name = f"protocol {number} of {len(protocols)}, {one.protocol.protocol_id}"
        logger.info("%s: %d series of kernel %r, %d pairs", name, len(one.scans), one.protocol.kernel, len(one.pairs))
        folder = out / PROTOCOLS_FOLDER / one.protocol.protocol_id
        share = None if minutes is None else minutes / len(protocols)
        try:
            fitted.append((one, _fit_protocol(one, folder, minutes=share, settings=settings)))
        except (ValueError, FloatingPointError) as error:
            reason = f"cannot be matched to the target: {error}"
            issues += [Issue(scan.path, "fail", f"the series of {printable(scan.path)} {reason}") for scan in one.scans]
    return fitted, issues


def _fit_protocol(protocol: SourceProtocol, folder: Path, *, minutes: float | None, settings: Settings) -> Path:
    model = folder / RUN_FOLDER / MODEL_FOLDER
    if model.is_dir():
        logger.info("its model is there already: %s", printable(model))
        return model
    if (folder / MANIFEST_FILE).is_file():  # what an interrupted run began with
        manifest = read_manifest(folder / MANIFEST_FILE)
    else:
        manifest = protocol.manifest(FITTING_SPLIT)
        write_manifest(manifest, folder / MANIFEST_FILE)
    if minutes is None:
        return fit_match_model(manifest, out=folder / RUN_FOLDER, settings=settings)
    training = replace(settings.training, minutes=minutes)
    train_here(manifest, out=folder / RUN_FOLDER, settings=replace(settings, training=training))
    calibrate_run(manifest, model=model)
    return model
