"""What became of each series and file of an archive: for the log, the report and the exit code."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ltdiff.system.atomic_files import write_text
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

MAX_LOGGED_FILES = 10
"""An archive may hold thousands of files that are no CT: the report names them all, the log only the first."""


Status = Literal["written", "present", "skip", "fail"]


@dataclass(frozen=True)
class SeriesResult:
    """What became of a series, or of a file that belongs to none (`num_slices` 0).

    `source` is the file, or the first file of the series. `status`: "written" now; "present" from an earlier run; "skip":
    left alone as it should be; "fail": could not be done. `reason` is one sentence for the last two, and for the first two the
    warning that the output bears when it was forced. `model` is the folder of the model that was chosen for a series.
    """

    source: Path
    status: Status
    reason: str = ""
    output: Path | None = None
    num_slices: int = 0
    seconds: float = 0.0
    model: Path | None = None


def log_results(results: Sequence[SeriesResult]) -> None:
    """Name what was skipped and what failed, the failures last, and count."""
    skips, fails = ([one for one in results if one.status == status] for status in ("skip", "fail"))
    files, series = ([one for one in skips if bool(one.num_slices) == is_series] for is_series in (False, True))
    for result in files[:MAX_LOGGED_FILES]:
        logger.info("skipped: %s", result.reason)
    if len(files) > MAX_LOGGED_FILES:
        logger.info("skipped: %d more files, all in the report", len(files) - MAX_LOGGED_FILES)
    for result in series:
        logger.info("skipped: %s", result.reason)
    for result in fails:
        logger.error("failed: %s", result.reason)
    written, present = (sum(one.status == status for one in results) for status in ("written", "present"))
    logger.info("%d written, %d present already, %d skipped, %d failed", written, present, len(skips), len(fails))


def write_report(results: Sequence[SeriesResult], path: Path, *, root: Path) -> None:
    """Write a CSV table with one row per result of an archive `root`.

    Of the rows that the file has already, those of outputs stay that were not made again (by another model, say), and of other
    archives all. What failed or was skipped below `root` is what this run says of it.
    """
    table = pd.DataFrame([asdict(one) for one in results])
    table["source"] = [printable(one.source) for one in results]
    for column in ("output", "model"):
        paths = [getattr(one, column) for one in results]
        table[column] = ["" if path is None else printable(path) for path in paths]
    before = _read_report(path)
    if before is not None:
        below = [Path(source).is_relative_to(printable(root)) for source in before["source"]]
        before = before[(before["output"] != "") | ~np.array(below, bool)]
        table = pd.concat([before, table]).drop_duplicates(["source", "output"], keep="last").fillna("")
    write_text(path, table.to_csv(index=False))


def _read_report(path: Path) -> pd.DataFrame | None:
    """The rows of an earlier run; a file in which there are none (a spreadsheet may have saved it anew) is set aside."""
    if not path.is_file():
        return None
    try:
        before = pd.read_csv(path, keep_default_na=False)
        if {"source", "output"} <= set(before.columns):
            return before
    except ValueError:  # pandas' own, and characters that are no UTF-8
        pass
    aside = path.with_name(f"{path.name}.old")
    path.replace(aside)
    logger.warning("%s was not as ltdiff had written it, and is %s now", printable(path), aside.name)
    return None


def exit_code(results: Sequence[SeriesResult]) -> int:
    """1 when anything failed, else 0."""
    return int(any(one.status == "fail" for one in results))
