"""An evaluation as Markdown: tables, and what a reader needs to know of each."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from ltdiff.data.rois import is_lesion_set
from ltdiff.evaluation.agreement import agreement_headings
from ltdiff.evaluation.concordance import CONFIDENCE
from ltdiff.evaluation.error_ratio import MIN_SLICES
from ltdiff.evaluation.evaluation_result import EvaluationResult
from ltdiff.evaluation.image_metrics import DATA_RANGE_HU
from ltdiff.evaluation.paper import PRINTED, group_table, printed_table
from ltdiff.evaluation.robust_features import count_verdicts
from ltdiff.evaluation.scoring import RELATIVE_ERROR_EPSILON, REPRODUCIBLE_CCC, reproducible_shares
from ltdiff.evaluation.slice_correlation import describe_correlation
from ltdiff.evaluation.structures import CHANGED_DIAMETER_MM, CHANGED_HU

FEW_ROIS = 20
LARGE_SHARE = 0.25
_CCC_NOTES = {
    "across_rois": "Primary definition, `across_rois`: one CCC per feature over the regions, mean ± sd over the "
    "features of the class.",
    "across_features": "Second definition, `across_features`: one CCC per region over the features of the class, "
    "mean ± sd over the regions. Not comparable with the first.",
}
_PAPER_NOTE = (
    "One CCC per feature over the regions, mean ± sd over the features of a group, 2.5D and 3D together. `source` is the "
    "floor; the target against itself is 1. The paper's numbers are of other patients, scanners and regions."
)
_CONTENT_NOTE = (
    f"Places of at least {CHANGED_DIAMETER_MM:g} mm where the smoothed difference to the target exceeds "
    f"{CHANGED_HU:g} HU (something made, or lost), over all scored slices; and the largest deviation of the noise power "
    "spectrum in homogeneous soft tissue, as a share of the target's peak. All of it in content.csv and noise_power.csv."
)
_STRUCTURES_NOTE = (
    "Lesions of the masks, and cross-sections of vessels and airways found in the target: how many, how many have lost half "
    "of their contrast (erased), and A′ − B of the mean inside (of an airway, of its wall) and of the diameter at half "
    "maximum (of an airway, of its lumen): mean, and 95th percentile of the absolute values, which for small structures is "
    "mostly the target's noise. One by one in structures.csv."
)
_ENDPOINTS_NOTE = (
    "Of the scored slices, inside one mask for all images: lungs {lungs}, and the lesions of the masks. Mean, and that of the "
    "target; mean absolute difference, bias and 95 % limits of agreement (Bland and Altman) of the difference to the target, and "
    "CCC, over pairs of series or over lesions: these need several. LAA−950 is the share of voxels below −950 HU, Perc15 their "
    "15th percentile. One by one, with volumes, in endpoints.csv."
)
_ENDPOINTS = {"endpoint": ("end point", ""), **agreement_headings(2)}
_RELATIVE_ERROR_NOTE = (
    f"Median over the regions and the features of a class of |f(A′) − f(B)| / max(|f(B)|, {RELATIVE_ERROR_EPSILON:g})."
)
_REPRODUCIBLE_NOTE = "Share of the features of a class whose CCC across regions is at least " + (
    " / ".join(f"{least:.2f}" for least in REPRODUCIBLE_CCC) + "."
)
_FLOOR_NOTE = (
    "`repeat` is the target scanned again, which differs from the target by noise alone: its CCC is in the tables above. Here 1 "
    "− CCC of each method is divided by that of the repeat, over the regions that were scanned again{which}; in brackets the "
    f"{CONFIDENCE:.0%} interval of a bootstrap over slices, and behind it the share of regions in which the method differs from "
    "the target by no more than two scans do in 95 % of the cases (repeatability coefficient, each in repeatability.csv). Below "
    "1 a method is closer than a second scan: source and target are one scan, and share their noise."
)
_ROBUST_NOTE = (
    "Number of features whose CCC to the target is at least {limits} with all of its {confidence:.0%} interval (yes), and of "
    "those whose interval holds that limit (uncertain). The interval is a bootstrap over slices of these patients. The list is "
    "robust_features.csv; what CLEAR and METRICS ask is in reporting.md."
)
_METHOD_NOTE = (
    "Features by {extractor} {extractor_version}: {discretisation}. Regions ({counts}) are in rois.json; the same masks on "
    "every image. Intervals in ccc.csv are {confidence:.0%} percentile bootstraps over regions ({bootstrap_resamples} "
    "resamples, seed {bootstrap_seed}). Features that a region does not define are left out; num_features and num_rois in "
    "ccc.csv count what entered."
)
_IMAGE_METRICS = {
    "mae_hu": ("MAE (HU)", ".2f"),
    "rmse_hu": ("RMSE (HU)", ".2f"),
    "bias_hu": ("bias (HU)", ".2f"),
    "psnr_db": (f"PSNR (dB, {DATA_RANGE_HU:g} HU)", ".2f"),
    "ssim": (f"SSIM (L = {DATA_RANGE_HU:g} HU)", ".4f"),
}
_STRUCTURES = {
    "roi_set": ("structure", ""),
    "mean_difference_hu": ("mean (HU)", ".2f"),
    "mean_difference_hu_p95": ("mean, p95 (HU)", ".2f"),
    "diameter_difference_px": ("diameter (px)", ".3f"),
    "diameter_difference_px_p95": ("diameter, p95 (px)", ".3f"),
}
Row = Mapping[Any, Any]


class Section(NamedTuple):
    """A heading, a note and a table; `columns` has headings and formats, a table without any is of texts alone."""

    heading: str
    note: str = ""
    table: pd.DataFrame | None = None
    columns: Mapping[str, tuple[str, str]] = {}

    def to_markdown(self) -> str:
        """The parts that there are, one below the other."""
        table = "" if self.table is None else _table_markdown(self.table, self.columns)
        return "\n\n".join(part for part in (self.heading, self.note, table) if part)


def to_markdown(sections: Iterable[Section], *, title: str = "Evaluation") -> str:
    """A report of these sections."""
    text = "\n\n".join(section.to_markdown() for section in sections)
    return f"# {title}\n\nNot for diagnostic use.\n\n{text}\n"


def paired_sections(result: EvaluationResult) -> list[Section]:
    """What was scored on pairs; the pictures are ccc.png, slices.png and noise_power.png beside the report."""
    provenance = result.scores.provenance
    counts = ", ".join(f"{name}: {count}" for name, count in provenance["num_rois"].items())
    return [
        *_ccc_sections(result.tables["ccc"], lesions=result.lesions),
        *_paper_sections(result.tables["group_ccc"]),
        *_remaining_error_sections(result),
        *_noise_floor_sections(result),
        *_image_sections(result.tables),
        *_endpoint_sections(result),
        *_feature_sections(result.tables),
        Section("## How it was measured", _METHOD_NOTE.format(**provenance, counts=counts)),
    ]


def ccc_markdown(table: pd.DataFrame) -> str:
    """One row per method, one column per class, "mean ± sd", of the rows of a CCC table with one set and definition."""
    return _table_markdown(_by_class(table, _ccc_cell))


def _table_markdown(table: pd.DataFrame, columns: Mapping[str, tuple[str, str]] | None = None) -> str:
    if not columns:
        return table.to_markdown(index=False, disable_numparse=True)
    headings, formats = zip(*(columns.get(name, (name, "")) for name in table.columns), strict=True)
    return table.set_axis(headings, axis=1).to_markdown(index=False, floatfmt=formats)


def _by_class(table: pd.DataFrame, cell: Callable[[Row], str], *, index: tuple[str, ...] = ("method",)) -> pd.DataFrame:
    """The rows of a table, one per method and class of features, laid out with a column for every class."""
    cells = pd.Series([cell(row) for row in table.to_dict("records")], [table[key] for key in (*index, "feature_class")])
    return cells.unstack("feature_class", sort=False).reset_index()


def _ccc_sections(ccc: pd.DataFrame, *, lesions: str) -> Iterator[Section]:
    for definition, meaning in _CCC_NOTES.items():
        yield Section(f"## Concordance correlation coefficient, {definition.replace('_', ' ')}", meaning)
        for roi_set, table in ccc[ccc["definition"] == definition].groupby("roi_set", sort=False):
            num_rois = int(table["num_rois"].max())
            few = f"; a CCC of fewer than {FEW_ROIS} says little" if num_rois < FEW_ROIS else ""
            note = f"{num_rois} region{'' if num_rois == 1 else 's'}{few}. {lesions if is_lesion_set(str(roi_set)) else ''}"
            yield Section(f"### {roi_set}", note.strip(), _by_class(table, _ccc_cell))
    if lesions and not any(is_lesion_set(str(roi_set)) for roi_set in ccc["roi_set"].unique()):
        yield Section(lesions)
    yield Section("![CCC of every class with its confidence interval](ccc.png)")


def _paper_sections(groups: pd.DataFrame) -> Iterator[Section]:
    """The six groups of the catalogue beside the paper's numbers; nothing for other features."""
    if groups.empty:
        return
    yield Section("## As in the paper", _PAPER_NOTE)
    for roi_set, table in groups.groupby("roi_set", sort=False):
        yield Section(f"### {roi_set}", table=group_table(table))
    for name in PRINTED:
        yield Section(f"### The paper's own numbers: {name}", table=printed_table(name))


