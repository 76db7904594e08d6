"""An evaluation as Markdown: tables, and what a reader needs to know of each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ltdiff.evaluation import concordance
from ltdiff.evaluation.error_ratio import MIN_SLICES, largest_shares
from ltdiff.evaluation.image_metrics import DATA_RANGE_HU
from ltdiff.evaluation.paper import PRINTED, group_ccc, group_markdown, printed_markdown
from ltdiff.evaluation.provenance import describe_scoring, is_lesion_set
from ltdiff.evaluation.rescan_estimate import NAME as OTHER_NOISE
from ltdiff.evaluation.scoring import RELATIVE_ERROR_EPSILON, REPRODUCIBLE_CCC, Scores, reproducible_shares
from ltdiff.evaluation.slice_correlation import describe_correlation
from ltdiff.evaluation.structure_fidelity import CHANGED_DIAMETER_MM, CHANGED_HU

FEW_ROIS = 20
LARGE_SHARE = 0.25
_CCC_DEFINITIONS = {
    "across_rois": "Primary definition, `across_rois`: one CCC per feature over the regions, mean ± sd over the "
    "features of the class",
    "across_features": "Second definition, `across_features`: one CCC per region over the features of the class, "
    "mean ± sd over the regions. Not comparable with the first",
}


def to_markdown(
    scores: Scores,
    *,
    ratios: pd.DataFrame | None = None,
    content: pd.DataFrame | None = None,
    structures: pd.DataFrame | None = None,
    correlation: pd.DataFrame | None = None,
    has_power: bool = False,
    lesions: str = "",
) -> str:
    """The report as Markdown; its pictures are ccc.png, slices.png and noise_power.png beside it.

    `lesions` is what is to be said of the lesions' regions, where there is a mask.
    """
    parts = ["# Evaluation", "Not for diagnostic use."]
    for definition, meaning in _CCC_DEFINITIONS.items():
        parts += [f"## Concordance correlation coefficient, {definition.replace('_', ' ')}", f"{meaning}."]
        for roi_set, table in scores.ccc[scores.ccc["definition"] == definition].groupby("roi_set", sort=False):
            note = f"{_regions_note(table)} {lesions}" if is_lesion_set(str(roi_set)) else _regions_note(table)
            parts += [f"### {roi_set}", note.strip(), ccc_markdown(table)]
    if lesions and not any(is_lesion_set(str(roi_set)) for roi_set in scores.ccc["roi_set"].unique()):
        parts.append(lesions)
    parts += ["![CCC of every class with its confidence interval](ccc.png)"]
    parts += _as_in_the_paper(group_ccc(scores.feature_ccc))
    if ratios is not None and len(ratios):
        parts += ["## Remaining error", _ratios_note(ratios), _ratios_markdown(ratios)]
        parts += _largest_shares_notes(scores, method=ratios["method"].iloc[0])
    parts += ["## Images", "Mean over all pixels of all scored slices.", _image_metrics_markdown(scores.image_metrics)]
    parts += ["![One slice of every method, its difference to the target, a region enlarged](slices.png)"]
    if content is not None:
        about_slices = "" if correlation is None else describe_correlation(correlation)
        parts += [
            "## Noise and content",
            f"{_content_note()} {about_slices}".strip(),
            content.to_markdown(index=False, floatfmt=".3g"),
        ]
    if structures is not None and len(structures):
        parts += ["## Lesions, vessels and airways", _structures_note(), _structures_markdown(structures)]
    if has_power:
        parts += ["![Noise power spectrum of every method in soft tissue](noise_power.png)"]
    parts += ["## Relative error", _relative_error_note(), _relative_error_markdown(scores.relative_error)]
    parts += ["## Reproducible features", _shares_note()]
    parts += [_shares_markdown(reproducible_shares(scores.feature_ccc))]
    parts += ["## How it was measured", _method_note(scores)]
    return "\n\n".join(parts) + "\n"


def _as_in_the_paper(groups: pd.DataFrame) -> list[str]:
    """The six groups of the catalogue beside the paper's numbers; nothing for other features."""
    if groups.empty:
        return []
    parts = ["## As in the paper", _paper_note()]
    for roi_set, table in groups.groupby("roi_set", sort=False, observed=True):
        parts += [f"### {roi_set}", group_markdown(table)]
    for name in PRINTED:
        parts += [f"### The paper's own numbers: {name}", printed_markdown(name)]
    return parts


def _paper_note() -> str:
    return (
        "One CCC per feature over the regions, mean ± sd over the features of a group, 2.5D and 3D together. `source` is the "
        f"floor. `{OTHER_NOISE}` is a ceiling: the target with other noise of the same local spectrum, as if the right kernel "
        "had been used on a second scan; the target against itself is 1. The paper's numbers are of other patients, scanners "
        "and regions."
    )


def ccc_markdown(table: pd.DataFrame) -> str:
    """One row per method, one column per class, "mean ± sd", of the rows of a CCC table with one set and definition."""
    return _pivot_markdown(table.assign(cell=list(map(_mean_sd, table["ccc_mean"], table["ccc_sd"]))), "cell")


def _pivot_markdown(table: pd.DataFrame, column: str, *, index: tuple[str, ...] = ("method",)) -> str:
    wide = table.pivot_table(
        index=list(index), columns="feature_class", values=column, aggfunc="first", sort=False, observed=True
    )
    return wide.reset_index().to_markdown(index=False, disable_numparse=True)


