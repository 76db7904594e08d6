"""The diagnostics of a harmonization of features as tables, a picture and a text."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from ltdiff.evaluation.concordance import CONFIDENCE, ccc
from ltdiff.evaluation.figures import draw_distributions
from ltdiff.evaluation.harmonization_diagnostics import AFTER, CHANCE, COVARIATES, NEW, STAGES, WITHIN, HarmonizationDiagnostics
from ltdiff.evaluation.markdown import Section, to_markdown
from ltdiff.radiomics.feature_harmonization import FeatureHarmonization
from ltdiff.system.atomic_files import replace_file, write_text

_AUC_NOTE = (
    "AUC of a classifier that tells the batch from the features, against all other batches, of patients that it was not trained "
    f"on; in brackets the {CONFIDENCE:.0%} interval of a bootstrap over patients. At .5 nothing can be told. `{NEW}` is what new "
    "patients can expect: fitted again to half of the patients, the harmonization was applied to the other half, and measured "
    f"there. `{AFTER}` says less: its rows were moved by their own moments, which agree too well, and the AUC falls below .5. "
    f"`{COVARIATES}` tells the batch from the covariates: a harmonization that keeps their effects leaves as much."
)
_COVARIATES_NOTE = (
    f"Effect sizes in standard deviations of what the model leaves. `{WITHIN}`, with the batches in the model, is the effect to "
    "be kept; the others are what a study finds that does not think of batches. Median of the absolute value over the features, "
    f"and the CCC over the features with `{WITHIN}`: 1 is kept. `{NEW}` has half of the rows. Each feature is in covariates.csv."
)
_DISTRIBUTIONS_NOTE = (
    "A batch against all others, median over features and batches: difference of the means in standard deviations (absolute), "
    f"ratio of the larger variance to the smaller, Kolmogorov–Smirnov statistic. `{NEW}` has half of the rows; `{CHANCE}` is the "
    "same with shuffled batches. Where covariates differ between the batches, so may the distributions. Feature by feature in "
    "distributions.csv."
)


def write_diagnostics(diagnostics: HarmonizationDiagnostics, harmonization: FeatureHarmonization, folder: Path) -> None:
    """Write identifiability.csv, covariates.csv, distributions.csv, distributions.png and report.md."""
    tables = {name: getattr(diagnostics, name) for name in ("identifiability", "covariates", "distributions")}
    for name, table in tables.items():
        replace_file(folder / f"{name}.csv", partial(table.to_csv, index=False))
    figure = draw_distributions(diagnostics.distributions, (*STAGES, CHANCE))
    replace_file(folder / "distributions.png", lambda path: figure.savefig(path, dpi=150))
    write_text(folder / "report.md", to_markdown(_sections(diagnostics, harmonization), title="Harmonization of features"))


def summarize(diagnostics: HarmonizationDiagnostics) -> pd.DataFrame:
    """AUC with its interval: a row for each batch, a column for each stage."""
    told = diagnostics.identifiability
    texts = [f"{row.auc:.2f} ({row.ci_low:.2f}–{row.ci_high:.2f})" for row in told.itertuples()]
    wide = told.assign(text=texts).pivot(index=["batch_column", "batch"], columns="stage", values="text")
    return wide[list(told["stage"].unique())].reset_index().rename_axis(columns=None)


def _sections(diagnostics: HarmonizationDiagnostics, harmonization: FeatureHarmonization) -> Iterator[Section]:
    yield Section("## What was fitted", _describe(harmonization))
    yield Section("## Can the batch still be told?", _AUC_NOTE, summarize(diagnostics))
    if len(diagnostics.covariates):
        yield Section("## Are the covariates kept?", _COVARIATES_NOTE, _covariates(diagnostics.covariates))
    yield Section("## Do the distributions agree?", _DISTRIBUTIONS_NOTE, _distributions(diagnostics.distributions))
    yield Section("![Share of the features below each difference between the batches](distributions.png)")


def _describe(harmonization: FeatureHarmonization) -> str:
    sizes = "; ".join(
        f"{column}: "
        + ", ".join(f"{batch} ({num})" for batch, num in zip(batches, harmonization.num_patients[column], strict=True))
        for column, batches in harmonization.batches.items()
    )
    lines = [
        f"- Method: {harmonization.method}",
        f"- Batches, and patients of each: {sizes}",
        f"- Covariates: {', '.join(one.name for one in harmonization.covariates) or 'none'}",
        f"- Reference: {harmonization.reference or 'none'}",
        f"- Features: {len(harmonization.features)}",
    ]
    for reason in dict.fromkeys(harmonization.unchanged.values()):
        names = [name for name, of_name in harmonization.unchanged.items() if of_name == reason]
        lines.append(f"- Not changed, {reason}: {', '.join(names)}")
    return "\n".join(lines)


def _covariates(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name, effects in table.groupby("covariate", sort=False):
        row = {"covariate": name, WITHIN: f"{effects[WITHIN].abs().median():.2f}"}
        for stage in STAGES:
            agreement = ccc(effects[stage].to_numpy(), effects[WITHIN].to_numpy())
            row[stage] = f"{effects[stage].abs().median():.2f} (CCC {agreement:.2f})"
        rows.append(row)
    return pd.DataFrame(rows)


def _distributions(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for stage in (*STAGES, CHANCE):
        ratio = table[f"variance_ratio_{stage}"]
        medians = {
            "mean difference (SD)": table[f"mean_difference_{stage}"].abs().median(),
            "variance ratio": ratio.where(ratio >= 1, 1 / ratio).median(),
            "KS": table[f"ks_{stage}"].median(),
        }
        rows.append({"stage": stage, **{name: f"{value:.2f}" for name, value in medians.items()}})
    return pd.DataFrame(rows)
