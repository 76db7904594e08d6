"""What is scored without pairs: slices of source and target, whoever they show, and regions that are alike on both."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.ensemble import Ensemble, read_ensemble
from ltdiff.data.manifest import data_fingerprint
from ltdiff.data.masks import check_regular, read_labels
from ltdiff.data.rois import Roi, VolumeRoi, extrude, mask_rois
from ltdiff.data.slice_pairs import find_neighbours
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.matched_regions import matched_regions
from ltdiff.evaluation.structures import Neighbours
from ltdiff.evaluation.unpaired_endpoints import choose_scans
from ltdiff.radiomics.feature_sets import FEATURE_SETS

logger = logging.getLogger(__name__)

Regions = tuple[Roi, ...] | tuple[VolumeRoi, ...]

SPACING_TOLERANCE = 1.1
"""Ratio of the median pixel sizes from which on textures, which are measured from pixel to pixel, differ by that alone."""


@dataclass(frozen=True, eq=False)
class UnpairedSet:
    """Slices of source and target, and regions on them, as many of each content class on the source as on either half of the
    target.

    `halves` (N,) says for each slice of the target in which half of the target's groups (see `Ensemble`) it is, 0 or 1; a target
    of one group has the half 0 alone. `shown` is a region of one slice of the source that a reader wants to see, `lesions` are
    cross-sections of lesions in the source. `source_scans` and `target_scans` are the rows of the scans whose clinical end points
    are measured (see `unpaired_endpoints`).
    """

    source: Ensemble
    target: Ensemble
    halves: NDArray[np.int64]
    source_rois: Regions
    target_rois: Regions
    shown: Roi
    lesions: tuple[Roi, ...]
    source_scans: Sequence[pd.DataFrame]
    target_scans: Sequence[pd.DataFrame]
    config: EvaluationConfig
    facts: dict[str, Any]

    @property
    def source_groups(self) -> NDArray[np.int64]:
        """The group (regions,) of each region of the source (see `Ensemble`)."""
        return self.source.groups[[roi.slice_index for roi in self.source_rois]]

    @property
    def target_groups(self) -> NDArray[np.int64]:
        """The group (regions,) of each region of the target."""
        return self.target.groups[[roi.slice_index for roi in self.target_rois]]

    @property
    def neighbours(self) -> Neighbours:
        """Indices of slices of the source that follow each other in one series."""
        places = self.source.places
        return find_neighbours(zip(places["series_uid"], places["slice_number"].tolist(), strict=True))


def read_unpaired_set(manifest: pd.DataFrame, *, config: EvaluationConfig, mask: Path | None = None) -> UnpairedSet:
    """Read the slices of a split, those of its pairs among them, and draw the regions.

    Raises:
        ValueError: the split lacks source or target; nothing of one can be read; they have no content in common; the mask fits no
            series; of features in space, a series forms no regular grid.
    """
    depth = FEATURE_SETS[config.features].depth
    source, target = (
        read_ensemble(manifest, role=role, split=config.split, at_most=config.num_slices, depth=depth, purpose="the evaluation")
        for role in ("source", "target")
    )
    if depth > 1:
        series = [*source.places["series_uid"], *target.places["series_uid"]]
        check_regular(manifest, pairs=manifest[manifest["series_uid"].isin(series)])
    halves = target.groups % 2
    stacks = [np.flatnonzero(halves == half) for half in np.unique(halves)]
    drawn = matched_regions([source.hu, *(target.hu[of_half] for of_half in stacks)], num_rois=config.num_rois, seed=config.seed)
    source_discs = drawn[0]
    if not source_discs:
        raise ValueError(
            f"source and target of split {config.split!r} have no content in common, such as lung or soft tissue, in which a "
            "region could be drawn on both"
        )
    target_discs = [
        replace(roi, slice_index=int(of_half[roi.slice_index]))
        for of_half, rois in zip(stacks, drawn[1:], strict=True)
        for roi in rois
    ]
    lesions = _lesions(manifest, source, mask, split=config.split) if mask else ()
    _compare_spacings(source, target)
    return UnpairedSet(
        source=source,
        target=target,
        halves=halves,
        source_rois=_through_slices(source_discs, source.blocks, depth),
        target_rois=_through_slices(target_discs, _within_halves(target.blocks, halves), depth),
        shown=max([*lesions, *source_discs], key=lambda roi: (roi in lesions, roi.mask.sum())),
        lesions=lesions,
        source_scans=choose_scans(manifest, role="source", split=config.split),
        target_scans=choose_scans(manifest, role="target", split=config.split),
        config=config,
        facts={
            "split": {"spec": manifest.attrs.get("split", ""), "scored": config.split},
            "data_fingerprint": data_fingerprint(manifest),
            "roi_seed": config.seed,
            "unpaired": {"source": _describe(source), "target": _describe(target)},
            "num_shared_patients": len(set(source.places["patient"]) & set(target.places["patient"])),
        },
    )


def _describe(ensemble: Ensemble) -> dict[str, int]:
    counts = {
        f"num_{name}": ensemble.places[column].nunique() for name, column in (("patients", "patient"), ("series", "series_uid"))
    }
    return {**counts, "num_slices": len(ensemble.places), "num_groups": len(np.unique(ensemble.groups))}


def _through_slices(discs: list[Roi], blocks: NDArray[np.int64], depth: int) -> Regions:
    return tuple(discs) if depth == 1 else tuple(extrude(discs, blocks=blocks, depth=depth))


def _within_halves(blocks: NDArray[np.int64], halves: NDArray[np.int64]) -> NDArray[np.int64]:
    """The runs of slices (N,) that follow each other within one half."""
    return np.cumsum([True, *((np.diff(blocks) != 0) | (np.diff(halves) != 0))])


def _lesions(manifest: pd.DataFrame, source: Ensemble, mask: Path, *, split: str) -> tuple[Roi, ...]:
    """Cross-sections of the lesions of a mask in the slices of the source."""
    rows = manifest[(manifest["split"] == split) & (manifest["role"] == "source")].drop_duplicates(["path", "slice_index"])
    places = ["series_uid", "z_mm"]
    rows = source.places[places].merge(rows, on=places, how="left", validate="many_to_one")
    return tuple(mask_rois(read_labels(mask, manifest, pairs=rows)))


def _compare_spacings(source: Ensemble, target: Ensemble) -> None:
    sizes_mm = [float(np.median(one.spacings_mm)) for one in (source, target)]
    if max(sizes_mm) > SPACING_TOLERANCE * min(sizes_mm):
        logger.warning(
            "pixels of the source have %.2f mm and those of the target %.2f mm: textures are measured from pixel to pixel, and "
            "differ by that alone",
            *sizes_mm,
        )