def _image_metrics_markdown(table: pd.DataFrame) -> str:
    return table.rename(
        columns={
            "mae_hu": "MAE (HU)",
            "rmse_hu": "RMSE (HU)",
            "bias_hu": "bias (HU)",
            "psnr_db": f"PSNR (dB, {DATA_RANGE_HU:g} HU)",
            "ssim": f"SSIM (L = {DATA_RANGE_HU:g} HU)",
        }
    ).to_markdown(index=False, floatfmt=("", ".2f", ".2f", ".2f", ".2f", ".4f"))


def _relative_error_markdown(table: pd.DataFrame) -> str:
    cells = table.assign(cell=[f"{value:.4f}" for value in table["relative_error_median"]])
    return _pivot_markdown(cells, "cell", index=("roi_set", "method"))


def _ratios_note(table: pd.DataFrame) -> str:
    return (
        f"1 − CCC (`across_rois`) of {table['method'].iloc[0]}, divided by that of each other method; below 1, the other "
        f"leaves more. In brackets: {concordance.CONFIDENCE:.0%} interval of a paired bootstrap over slices"
        f"{'' if table['ci_low'].notna().any() else f', which needs {MIN_SLICES} of them'}."
    )


def _ratios_markdown(table: pd.DataFrame) -> str:
    numbers = zip(table["ratio"], table["ci_low"], table["ci_high"], strict=True)
    cells = table.assign(
        cell=[
            f"{ratio:.2f} ({low:.2f}–{high:.2f})" if low == low else f"{ratio:.2f} (–)" for ratio, low, high in numbers
        ]
    )
    return _pivot_markdown(cells, "cell", index=("roi_set", "other"))


def _largest_shares_notes(scores: Scores, *, method: str) -> list[str]:
    """A sentence for each set of regions of which one holds so much of the method's error that the ratios hang on it."""
    shares = largest_shares(scores.features)
    counts = pd.Series([roi.roi_set for roi in scores.rois]).value_counts()
    return [
        f"**One region decides:** {row['label']} of slice {row['slice_index']} alone holds {row['share']:.0%} of the squared "
        f"error of {method} over the {counts[row['roi_set']]} regions of the set {row['roi_set']}. Look at it (slices.csv "
        "says which slice that is) before reading the ratios."
        for row in shares[(shares["method"] == method) & (shares["share"] > LARGE_SHARE)].to_dict("records")
        if counts[row["roi_set"]] >= FEW_ROIS
    ]


def _content_note() -> str:
    return (
        f"Places of at least {CHANGED_DIAMETER_MM:g} mm where the smoothed difference to the target exceeds "
        f"{CHANGED_HU:g} HU (something made, or lost), over all scored slices; and the largest deviation of the noise power "
        "spectrum in homogeneous soft tissue, as a share of the target's peak. All of it in content.csv and noise_power.csv."
    )


def _structures_note() -> str:
    return (
        "Lesions of the masks, and cross-sections of vessels and airways found in the target: how many, how many have lost half "
        "of their contrast (erased), and A′ − B of the mean inside (of an airway, of its wall) and of the diameter at half "
        "maximum (of an airway, of its lumen): mean, and 95th percentile of the absolute values, which for small structures is "
        "mostly the target's noise. One by one in structures.csv."
    )


def _structures_markdown(table: pd.DataFrame) -> str:
    titles = {
        "roi_set": "structure",
        "mean_difference_hu": "mean (HU)",
        "mean_difference_hu_p95": "mean, p95 (HU)",
        "diameter_difference_px": "diameter (px)",
        "diameter_difference_px_p95": "diameter, p95 (px)",
    }
    return table.rename(columns=titles).to_markdown(index=False, floatfmt=("", "", "", "", ".2f", ".2f", ".3f", ".3f"))


def _shares_note() -> str:
    limits = " / ".join(f"{least:.2f}" for least in REPRODUCIBLE_CCC)
    return f"Share of the features of a class whose CCC across regions is at least {limits}."


def _shares_markdown(table: pd.DataFrame) -> str:
    shares = table.filter(like="ccc_from_").to_numpy()
    cells = table.assign(cell=[" / ".join(f"{share:.2f}" for share in row) for row in shares])
    return _pivot_markdown(cells, "cell", index=("roi_set", "method"))


def _regions_note(table: pd.DataFrame) -> str:
    num_rois = int(table["num_rois"].max())
    few = f"; a CCC of fewer than {FEW_ROIS} says little" if num_rois < FEW_ROIS else ""
    return f"{num_rois} region{'' if num_rois == 1 else 's'}{few}."


def _relative_error_note() -> str:
    return (
        "Median over the regions and the features of a class of |f(A′) − f(B)| / max(|f(B)|, "
        f"{RELATIVE_ERROR_EPSILON:g})."
    )


def _method_note(scores: Scores) -> str:
    facts = describe_scoring(scores)
    counts = ", ".join(f"{name}: {count}" for name, count in facts["num_rois"].items())
    return (
        f"Features by {facts['extractor']} {facts['extractor_version']}: "
        f"{facts['discretisation']}. Regions ({counts}) are in rois.json; the same masks on every image. Intervals in "
        f"ccc.csv are {facts['confidence']:.0%} percentile bootstraps over regions "
        f"({facts['bootstrap_resamples']} resamples, seed {facts['bootstrap_seed']}). Features that a region does not "
        "define are left out; num_features and num_rois in ccc.csv count what entered."
    )


def _mean_sd(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
