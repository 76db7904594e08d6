"""All that an evaluation measured, before any of it is written."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ltdiff.data.rois import Roi
from ltdiff.evaluation.endpoints import endpoint_agreement, endpoint_table
from ltdiff.evaluation.error_ratio import largest_shares, remaining_error_ratios
from ltdiff.evaluation.evaluation_set import EvaluationSet
from ltdiff.evaluation.feature_values import TARGET
from ltdiff.evaluation.noise_floor import noise_floor, repeatability
from ltdiff.evaluation.noise_power import NoisePower, largest_differences
from ltdiff.evaluation.paper import group_ccc
from ltdiff.evaluation.robust_features import robust_features
from ltdiff.evaluation.scored_scan import ScanImages
from ltdiff.evaluation.scoring import Scores
from ltdiff.evaluation.slice_correlation import neighbour_correlations, slice_correlation
from ltdiff.evaluation.structures import count_changed_places, describe_lesions, scan_structure_table, structure_summary
from ltdiff.inference.method import Slices


@dataclass(frozen=True)
class EvaluationResult:
    """Scores; all `tables` by the names of their files, empty where one does not apply; and what a reader is told and shown.

    `shown` is the region that a reader wants to see, `planes_hu` its slice (Y, X) by method and of the target. `lesions` is what
    is to be said of the lesions' regions, where there is a mask. `outliers` are the regions with most of the error of the method
    that is compared with the others (see `largest_shares`). `facts` hold nothing that tells who a patient is.
    """

    scores: Scores
    tables: dict[str, pd.DataFrame]
    outliers: pd.DataFrame
    lesions: str
    shown: Roi
    planes_hu: dict[str, Slices]
    target_hu: Slices
    facts: dict[str, Any]


class ScanMeasures:
    """Takes the images of one scan after the other, and gives the tables that need whole images; pixels are not kept.

    What is kept to be shown is the slice (Y, X) of the region that a reader wants to see.
    """

    def __init__(self, evaluation_set: EvaluationSet) -> None:
        self.shown = evaluation_set.shown
        self.planes_hu: dict[str, Slices] = {}
        self._power = NoisePower(evaluation_set.num_windows)
        self._num_changed: Counter[str] = Counter()
        self._tables: dict[str, list[pd.DataFrame]] = defaultdict(list)

    def take(self, one: ScanImages) -> ScanImages:
        """Measure, and pass on."""
        scan, images = one
        target_hu, spacings_mm, neighbours = scan.target_hu, scan.spacings_mm, scan.neighbours
        of_structures = scan_structure_table(
            images, target_hu=target_hu, spacings_mm=spacings_mm, lesions=scan.lesions, neighbours=neighbours, first=scan.first
        )
        self._tables["structures"].append(of_structures)
        self._tables["correlations"].append(neighbour_correlations(images, target_hu=target_hu, neighbours=neighbours))
        self._tables["endpoints"].append(endpoint_table(images, scan))
        changed = count_changed_places(images, target_hu=target_hu, spacings_mm=spacings_mm)
        for method, number in changed.itertuples(index=False):
            self._num_changed[method] += number
        self._power.add(images, target_hu=target_hu, spacings_mm=spacings_mm, first=scan.first)
        if 0 <= (z := self.shown.slice_index - scan.first) < len(target_hu):
            self.planes_hu = {name: volume[z].copy() for name, volume in {**images, TARGET: target_hu}.items()}
        return one

    def tables(self) -> dict[str, pd.DataFrame]:
        """Noise, neighbouring slices, structures and end points of each method's images beside the target's.

        The table `content` has one row per method: whole images in short.
        """
        found = {name: _concatenate(tables) for name, tables in self._tables.items()}
        power, correlation = self._power.table(), slice_correlation(found["correlations"])
        content = pd.DataFrame(self._num_changed.items(), columns=["method", "num_changed_places"])
        if len(power):
            content = content.merge(largest_differences(power), on="method")
        if len(correlation):
            difference = correlation.set_index("method")["relative_difference"]
            content = content.join(difference.rename("slice_correlation_difference"), on="method")
        return {
            "noise_power": power,
            "slice_correlation": correlation,
            "structures": found["structures"],
            "structure_summary": structure_summary(found["structures"]),
            "content": content,
            "endpoints": found["endpoints"],
            "endpoint_agreement": endpoint_agreement(found["endpoints"]),
        }


def _concatenate(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows; an empty table would decide the types of their columns."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def collect_result(
    scores: Scores,
    *,
    measures: ScanMeasures,
    evaluation_set: EvaluationSet,
    facts: Mapping[str, Any],
    compared: str | None = None,
) -> EvaluationResult:
    """The result, once all scans were scored and measured; the error of the method `compared` is set against the others'."""
    tables = measures.tables() | {
        "ccc": scores.ccc,
        "feature_ccc": scores.feature_ccc,
        "relative_error": scores.relative_error,
        "image_metrics": scores.image_metrics,
        "group_ccc": group_ccc(scores.feature_ccc),
        "noise_floor": noise_floor(scores.features, seed=scores.seed),
        "repeatability": repeatability(scores.features, seed=scores.seed),
        "robust_features": robust_features(scores.features, seed=scores.seed),
        "remaining_error": remaining_error_ratios(scores.features, method=compared, seed=scores.seed),
        "slices": evaluation_set.places,
    }
    return EvaluationResult(
        scores=scores,
        tables=tables,
        outliers=largest_shares(scores.features).query("method == @compared"),
        lesions=describe_lesions(tables["structures"], evaluation_set.lesions, evaluation_set.num_cross_sections),
        shown=evaluation_set.shown,
        planes_hu={name: plane for name, plane in measures.planes_hu.items() if name != TARGET},
        target_hu=measures.planes_hu[TARGET],
        facts={**scores.provenance, **evaluation_set.facts, **facts},
    )
