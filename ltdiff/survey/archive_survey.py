"""A survey of an archive: its protocols, what they look like, and what could be standardized to what.

out/protocols.csv, .parquet        one row per protocol
out/series.csv, .parquet           one row per series, with the protocol_id of its protocol
out/curves.csv, .parquet           noise spectrum and edge responses of each protocol
out/standardizable.csv, .parquet   one row for each two protocols
out/issues.csv                     what could not be used, and why
out/protocols.png, noise.png, curves.png   by `draw_survey`
out/pixels.jsonl    for the next run, which measures only what is new
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.series import FoundSeries, find_archived_series, no_series_error
from ltdiff.survey.kept_results import KeptResults
from ltdiff.survey.pixel_survey import Measured, survey_pixels
from ltdiff.survey.protocol_table import curve_table, protocol_table, series_table
from ltdiff.survey.series_record import SeriesRecord, records_of
from ltdiff.survey.standardizable import standardizable_table
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.lock import only_writer
from ltdiff.system.remote_input import as_locations
from ltdiff.system.storage_url import with_urls
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """What was found; see the module's files for the tables."""

    protocols: pd.DataFrame
    series: pd.DataFrame
    curves: pd.DataFrame
    standardizable: pd.DataFrame
    issues: list[Issue]


def survey_archive(root: Path, *, out: Path, num_workers: int = 1, found: FoundSeries | None = None) -> Survey:
    """Survey the folder `root` and write the tables to `out`. Run it again to resume, or after the archive has grown.

    With several workers, or in a Ray cluster, headers and pixels are read by tasks of Ray. Of series that were `found` already no
    header is read again.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: `root` is no folder, there are only series that cannot be used; another job writes `out`.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    root, out = root.absolute(), out.absolute()
    if not root.is_dir():
        raise ValueError(f"{printable(root)} is no folder")
    with only_writer(out):
        if found is None:
            found = find_archived_series(root, without=out, num_workers=num_workers)
        records, issues = records_of(found)
        if not records:
            raise no_series_error(root, [], issues)
        with KeptResults(out / "pixels.jsonl") as kept:
            measured = survey_pixels(records, kept=kept, num_workers=num_workers)
        issues += [problem for one in measured.values() for problem in one.problems]
        survey = _tables(records, measured, issues)
        _write_tables(survey, out)
    return survey


def draw_survey(survey: Survey, out: Path) -> None:
    """Write the pictures of a survey to the folder `out`."""
    from ltdiff.survey.survey_figures import draw_curves, draw_noise_levels, draw_protocols

    figures = {
        "protocols": draw_protocols(survey.protocols),
        "noise": draw_noise_levels(survey.protocols),
        "curves": draw_curves(survey.curves, survey.protocols),
    }
    for name, figure in figures.items():
        replace_file(out / f"{name}.png", partial(figure.savefig, dpi=150))


def _tables(records: Sequence[SeriesRecord], measured: dict[str, Measured], issues: list[Issue]) -> Survey:
    series = series_table(records)
    return Survey(
        protocols=protocol_table(series, measured),
        series=series,
        curves=curve_table(measured),
        standardizable=standardizable_table(records, measured),
        issues=issues,
    )


def _write_tables(survey: Survey, out: Path) -> None:
    for name in ("protocols", "series", "curves", "standardizable"):
        table: pd.DataFrame = getattr(survey, name)
        if "folder" in table:
            table = table.assign(folder=as_locations(table["folder"]))
        write_text(out / f"{name}.csv", table.to_csv(index=False))
        replace_file(out / f"{name}.parquet", partial(table.to_parquet, index=False))
    rows = [(with_urls(printable(one.path)), one.action, with_urls(one.reason)) for one in survey.issues]
    write_text(out / "issues.csv", pd.DataFrame(rows, columns=["path", "action", "reason"]).to_csv(index=False))
