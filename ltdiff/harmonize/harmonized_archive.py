"""`ltdiff harmonize`: every series of an archive becomes comparable with those of the target kernel, with pairs or without.

out/survey/                     what the archive holds, and what could be standardized to what (survey/archive_survey)
out/protocols/ID/run/model      the model of a source protocol (fit_protocols)
out/images/                     the standardized series, and report.csv
out/reports/ID/                 how like the target the protocol is, before and after
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ltdiff.data.manifest import read_manifest
from ltdiff.data.pairing import read_archive
from ltdiff.dicom.series import find_archived_series
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.harmonize.archive_endpoints import measure_archive
from ltdiff.harmonize.fit_protocols import fit_protocols, manifest_path
from ltdiff.harmonize.plan import SourceProtocol, assigned_models, plan
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import Assignment
from ltdiff.inference.results import SeriesResult
from ltdiff.survey.archive_survey import draw_survey, survey_archive
from ltdiff.system.lock import only_writer
from ltdiff.training.config import Settings

logger = logging.getLogger(__name__)

SURVEY_FOLDER, IMAGES_FOLDER = "survey", "images"
REPORTS_FOLDER, REPORT_FILE = "reports", "report.md"
REPORTED_SPLIT: Literal["val"] = "val"
NUM_SLICES, NUM_ROIS = 40, 20
"""Slices of source and target, and regions of each tissue, that the report looks at: a sample, for it shall not take longer than
the rest (docs/notes/speed.md has what more slices change)."""


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
    """Survey `root`, match every source protocol to the target kernel, standardize its series; return what became of each.

    With `minutes` LTDiff++ is trained, so long in all, once for all protocols. Run it again to resume.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: no series has the target kernel; nothing can be used; or another job writes `out`.
    """
    root, out = root.absolute(), out.absolute()
    with only_writer(out):
        found = find_archived_series(root, without=out, num_workers=num_workers)  # an earlier run's output is in `out`
        survey = survey_archive(root, out=out / SURVEY_FOLDER, num_workers=num_workers, found=found)
        draw_survey(survey, out / SURVEY_FOLDER)
        content = read_archive(root, target_kernel=target_kernel, found=found)
        protocols, issues = plan(content, target_kernel=target_kernel)
        fitted, unfitted = fit_protocols(protocols, out, minutes=minutes, settings=settings)
        issues = [*content.issues, *issues, *unfitted]
    results = standardize_archive(
        root,
        model=Assignment(target_kernel, assigned_models(fitted), {issue.path: issue.reason for issue in issues}),
        out=out / IMAGES_FOLDER,
        inference=inference,
        num_workers=num_workers,
        found=found,
    )
    for protocol, model in fitted:
        _report(protocol, model, out, results, inference=inference, num_workers=num_workers)
    return results


def _report(
    protocol: SourceProtocol,
    model: Path,
    out: Path,
    results: Sequence[SeriesResult],
    *,
    inference: InferenceConfig,
    num_workers: int,
) -> None:
    """Measure some slices of a protocol, and end points of some patients, before and after, unless that is done."""
    protocol_id = protocol.protocol.protocol_id
    report = out / REPORTS_FOLDER / protocol_id
    if (report / REPORT_FILE).is_file():
        return
    path = manifest_path(protocol, out)
    config = EvaluationConfig(split=REPORTED_SPLIT, num_slices=NUM_SLICES, num_rois=NUM_ROIS, num_workers=num_workers)
    try:
        tables = evaluate_model(
            path,
            model=model,
            out=report,
            config=config,
            inference=inference,
            endpoints=lambda: measure_archive(read_manifest(path), results),
        )
    except ValueError as error:
        logger.warning("there is no report of protocol %s: %s", protocol_id, error)
        return
    logger.info("protocol %s (kernel %r), before and after:\n%s", protocol_id, protocol.protocol.kernel, tables)
