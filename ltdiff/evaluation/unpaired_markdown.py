"""An evaluation without pairs as Markdown."""

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

from ltdiff.evaluation.anatomy_kept import CONTENT_SIGMA_MM, STRUCTURE_SIGMA_MM
from ltdiff.evaluation.concordance import CONFIDENCE
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.markdown import Section
from ltdiff.evaluation.structures import ERASED_CONTRAST
from ltdiff.evaluation.unpaired_result import UnpairedResult

FLOOR = "target (floor)"
"""The row of two halves of the target against each other."""
TARGET_GROUP = "target's patients"
"""The row of the target's own end points."""
_TABLE_NOTE = (
    "Standardized slices of the source beside slices of the target, of whoever: {source} and {target}. `source` is before, each "
    f"method after; `{FLOOR}` compares two halves of the target's own, which no method can be expected to undercut."
)
_FEATURES_NOTE = (
    "AUC of a classifier that tells the protocol from the radiomic features of a region ({rois} discs a side, as many of each "
    "class of content on both), of groups that it was not trained on: patients, or blocks of slices where there is one patient "
    f"alone. In brackets the {CONFIDENCE:.0%} interval of a bootstrap over the groups. At .5 nothing can be told. FRD: Fréchet "
    "radiomic distance (Konz 2024), a logarithm; what few regions add to it is in the floor as well."
)
_ONE_PATIENT = (
    "**One patient on a side:** the classifier knows this patient from blocks that it was trained on, and tells patients apart "
    "as well as protocols."
)
_PROTOCOL_NOTE = (
    "Noise level (robust standard deviation in soft tissue) less the target's, as a share of it; largest difference of the noise "
    "power spectrum in homogeneous soft tissue, as a share of the target's peak; largest difference of the MTF at the skin and "
    "at the border of the lung. The curves are in unpaired_curves.csv."
)
_CONTENT_NOTE = (
    f"A′ − A, against the source itself: mean and standard deviation in the body behind a Gaussian of {CONTENT_SIGMA_MM:g} mm, "
    "and the shift of the outlines of skin and lungs, mean and 95th percentile of its size."
)
_STRUCTURES_NOTE = (
    f"Lesions of the mask, vessels and airways, behind a Gaussian of {STRUCTURE_SIGMA_MM:g} mm: found in the source and erased "
    f"in A′ (less than {ERASED_CONTRAST:.0%} of the contrast is left), and found in A′ but created (the source has less of it)."
)
_ENDPOINTS_NOTE = (
    "In the lungs of {source} and of {target}, median (lowest … highest). The lungs of a source are found in it and laid on A′: "
    "what a method changes is the step from `source` to its row. {others}, so nothing is said about agreement here. The volume "
    "is that of all slices, the other values are those of {slices} spread through the lungs. Every scan is in "
    "unpaired_endpoints.csv.{left_out}"
)
ENDPOINT_COLUMNS = {
    "laa_950_percent": ("LAA−950 (%)", ".1f"),
    "perc15_hu": ("Perc15 (HU)", ".0f"),
    "mean_hu": ("mean (HU)", ".0f"),
    "mass_g": ("mass (g)", ".0f"),
    "volume_ml": ("volume (ml)", ".0f"),
}
FEATURE_COLUMNS = {"auc": ("AUC", ""), "frd": ("FRD", ".2f")}
PROTOCOL_COLUMNS = {
    "noise_difference": ("noise", "+.3f"),
    "nps_difference": ("NPS", ".3f"),
    "mtf_difference_skin": ("MTF, skin", ".3f"),
    "mtf_difference_lung": ("MTF, lung", ".3f"),
}
CONTENT_COLUMNS = {
    "content_bias_hu": ("bias (HU)", ".2f"),
    "content_sd_hu": ("SD (HU)", ".2f"),
    "edge_shift_mm": ("edges (mm)", ".3f"),
    "edge_shift_mm_p95": ("edges, p95 (mm)", ".3f"),
}
STRUCTURE_COLUMNS = {
    "roi_set": ("structure", ""),
    "number": ("in the source", ""),
    "judged": ("with contrast", ""),
    "erased": ("erased", ""),
    "new_number": ("in A′", ""),
    "new_judged": ("with contrast in A′", ""),
    "created": ("created", ""),
}


