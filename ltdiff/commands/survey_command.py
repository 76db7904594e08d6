"""`ltdiff survey`."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

COLUMNS = {
    "protocol_id": "id",
    "name": "protocol",
    "num_patients": "patients",
    "num_series": "series",
    "num_slices": "slices",
    "noise_hu": "noise (HU)",
    "mtf50_skin_per_mm": "MTF 50 %, skin (1/mm)",
    "mtf50_lung_per_mm": "MTF 50 %, lung (1/mm)",
}
"""Of the table of protocols, under the names by which they are printed."""
MAX_SHOWN = 20
MAX_LOGGED = 10
"""Of each kind: an archive may hold thousands of files that are no CT. issues.csv names them all."""


def survey(root: Path, /, *, out: Path, num_workers: int = 1) -> int:
    """Look through an archive: its protocols, their noise and sharpness, and which could be standardized to which.

    Run it again to resume, or when the archive has grown.

    Args:
        root: Folder tree of DICOM series.
        out: Folder for tables and pictures.
        num_workers: Ray tasks that read at a time; with one, no Ray is started.
    """
    from ltdiff.survey.archive_survey import draw_survey, survey_archive

    found = survey_archive(root, out=out, num_workers=num_workers)
    draw_survey(found, out)
    for action in ("skip", "fail"):
        issues = [issue for issue in found.issues if issue.action == action]
        for issue in issues[:MAX_LOGGED]:
            logger.warning("%s: %s", action, issue)
        if len(issues) > MAX_LOGGED:
            logger.warning("%s: %d more, all in %s", action, len(issues) - MAX_LOGGED, out / "issues.csv")
    print(found.protocols[list(COLUMNS)].head(MAX_SHOWN).rename(columns=COLUMNS).to_markdown(index=False, floatfmt=".3g"))
    num_possible = int(found.standardizable["possible"].sum())
    print(
        f"{out}: {len(found.protocols)} protocols, {len(found.series)} series, {found.series['num_slices'].sum()} slices; "
        f"{num_possible} of {len(found.standardizable)} ways from one protocol to another are open (standardizable.csv)"
    )
    return int(any(issue.action == "fail" for issue in found.issues))
