"""A risk model in an environment of its own: a command that reads a folder of DICOM files and writes a table of scores.

The table is a CSV file with the columns `year` (1 to 6) and `score` (a probability, 0 to 1), a row for each year.
"""

import csv
import math
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ltdiff.system.process_group import run_program
from ltdiff.system.text import quoted, system_reason

YEARS = range(1, 7)
PLACES = ("{dir}", "{out}")
DEFAULT_TIMEOUT_MINUTES = 60.0
NUM_LAST_LINES = 40
MAX_OUTPUT_BYTES = 100_000
MAX_TABLE_BYTES = 100_000
"""A table has six rows; more than 131,072 characters in a field are an error of csv's own."""


class RiskCommandError(ValueError):
    """The command gave no table; `output` are the last lines that it printed, which may name the patient."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output


class RiskScores(NamedTuple):
    """Scores by year, and of the years without a usable one the reason; `failure` says why there is no table at all."""

    scores: dict[int, float]
    reasons: dict[int, str]
    failure: str = ""


@dataclass(frozen=True)
class RiskCommand:
    """Words of a command, in which `{dir}` and `{out}` stand for the folder of a scan and for the table to write."""

    words: tuple[str, ...]
    timeout_s: float

    @classmethod
    def parse(cls, command: str, *, timeout_minutes: float) -> "RiskCommand":
        """Of a line as a shell reads it, which is not run by one: no pipes, no redirection.

        Raises:
            ValueError: a placeholder is missing, the program is not there, or the time is none.
        """
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise ValueError(f"--risk_command cannot be read: {str(error).lower()}") from error
        for place in PLACES:
            if not any(place in word for word in words):
                raise ValueError(f"--risk_command needs {place}, got {quoted(command)}")
        if shutil.which(words[0]) is None:
            raise ValueError(f"--risk_command: there is no program {quoted(words[0])}")
        if not 0 < timeout_minutes < math.inf:
            raise ValueError(f"--risk_timeout_minutes must be above 0, got {timeout_minutes:g}")
        return cls(words, 60 * timeout_minutes)

    def run(self, series: Path, *, work: Path) -> str:
        """The table that the command writes for a folder of DICOM files; `work` is a folder for it and for what is printed.

        Raises:
            RiskCommandError: it took too long, failed, or wrote nothing or far too much.
        """
        table, printed = work / "scores.csv", work / "output.txt"
        words = [word.replace("{dir}", str(series.absolute())).replace("{out}", str(table.absolute())) for word in self.words]
        try:
            exit_code = run_program(words, timeout_s=self.timeout_s, output=printed)
        except subprocess.TimeoutExpired:
            reason = f"it took longer than {self.timeout_s / 60:g} minutes and was ended"
            raise RiskCommandError(reason, _last_lines(printed)) from None
        except OSError as error:
            raise RiskCommandError(f"it cannot be started: {system_reason(error)}") from error
        if exit_code:
            how = f"with exit code {exit_code}" if exit_code > 0 else f"by signal {-exit_code}"
            raise RiskCommandError(f"it ended {how}", _last_lines(printed))
        if not table.is_file():
            raise RiskCommandError("it wrote no table", _last_lines(printed))
        with table.open("rb") as file:
            content = file.read(MAX_TABLE_BYTES + 1)
        if len(content) > MAX_TABLE_BYTES:
            raise RiskCommandError(f"its table has more than {MAX_TABLE_BYTES:,} bytes", _last_lines(printed))
        return content.decode("utf-8-sig", errors="replace")


def parse_scores(text: str) -> RiskScores:
    """Read a table. A score that is no probability costs itself alone.

    Raises:
        RiskCommandError: it is no such table, or has no row.
    """
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"year", "score"} <= rows[0].keys():
        raise RiskCommandError("its table has no rows with the columns year and score")
    found = RiskScores({}, {})
    for row in rows:
        year = _year(row["year"])
        if year in found.scores or year in found.reasons:
            raise RiskCommandError(f"its table has year {year} twice")
        score, reason = _score(row["score"])
        if reason:
            found.reasons[year] = reason
        else:
            found.scores[year] = score
    return found


def _year(text: str | None) -> int:
    try:
        year = int(text or "")
    except ValueError:
        year = 0
    if year not in YEARS:
        raise RiskCommandError(f"its table has the year {quoted(text)}, which is none of 1 to {YEARS[-1]}")
    return year


def _score(text: str | None) -> tuple[float, str]:
    """The score, and why it is none."""
    if not (text or "").strip():
        return math.nan, "the score is missing"
    try:
        score = float(text or "")
    except ValueError:
        return math.nan, f"the score {quoted(text)} is no number"
    return score, "" if 0 <= score <= 1 else f"the score {score:g} is no probability"


def _last_lines(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_OUTPUT_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "".join(f"{line}\n" for line in lines[-NUM_LAST_LINES:])