def unpaired_sections(result: UnpairedResult) -> Iterator[Section]:
    """What was measured without pairs; the pictures are unpaired.png and unpaired_slices.png beside the report."""
    table, structures = result.tables["unpaired"], result.tables["unpaired_structures"]
    sizes = {role: _size(counts) for role, counts in result.facts["unpaired"].items()}
    yield Section("## Without pairs", _TABLE_NOTE.format(**sizes))
    note = _FEATURES_NOTE.format(rois=result.facts["num_unpaired_rois"])
    num_patients = min(counts["num_patients"] for counts in result.facts["unpaired"].values())
    if num_patients == 1 and not result.facts["num_shared_patients"]:
        note += f" {_ONE_PATIENT}"
    yield Section("### Can the protocol still be told?", note, _texts(table, FEATURE_COLUMNS))
    protocols = table.dropna(subset=list(PROTOCOL_COLUMNS), how="all")
    if len(protocols):
        yield Section("### Noise and resolution", _PROTOCOL_NOTE, _texts(protocols, PROTOCOL_COLUMNS))
    if len(result.tables["unpaired_curves"]):
        yield Section("![Noise power spectrum and MTF of every method and of the target](unpaired.png)")
    content = table.dropna(subset=list(CONTENT_COLUMNS), how="all")
    if len(content):
        yield Section("### Is the anatomy still the source's?", _CONTENT_NOTE, _texts(content, CONTENT_COLUMNS))
    if len(structures):
        yield Section("### Structures kept", _STRUCTURES_NOTE, _texts(structures, STRUCTURE_COLUMNS))
    if len(result.tables["unpaired_endpoint_groups"]):
        yield _endpoints(result)
    yield Section("![One slice of the source by every method, its difference to the source, a region](unpaired_slices.png)")


def unpaired_markdown(result: UnpairedResult) -> str:
    """The main table in short."""
    columns = FEATURE_COLUMNS | PROTOCOL_COLUMNS
    return Section("Without pairs:", table=_texts(result.tables["unpaired"], columns)).to_markdown()


def _endpoints(result: UnpairedResult) -> Section:
    table, groups = result.tables["unpaired_endpoints"], result.tables["unpaired_endpoint_groups"]
    measured = table[table["left_out"] == ""].drop_duplicates(["role", "series_uid"])
    number = Counter(measured["role"])
    sizes = {role: f"{number[role]} patient{'s' if number[role] != 1 else ''} of the {role}" for role in ("source", "target")}
    reasons = Counter(table.loc[table["left_out"] != "", ["role", "left_out"]].itertuples(index=False, name=None))
    left_out = ", ".join(f"{num} of the {role} ({reason})" for (role, reason), num in reasons.items())
    low, high = measured["num_slices"].min(), measured["num_slices"].max()
    slices = f"{low} slices" if low == high else f"{low} to {high} slices"
    others = "These are groups" if result.facts["num_shared_patients"] else "The target shows other people"
    note = _ENDPOINTS_NOTE.format(**sizes, others=others, slices=slices, left_out=f" Left out: {left_out}." if left_out else "")
    rows = []
    for method, of_method in groups.groupby("method", sort=False):
        found = {str(row["endpoint"]): row for row in of_method.to_dict("records")}
        texts = {"method": TARGET_GROUP if method == TARGET else method}
        for name, (heading, form) in ENDPOINT_COLUMNS.items():
            texts[heading] = _with_range(found[name], form) if name in found else "–"
        rows.append(texts)
    return Section("### Clinical end points", note, pd.DataFrame(rows))


def _with_range(row: dict[Hashable, Any], form: str) -> str:
    return f"{row['median']:{form}} ({row['lowest']:{form}} … {row['highest']:{form}})"


def _texts(table: pd.DataFrame, columns: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """The methods and these columns of a table with their headings, as texts; "–" for what is not known."""
    if "auc" in columns:
        table = table.assign(auc=[_with_interval(row) for row in table.to_dict("records")])
    texts = {"method": table["method"].replace({TARGET: FLOOR})}
    for name, (heading, form) in columns.items():
        texts[heading] = table[name].map(lambda value, form=form: "–" if pd.isna(value) else format(value, form))
    return pd.DataFrame(texts)


def _with_interval(row: dict[Hashable, Any]) -> str:
    return "–" if pd.isna(row["auc"]) else f"{row['auc']:.3f} ({row['auc_low']:.2f}–{row['auc_high']:.2f})"


def _size(counts: dict[str, int]) -> str:
    return f"{counts['num_slices']} slices of {counts['num_patients']} patient{'s' if counts['num_patients'] != 1 else ''}"
