"""What a radiomics paper must say, as far as the run knows it: a paragraph, and the items of CLEAR and METRICS one by one.

A report knows how images were standardized and features measured. It knows no patients, outcomes or prediction model: what is
about these is left to the authors, and so is every judgement.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ltdiff.evaluation.checklist_items import CLEAR, METRICS, Item
from ltdiff.evaluation.evaluation_result import EvaluationResult
from ltdiff.evaluation.feature_values import REPEAT, TARGET
from ltdiff.evaluation.markdown import Section, to_markdown
from ltdiff.evaluation.robust_features import UNCERTAIN, YES, count_verdicts
from ltdiff.evaluation.scoring import REPRODUCIBLE_CCC

REPORTING_FILE = "reporting.md"
YOURS = "yours to answer"
_NOTE = (
    "CLEAR 1.0 (Kocak et al., Insights Imaging 2023;14:75, doi:10.1186/s13244-023-01415-8) and METRICS 1.0 (Kocak et al., "
    "Insights Imaging 2024;15:8, doi:10.1186/s13244-023-01572-w), both CC BY 4.0, titles shortened. Answers are facts of this "
    "run and speak of the standardization and of the features alone. Where your study did something else as well, say so. No "
    "score is computed: whether an item is fulfilled is yours to judge."
)
_WORDS = {
    "checklist": "This table. CLEAR and METRICS ask you to name the checklists that you used.",
    "reference": "Of the standardization: the features of the target, the same scans with the standard kernel. Of your outcome: "
    "yours.",
    "image_types": "{image_types}",
    "software": "{extractor} {extractor_version}, called by ltdiff {ltdiff_version} (feature set `{feature_set}`).",
    "discretisation": "{discretisation}.",
    "preprocessing": "Source, standardized images and target in whole HU ({methods}); then {discretisation}.",
    "classes": "{num_features} features of {classes}; names in robust_features.csv.",
    "defaults": "All settings of the extraction are in the line of the discretization; what is not named there is the "
    "extractor's default.",
    "missing": "{num_undefined} of {num_features} features are not defined in some region (NaN); such regions are left out of "
    "that feature's CCC, and num_rois counts the others.",
    "confounders": "The protocol is the confounder that is looked at: each pair is one scan with two kernels. Others: yours.",
    "metrics": "Of the standardization: Lin's concordance correlation coefficient of each feature across regions, which counts "
    "bias and scale as well as correlation; relative error. Of your model: yours.",
    "uncertainty": "{confidence:.0%} percentile bootstraps, {bootstrap_resamples} resamples, seed {bootstrap_seed}; over slices "
    "for single features, over regions for means of classes. They speak of other slices of these patients, not of other "
    "patients.",
    "comparison": "Of the standardization: {methods}; the source is the score of doing nothing. Ratios with intervals, no p "
    "values.",
    "features": "features.parquet has every feature of every region and rois.json the regions, without patients; sharing it is "
    "yours.",
    "settings": "summary.json has versions, seeds and settings; ltdiff is open source. Sharing your scripts is yours.",
    "limitations": "Of the standardization: {limitations} Others: yours.",
}


def reporting_markdown(result: EvaluationResult) -> str:
    """The text and the two tables."""
    known = _known(result)
    answers = {topic: words.format(**known) for topic, words in _WORDS.items()} | {
        topic: str(known[topic]) for topic in ("split", "protocol", "segmentation", "robust", "statistics")
    }
    sections = [
        Section("", _NOTE),
        Section("## Text for a methods section", _paragraph(known)),
        Section("## CLEAR", table=_table(CLEAR, answers)),
        Section("## METRICS", table=_table(METRICS, answers)),
    ]
    return to_markdown(sections, title="What a radiomics paper reports")


def _table(items: Sequence[Item], answers: Mapping[str, str]) -> pd.DataFrame:
    """A row per item; a bar would end its cell."""
    rows = [(str(item.number), item.title, answers.get(item.topic, YOURS).replace("|", "\\|")) for item in items]
    return pd.DataFrame(rows, columns=["item", "title", "answer"])


def _paragraph(known: Mapping[str, Any]) -> str:
    return (
        f"Features were extracted by {known['extractor']} {known['extractor_version']} ({known['num_features']} features of "
        f"{known['classes']}; {known['discretisation']}). {known['segmentation']} {known['protocol']} Agreement with the target "
        f"was measured by Lin's concordance correlation coefficient (CCC) of each feature across regions, with "
        f"{known['confidence']:.0%} intervals from a bootstrap over slices ({known['bootstrap_resamples']} resamples). "
        f"{known['repeat']} {known['statistics']} Analyses were done with ltdiff {known['ltdiff_version']}."
    )


def _known(result: EvaluationResult) -> dict[str, Any]:
    """The facts of the run, and the sentences that are made of them."""
    features, facts = result.scores.features, result.facts
    names = dict.fromkeys(feature_class for feature_class, _ in features.features)
    undefined = result.tables["robust_features"].groupby("feature")["num_rois"].min()
    return {
        **facts,
        "num_features": len(features.features),
        "classes": ", ".join(names),
        "image_types": features.feature_set.image_types,
        "num_undefined": int((undefined == 0).sum()),
        "methods": ", ".join(name for name in features.methods if name not in (TARGET, REPEAT)),
        "split": _describe_split(facts["split"]),
        "protocol": _describe_protocol(facts["scans"]),
        "segmentation": _describe_regions(facts, depth=features.feature_set.depth),
        "repeat": _describe_repeat(facts),
        "robust": f"robust_features.csv is the list. {_describe_robust(result)} Removing the others is yours.",
        "statistics": _describe_robust(result),
        "limitations": _describe_limits(facts),
    }


def _describe_split(split: Mapping[str, Any]) -> str:
    by = str(split["spec"])
    level = "no patient is in two parts" if by.startswith("patient") else "train and test may show the same patients"
    return f"`{by or 'unknown'}`; scored are the {split['num_pairs']} slice pairs of `{split['scored']}`" + (
        f", {level}." if by.startswith(("patient", "z")) else "."
    )


def _describe_protocol(scans: Mapping[str, Any]) -> str:
    def known(values: Sequence[Any]) -> str:
        return ", ".join(str(value) for value in values) or "unknown"

    def span(values: Sequence[float]) -> str:
        return "unknown" if not values else " to ".join(f"{value:g}" for value in dict.fromkeys(values)) + " mm"

    return (
        f"Scored were {scans['num_scans']} scans of {scans['num_patients']} patients (manufacturer: "
        f"{known(scans['manufacturers'])}), each with the source kernel ({known(scans['source_kernels'])}) and the target kernel "
        f"({known(scans['target_kernels'])}); pixels of {span(scans['spacing_mm'])}, slices of "
        f"{span(scans['slice_thickness_mm'])}. Tube and dose are in the DICOM headers."
    )


def _describe_regions(facts: Mapping[str, Any], *, depth: int) -> str:
    counts = ", ".join(f"{name}: {count}" for name, count in facts["num_rois"].items())
    extent = "of one slice" if depth == 1 else f"through up to {depth} slices"
    lesions = " Lesions are those of the mask that was given; who drew it is yours." if facts["num_lesion_cross_sections"] else ""
    drawn = f"random discs {extent} are drawn on the target (seed {facts['roi_seed']})"
    return f"The same regions were laid on every image ({counts}); {drawn}.{lesions}"


def _describe_repeat(facts: Mapping[str, Any]) -> str:
    if not facts["num_repeated_slices"]:
        return "No second scan with the target protocol was at hand, so the share of noise in these errors is unknown."
    return (
        f"The target was scanned again in {facts['num_repeated_slices']} of {facts['split']['num_pairs']} slices; the "
        f"repeatability "
        "coefficient is 1.96 √2 times the within-region standard deviation (repeatability.csv), and the noise floor the CCC of "
        "the two."
    )


def _describe_robust(result: EvaluationResult) -> str:
    """How many features are reproducible in the largest set of regions, as the source is and after each method."""
    counts = count_verdicts(result.tables["robust_features"])
    if counts.empty:
        return "No feature has a CCC."
    sizes = result.facts["num_rois"]
    roi_set = max(counts["roi_set"].unique(), key=lambda name: sizes[name])
    limit = REPRODUCIBLE_CCC[0]
    parts = [
        f"{row['method']} {row[f'{YES}_{limit:.2f}']} (and {row[f'{UNCERTAIN}_{limit:.2f}']} uncertain)"
        for row in counts[counts["roi_set"] == roi_set].to_dict("records")
    ]
    total = int(counts["num_features"].max())
    what = f"Of {total} features in the regions `{roi_set}`, reproducible at a CCC of {limit:.2f}, interval included"
    return f"{what}: {', '.join(parts)}."


def _describe_limits(facts: Mapping[str, Any]) -> str:
    patients = facts["scans"]["num_patients"]
    few = f"{patients} patient{'s' if patients != 1 else ''} scored"
    floor = "" if facts["num_repeated_slices"] else "; no second scan, so no noise floor"
    return f"{few}; one pair of protocols; intervals over slices{floor}."