def _remaining_error_sections(result: EvaluationResult) -> Iterator[Section]:
    """The ratios, and a sentence for each set of regions of which one holds so much of the error that they hang on it."""
    ratios = result.tables["remaining_error"]
    if ratios.empty:
        return
    method, counts = ratios["method"].iloc[0], Counter(roi.roi_set for roi in result.scores.features.rois)
    note = (
        f"1 − CCC (`across_rois`) of {method}, divided by that of each other method; below 1, the other leaves more. In "
        f"brackets: {CONFIDENCE:.0%} interval of a paired bootstrap over slices"
        f"{'' if ratios['ci_low'].notna().any() else f', which needs {MIN_SLICES} of them'}."
    )
    yield Section("## Remaining error", note, _by_class(ratios, _ratio_cell, index=("roi_set", "other")))
    for row in result.outliers[result.outliers["share"] > LARGE_SHARE].to_dict("records"):
        if counts[row["roi_set"]] >= FEW_ROIS:
            yield Section(
                f"**One region decides:** {row['label']} of slice {row['slice_index']} alone holds {row['share']:.0%} of the "
                f"squared error of {method} over the {counts[row['roi_set']]} regions of the set {row['roi_set']}. Look at it "
                "(slices.csv says which slice that is) before reading the ratios."
            )


