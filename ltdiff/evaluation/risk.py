"""Does a patient's risk score change with the kernel, and does it agree with the target's after standardizing?

Each scan is given to the model three ways: source, standardized by each method, target. An AUC would hide what a kernel does: it
asks who ranks before whom, and the scores of all may move together.

out/risk/<key>.csv    the table of one image, kept: the same command again goes on from there
out/risk/<key>.txt    the last lines of a run that failed; they may name the patient
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import ltdiff
from ltdiff.data.paired_scans import PairedScan, axial_difference
from ltdiff.evaluation.agreement import AGREEMENT_COLUMNS, agreement, agreement_headings
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.markdown import Section
from ltdiff.evaluation.risk_command import RiskCommand, RiskCommandError, RiskScores, parse_scores
from ltdiff.evaluation.scoring import SOURCE
from ltdiff.inference.anonymous_series import write_anonymous_series
from ltdiff.inference.method import Method, Slices
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.system.atomic_files import PARTIAL_PREFIX, remove_partial_folders, write_text
from ltdiff.system.lock import only_writer
from ltdiff.system.progress import progress
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

FOLDER = "risk"
COLUMNS = {"year": ("year", ""), **agreement_headings(4)}
SCORE_COLUMNS = ("scan", "series_uid", "method", "year", "score", "target", "difference", "reason")


class RiskResult(NamedTuple):
    """`scores`: SCORE_COLUMNS, the target's own among them; `agreement`: year, method, means and AGREEMENT_COLUMNS.

    `failures` are sentences on what is missing, each of which names a scan by its number; `num_trained` scans have slices that
    train the model.
    """

    scores: pd.DataFrame
    agreement: pd.DataFrame
    failures: list[str]
    num_scans: int
    num_trained: int


@dataclass(frozen=True)
class RiskEvaluation:
    """The command, what standardizes, and a text that changes whenever any method's images would."""

    command: RiskCommand
    methods: Mapping[str, Method]
    identity: str
    num_workers: int = 1

    def score(self, scans: Sequence[PairedScan], *, out: Path) -> RiskResult:
        """Score the scans; what fails costs itself alone. ValueError where another job writes `out`."""
        images = (SOURCE, *self.methods, TARGET)
        found: dict[tuple[int, str], RiskScores] = {}
        with only_writer(out / FOLDER), progress(name="risk", unit="score", total=len(scans) * len(images)) as bar:
            remove_partial_folders(out / FOLDER)
            for number, scan in enumerate(scans):
                unfit = _unfit(scan)
                for name in images:
                    try:
                        if unfit:
                            raise RiskCommandError(unfit)
                        found[number, name] = self._score_image(scan, name, out / FOLDER)
                    except ValueError as error:
                        found[number, name] = RiskScores({}, {}, str(error))
                        logger.warning("no risk score of scan %d, %s: %s", number, name, error)
                    bar.update()
            years = {year for one in found.values() for year in one.scores}
            for (number, name), one in found.items():
                if not years <= one.scores.keys():  # what lacks a year is asked again
                    self._kept(scans[number], name, out / FOLDER).unlink(missing_ok=True)
        return _result(scans, found)

    def _score_image(self, scan: PairedScan, name: str, folder: Path) -> RiskScores:
        kept = self._kept(scan, name, folder)
        printed = kept.with_suffix(".txt")
        if kept.is_file():
            return parse_scores(kept.read_text())
        printed.unlink(missing_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=folder) as work:
                series = Path(work) / "series"
                write_anonymous_series(
                    self._make_image(scan, name),
                    out_dir=series,
                    key=kept.stem,
                    spacing_mm=scan.spacing_mm,
                    slice_thickness_mm=scan.slice_thickness_mm,
                )
                table = self.command.run(series, work=Path(work))
                scores = parse_scores(table)
        except RiskCommandError as error:
            if not error.output:
                raise
            write_text(printed, error.output)
            raise RiskCommandError(f"{error}; what it printed last is in {printable(printed)}") from error
        if not scores.reasons:
            write_text(kept, table)
        return scores

    def _make_image(self, scan: PairedScan, name: str) -> Slices:
        if name == TARGET:
            return scan.read_target()
        source = scan.read_source()
        if name == SOURCE:
            return source
        made = standardize_slices(
            self.methods[name],
            source,
            np.tile(scan.spacing_mm[1:], (len(source), 1)),
            numbers=scan.numbers,
            series=scan.sources["series_uid"],
            num_workers=self.num_workers,
            name=name,
        )
        return np.stack(made)

    def _kept(self, scan: PairedScan, name: str, folder: Path) -> Path:
        """Where the table of an image is kept: what would change it changes the file's name."""
        facts = [self.command.words, scan.fingerprint, name]
        if name in self.methods:
            facts += [self.identity, ltdiff.__version__]
        return folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.csv"


def _unfit(scan: PairedScan) -> str:
    """Why a scan cannot be given to a risk model; "" where it can."""
    try:
        reason = axial_difference(scan)
    except ValueError as error:
        return str(error)
    return f"it is no stack of axial slices at equal distances: {reason}" if reason else ""


def _result(scans: Sequence[PairedScan], found: Mapping[tuple[int, str], RiskScores]) -> RiskResult:
    years = sorted({year for one in found.values() for year in (*one.scores, *one.reasons)})
    rows, failures = [], []
    for (number, name), one in found.items():
        reasons = {year: one.failure or one.reasons.get(year, "the score is missing") for year in years if year not in one.scores}
        if one.failure:
            failures.append(f"scan {number}, {name}: {one.failure}")
        else:
            failures += [f"scan {number}, {name}, year {year}: {reason}" for year, reason in reasons.items()]
        for year in years:
            score, target = one.scores.get(year, np.nan), found[number, TARGET].scores.get(year, np.nan)
            place = (number, scans[number].sources["series_uid"].iloc[0], name, year)
            rows.append((*place, score, target, score - target, reasons.get(year, "")))
    scores = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    return RiskResult(scores, _agreement(scores), failures, len(scans), sum(scan.num_trained > 0 for scan in scans))


def _agreement(scores: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (year, method), group in scores[scores["method"] != TARGET].groupby(["year", "method"], sort=False):
        both = group.dropna(subset=["score", "target"])
        means = both["score"].mean(), both["target"].mean()
        values = agreement(both["score"].to_numpy(float), both["target"].to_numpy(float)).values()
        rows.append((year, method, *means, *values))
    table = pd.DataFrame(rows, columns=["year", "method", "mean", "target_mean", *AGREEMENT_COLUMNS])
    return table.sort_values("year", kind="stable", ignore_index=True)


def risk_section(result: RiskResult) -> Section:
    """What a reader is told of the scores."""
    note = (
        f"Whole scans ({result.num_scans}), each as the source, standardized by each method, and as the target. Mean, and that "
        "of the target; mean absolute difference to the target, bias and 95 % limits of agreement (Bland and Altman), and CCC, "
        "over the scans that have both. Scan by scan in risk_scores.csv."
    )
    if result.num_trained:
        note += f" Slices of {result.num_trained} of these scans are in the training split, which makes the differences smaller."
    if result.failures:
        note += f" **Missing:** {len(result.failures)}, see the reasons in risk_scores.csv or in the log."
    table = result.agreement.drop(columns="sd").dropna(axis=1, how="all") if len(result.agreement) else None
    return Section("## Risk scores", note, table, COLUMNS)
