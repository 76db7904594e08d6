"""`ltdiff harmonize-features`: ComBat and its kin, fitted to a table of features and applied to new patients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from cyclopts import App

MODEL_FILE = "harmonization.safetensors"
CLAIM_FILE = "fit.json"


def fit(
    table: Path,
    /,
    *,
    batch: str,
    out: Path,
    covariates: str = "",
    patient: str | None = None,
    keep: str = "",
    keep_incomplete: bool = False,
    method: Literal["combat", "covbat", "nested", "longitudinal"] = "combat",
    reference: str | None = None,
) -> int:
    """Fit a harmonization to a table of features, save it, and measure what it does.

    A row is a region or a patient, a column of numbers a feature, unless it is named below. Nothing is harmonized yet: `apply`
    does that, to this table and to new patients.

    Args:
        table: Table of features, .csv or .parquet.
        batch: Column that says scanner, kernel or protocol; with the method nested several, separated by commas.
        out: Folder for harmonization.safetensors, and for report.md, its tables and its picture.
        covariates: Columns whose effects are kept, separated by commas: text is a class, numbers are continuous.
        patient: Column of the patient; without it every row is a patient of its own.
        keep: Other columns that are no features, or features to be left as they are, separated by commas; `GLCM3D_*` names many.
        keep_incomplete: Leave features without a value in some row as they are; without this, they are refused.
        method: combat; covbat, which makes the covariances agree too; nested, for several batch columns; longitudinal, for
            patients with several scans.
        reference: Batch that stays as it is; the others become like it. Without it all move to their common mean.
    """
    from ltdiff.evaluation.harmonization_diagnostics import diagnose
    from ltdiff.evaluation.harmonization_report import summarize, write_diagnostics
    from ltdiff.radiomics.feature_harmonization import fit_harmonization
    from ltdiff.radiomics.feature_table import Columns, read_table
    from ltdiff.radiomics.harmonization_file import save_harmonization
    from ltdiff.system.atomic_files import file_sha256
    from ltdiff.system.folder_claim import claim

    features = read_table(table)
    columns = Columns(_names(batch), _names(covariates), patient, _names(keep))
    with _naming(table):
        fitted = fit_harmonization(features, columns, method=method, reference=reference, keep_incomplete=keep_incomplete)
    wanted = {"table_sha256": file_sha256(table), "keep_incomplete": keep_incomplete, "method": method, "reference": reference}
    claim(out / CLAIM_FILE, {**asdict(columns), **wanted})
    save_harmonization(fitted, out / MODEL_FILE)
    diagnostics = diagnose(fitted, features)
    write_diagnostics(diagnostics, fitted, out)
    print(summarize(diagnostics).to_markdown(index=False, disable_numparse=True))
    print(f"{out / MODEL_FILE}: {method} of {len(fitted.features)} features, fitted to {len(features)} rows; see report.md")
    return 0


def apply(model: Path, table: Path, /, *, out: Path) -> int:
    """Harmonize a table of features of patients of known batches: those of the fit, or new ones.

    Args:
        model: File that `ltdiff harmonize-features fit` made.
        table: Table of features with the columns of the fit, .csv or .parquet.
        out: The same table with harmonized features, .csv or .parquet; its column `harmonization` says by what.
    """
    from ltdiff.commands.command_line import UsageError
    from ltdiff.radiomics.feature_table import check_table_path, read_table, write_table
    from ltdiff.radiomics.harmonization_file import load_harmonization
    from ltdiff.system.atomic_files import file_sha256

    check_table_path(out)
    if out.resolve() == table.resolve():
        raise UsageError(f"{out} is the table itself, and its features would be lost: name another file")
    fitted = load_harmonization(model)
    features = read_table(table)
    with _naming(table):
        harmonized = fitted.apply(features, mark=f"{fitted.method}, sha256 {file_sha256(model)[:12]}")
    write_table(harmonized, out)
    print(f"{out}: {len(fitted.features)} features of {len(harmonized)} rows")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@contextmanager
def _naming(table: Path) -> Iterator[None]:
    """An error says of which table it is."""
    from ltdiff.system.text import printable

    try:
        yield
    except ValueError as error:
        raise ValueError(f"{printable(table)}: {error}") from error


app = App(
    name="harmonize-features",
    help="Harmonize tables of features (ComBat): fit to patients of several scanners, apply to new ones.",
)
for command in (fit, apply):
    app.command(command)