def _noise_floor_sections(result: EvaluationResult) -> Iterator[Section]:
    """Nothing where no target was scanned again."""
    floor = result.tables["noise_floor"]
    if len(floor):
        num_repeated, num_pairs = result.facts["num_repeated_slices"], result.facts["split"]["num_pairs"]
        which = "" if num_repeated == num_pairs else f" ({num_repeated} of {num_pairs} slices)"
        table = _by_class(floor, _floor_cell, index=("roi_set", "method"))
        yield Section("## Noise floor", _FLOOR_NOTE.format(which=which), table)


def _robust_section(robust: pd.DataFrame) -> Section:
    limits = " or ".join(f"{limit:.2f}" for limit in REPRODUCIBLE_CCC)
    table = count_verdicts(robust)
    columns = {name: (name.replace("_", " "), "") for name in table.columns if name != "roi_set"}
    return Section("## Robust features", _ROBUST_NOTE.format(limits=limits, confidence=CONFIDENCE), table, columns)


def _image_sections(tables: Mapping[str, pd.DataFrame]) -> Iterator[Section]:
    content, structures = tables["content"], tables["structure_summary"]
    note = "Mean over all pixels of all scored slices."
    yield Section("## Images", note, tables["image_metrics"], _IMAGE_METRICS)
    yield Section("![One slice of every method, its difference to the target, a region enlarged](slices.png)")
    note = f"{_CONTENT_NOTE} {describe_correlation(tables['slice_correlation'])}".strip()
    yield Section("## Noise and content", note, content, {name: (name, ".3g") for name in content.columns})
    if len(structures):
        yield Section("## Lesions, vessels and airways", _STRUCTURES_NOTE, structures, _STRUCTURES)
    if len(tables["noise_power"]):
        yield Section("![Noise power spectrum of every method in soft tissue](noise_power.png)")


def _endpoint_sections(result: EvaluationResult) -> Iterator[Section]:
    table = result.tables["endpoint_agreement"]
    if len(table):
        note = _ENDPOINTS_NOTE.format(lungs=result.facts.get("lungs", ""))
        yield Section("## Clinical end points", note, table.drop(columns="sd").dropna(axis=1, how="all"), _ENDPOINTS)


def _feature_sections(tables: Mapping[str, pd.DataFrame]) -> Iterator[Section]:
    index = ("roi_set", "method")
    errors = _by_class(tables["relative_error"], lambda row: f"{row['relative_error_median']:.4f}", index=index)
    yield Section("## Relative error", _RELATIVE_ERROR_NOTE, errors)
    shares = _by_class(reproducible_shares(tables["feature_ccc"]), _shares_cell, index=index)
    yield Section("## Reproducible features", _REPRODUCIBLE_NOTE, shares)
    yield _robust_section(tables["robust_features"])


def _ccc_cell(row: Row) -> str:
    if pd.isna(row["ccc_mean"]):
        return "–"
    sd = "" if pd.isna(row["ccc_sd"]) else f" ± {row['ccc_sd']:.3f}"
    return f"{row['ccc_mean']:.3f}{sd}"


def _ratio_cell(row: Row) -> str:
    interval: str = "–" if pd.isna(row["ci_low"]) else f"{row['ci_low']:.2f}–{row['ci_high']:.2f}"
    return f"{row['ratio']:.2f} ({interval})"


def _floor_cell(row: Row) -> str:
    interval: str = "–" if pd.isna(row["ci_low"]) else f"{row['ci_low']:.2f}–{row['ci_high']:.2f}"
    return f"{row['multiple']:.2f} ({interval}), {row['within_rc']:.0%}"


def _shares_cell(row: Row) -> str:
    return " / ".join(f"{value:.2f}" for name, value in row.items() if name.startswith("ccc_from_"))
