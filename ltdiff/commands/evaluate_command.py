"""`ltdiff evaluate`, and the job that extracts the features on Ray."""

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

from ltdiff.commands.command_line import Config, Hidden, Set, UsageError

if TYPE_CHECKING:
    from ltdiff.evaluation.risk_command import RiskCommand


def evaluate(
    pairs: Path,
    /,
    *,
    model: str,
    out: Path,
    mask: Path | None = None,
    lung_mask: Path | None = None,
    risk_command: str | None = None,
    risk_timeout_minutes: float | None = None,
    features: Literal["pyradiomics", "catalogue", "ibsi", "wavelet"] | None = None,
    config: Config = "default",
    settings: Set = (),
    on_ray: Annotated[bool, Hidden] = False,
) -> int:
    """Score source, linear match and LTDiff++ on held-out pairs: CCC of radiomic features, relative error, image metrics.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        model: Folder of a trained model, or models:/ltdiff@champion.
        out: Folder for tables (CSV, Markdown) and figures (PNG).
        mask: Lesion mask: a volume file, a DICOM SEG, or a folder of DICOM SEG files.
        lung_mask: Mask of the lungs of pairs, for the clinical end points; without it, lungs are found in the target by
            thresholds.
        risk_command: Command of a risk model, which reads the DICOM files in {dir} and writes the scores of years 1 to 6 to
            the CSV file {out}. It is run on source, standardized images and target of every scan. Run it again to resume.
        risk_timeout_minutes: Time of each of its runs, after which it is ended; 60 without this.
        features: Four classes of PyRadiomics (the default), all 1,450 features of the catalogue, the 455 of IBSI, or 702 of
            intensity, texture and wavelets.
    """
    risk = _parse_risk(risk_command, risk_timeout_minutes)  # before minutes of work
    from ltdiff.commands.command_line import resolve_model
    from ltdiff.commands.configuration import read_settings_of

    options = {"evaluation.features": features}
    configuration = read_settings_of(config, settings, sections=["inference", "evaluation"], options=options)

    from ltdiff.evaluation.evaluate_model import evaluate_model
    from ltdiff.radiomics.ray_extraction import extract_on_ray

    folder = resolve_model(model)
    extract = partial(extract_on_ray, folder=out / "regions", num_workers=configuration.evaluation.num_workers)
    tables = evaluate_model(
        pairs,
        model=folder,
        out=out,
        mask=mask,
        lung_mask=lung_mask,
        risk=risk,
        config=configuration.evaluation,
        inference=configuration.inference,
        extract_all=extract if on_ray else None,
    )
    _log_report(out, model=folder, scored=f"{configuration.evaluation.split}-{configuration.evaluation.features}")
    print(f"{tables}\nreport: {out / 'report.md'}")
    return 0


def _log_report(out: Path, *, model: Path, scored: str) -> None:
    """Of a registered model: add to its run what the report says of all scans together."""
    from ltdiff.evaluation.report import SUMMARY_FILE, copy_shareable
    from ltdiff.registry.model_reports import log_report

    fingerprint = json.loads((out / SUMMARY_FILE).read_text())["data_fingerprint"]
    with TemporaryDirectory(prefix="ltdiff-") as shareable:
        copy_shareable(out, Path(shareable))
        log_report(model, Path(shareable), place=f"evaluation/{fingerprint[:10]}-{scored}")


def _parse_risk(command: str | None, timeout_minutes: float | None) -> "RiskCommand | None":
    if command is None:
        if timeout_minutes is not None:
            raise UsageError("--risk_timeout_minutes needs --risk_command: without it, it would have no effect")
        return None
    from ltdiff.evaluation.risk_command import DEFAULT_TIMEOUT_MINUTES, RiskCommand

    try:
        return RiskCommand.parse(command, timeout_minutes=DEFAULT_TIMEOUT_MINUTES if timeout_minutes is None else timeout_minutes)
    except ValueError as error:
        raise UsageError(str(error)) from error
