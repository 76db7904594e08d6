"""The slice pairs of a manifest that are scored, and the regions on them: the same for every method.

Pixels are read one scan at a time: a scan is the least that the lungs, regions through several slices and neighbours need. What
is kept of all scans is where regions lie and, compressed, the masks.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.compressed_array import CompressedArray
from ltdiff.data.ensemble import of_usual_size
from ltdiff.data.manifest import REPEAT, data_fingerprint, slice_numbers
from ltdiff.data.masks import check_regular, read_labels_by_series
from ltdiff.data.paired_scans import read_all_hu
from ltdiff.data.rois import (
    HU_RANGES,
    DiscDrawing,
    Roi,
    RoiSummary,
    VolumeRoi,
    count_cross_sections,
    extrude,
    mask_rois,
    volume_mask_rois,
    whole_slices,
)
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.evaluation.noise_power import count_windows
from ltdiff.evaluation.scored_scan import ScoredScan
from ltdiff.inference.method import Slices
from ltdiff.radiomics.feature_sets import FEATURE_SETS, FeatureSet
from ltdiff.system.progress import progress

logger = logging.getLogger(__name__)

_LESIONS_RANK, _WHOLE_RANK = sys.maxsize - 1, sys.maxsize
"""Lesions and whole slices come after all discs, in the order of the scans."""


@dataclass(frozen=True)
class EvaluationSet:
    """What is scored, without its pixels: each of `scans` reads one.

    `places` are those of all scans; `num_windows` (N,) counts the windows of homogeneous tissue in each slice of the target (see
    `noise_power`); `shown` is the region that a reader wants to see, in slice `shown.slice_index` of the whole set; `lesions` are
    the scored cross-sections of a mask, and `num_cross_sections` counts all, None without a mask; `facts` tell a reader what it
    is.
    """

    scans: Sequence[Callable[[], ScoredScan]]
    places: pd.DataFrame
    num_windows: NDArray[np.int64]
    shown: Roi
    lesions: Sequence[RoiSummary]
    num_cross_sections: int | None
    config: EvaluationConfig
    facts: dict[str, Any]


def read_evaluation_set(
    manifest: pd.DataFrame, *, config: EvaluationConfig, mask: Path | None = None, lung_mask: Path | None = None
) -> EvaluationSet:
    """Look at the pairs of a split once, and draw the regions. The lungs are found in the targets, or given.

    Raises:
        ValueError: the split has no pairs, or no region can be drawn on them; a slice cannot be read; a mask fits no series.
    """
    sources, targets = _scored_pairs(manifest, config.split)
    feature_set = FEATURE_SETS[config.features]
    if feature_set.depth > 1:
        check_regular(manifest, pairs=sources)
    rows = _rows_of_scans(manifest, sources, targets)
    labels = _read_masks(mask, manifest, rows)
    lesions = [] if labels is None else _find_lesions(labels, rows)
    num_cross_sections = None if labels is None else sum(count_cross_sections(each.read()) for each in labels)
    if labels is not None:
        logger.info("%d of %d lesion cross-sections are scored", len(lesions), num_cross_sections)
    given = _read_masks(lung_mask, manifest, rows, are_lungs=True)
    lungs, num_windows, discs = _look_at_targets(rows, given, config=config)
    shown = max(discs, key=lambda roi: roi.mask.sum(), default=None)
    if labels is not None and lesions:  # a lesion if there is one, and the largest
        largest = max(lesions, key=lambda region: region.num_pixels)
        shown = _find_roi(largest, labels, rows)
    if shown is None:
        raise ValueError(f"the pairs of split {config.split!r} show air alone: there is nothing to draw a region on")
    repeats = _repeated_rows(manifest, sources)
    scans = [
        partial(
            _read_scan,
            of_scan,
            lungs=of_lungs,
            labels=None if labels is None else labels[i],
            discs=[(rank, roi) for rank, roi in enumerate(discs) if of_scan.holds(roi.slice_index)],
            feature_set=feature_set,
            repeats=repeats,
        )
        for i, (of_scan, of_lungs) in enumerate(zip(rows, lungs, strict=True))
    ]
    return EvaluationSet(
        scans=scans,
        places=pd.concat([of_scan.places for of_scan in rows], ignore_index=True),
        num_windows=num_windows,
        shown=shown,
        lesions=lesions,
        num_cross_sections=num_cross_sections,
        config=config,
        facts={
            "split": {"spec": manifest.attrs.get("split", ""), "scored": config.split, "num_pairs": len(sources)},
            "data_fingerprint": data_fingerprint(manifest),
            "roi_seed": config.seed,
            "num_lesion_cross_sections": num_cross_sections or 0,
            "lungs": "found in the target by thresholds" if given is None else "given",
            "scans": _describe_scans(sources, targets),
            "num_repeated_slices": 0 if repeats is None else int(sources["pair_id"].isin(repeats.index).sum()),
        },
    )


@dataclass(frozen=True)
class _ScanRows:
    """The rows of a manifest that a scan is read from; see `ScoredScan`."""

    first: int
    sources: pd.DataFrame
    targets: pd.DataFrame
    series: NDArray[np.int64]
    places: pd.DataFrame

    def holds(self, slice_index: int) -> bool:
        """Tell whether a slice of the whole set is one of the scan."""
        return self.first <= slice_index < self.first + len(self.sources)

    @property
    def spacings_mm(self) -> NDArray[np.float64]:
        return self.sources[["spacing_y_mm", "spacing_x_mm"]].to_numpy(dtype=float)


def _rows_of_scans(manifest: pd.DataFrame, sources: pd.DataFrame, targets: pd.DataFrame) -> list[_ScanRows]:
    """The pairs of each source series, which follow each other."""
    series = (sources["series_uid"] + " " + targets["series_uid"]).factorize()[0]
    places = sources[["series_uid", "z_mm"]].assign(slice_number=slice_numbers(manifest, sources))
    places = places.rename_axis("slice_index").reset_index()
    starts = np.flatnonzero((sources["series_uid"] != sources["series_uid"].shift()).to_numpy())
    return [
        _ScanRows(
            first=int(start),
            sources=sources.iloc[start:end].reset_index(drop=True),
            targets=targets.iloc[start:end].reset_index(drop=True),
            series=series[start:end],
            places=places.iloc[start:end].reset_index(drop=True),
        )
        for start, end in pairwise([*starts, len(sources)])
    ]


def _read_masks(
    mask: Path | None, manifest: pd.DataFrame, rows: Sequence[_ScanRows], *, are_lungs: bool = False
) -> list[CompressedArray] | None:
    """The labels of each scan, or whether a pixel has one; None where no mask is given."""
    if mask is None:
        return None
    labels = read_labels_by_series(mask, manifest, parts=(of_scan.sources for of_scan in rows))
    return [CompressedArray.of(each > 0 if are_lungs else each) for each in labels]


def _find_lesions(labels: Sequence[CompressedArray], rows: Sequence[_ScanRows]) -> list[RoiSummary]:
    return [
        RoiSummary.of(roi, first=of_scan.first)
        for of_scan, of_labels in zip(rows, labels, strict=True)
        for roi in mask_rois(of_labels.read())
    ]


def _find_roi(region: RoiSummary, labels: Sequence[CompressedArray], rows: Sequence[_ScanRows]) -> Roi:
    """The region with its mask, in the whole set."""
    (number,) = (i for i, of_scan in enumerate(rows) if of_scan.holds(region.slice_index))
    z = region.slice_index - rows[number].first
    (roi,) = (roi for roi in mask_rois(labels[number].read()[z : z + 1]) if roi.label == region.label)
    return replace(roi, slice_index=region.slice_index)


def _look_at_targets(
    rows: Sequence[_ScanRows], given: Sequence[CompressedArray] | None, *, config: EvaluationConfig
) -> tuple[list[CompressedArray], NDArray[np.int64], list[Roi]]:
    """One pass over the targets: the lungs of each scan, if they are not given, windows for noise by slice, and random discs."""
    last, of_slice = rows[-1], rows[0].targets.iloc[0]
    shape = (last.first + len(last.sources), int(of_slice["rows"]), int(of_slice["columns"]))
    drawing = DiscDrawing(shape, num_rois=config.num_rois, seed=config.seed)

    def look(number: int) -> tuple[CompressedArray, NDArray[np.int64], int]:
        """Lungs, windows by slice, and pairs of series that show lungs; the pixels are forgotten."""
        target_hu = read_all_hu(rows[number].targets)
        drawing.see(target_hu, first=rows[number].first)
        if given is not None:
            return given[number], count_windows(target_hu), 0
        lungs, num_found = _find_all_lungs(target_hu, rows[number].series, rows[number].spacings_mm)
        return CompressedArray.of(lungs), count_windows(target_hu), num_found

    numbers = progress(range(len(rows)), name="draw regions", unit="scan", is_shown=len(rows) > 1)
    lungs, num_windows, num_found = zip(*map(look, numbers), strict=True)
    if given is None:
        num_series = sum(len(np.unique(of_scan.series)) for of_scan in rows)
        logger.info("lungs are found in the scored slices of %d of %d pairs of series", sum(num_found), num_series)
    discs = drawing.draw() + [roi for hu_range in HU_RANGES for roi in drawing.draw(hu_range=hu_range)]
    return list(lungs), np.concatenate(num_windows), discs


def _read_scan(
    rows: _ScanRows,
    *,
    lungs: CompressedArray,
    labels: CompressedArray | None,
    discs: Sequence[tuple[int, Roi]],
    feature_set: FeatureSet,
    repeats: pd.DataFrame | None,
) -> ScoredScan:
    """Read a scan; `discs` come with their ranks. ValueError naming a slice that cannot be read."""
    target_hu = read_all_hu(rows.targets)
    of_labels = None if labels is None else labels.read()
    regions = [(rank, replace(roi, slice_index=roi.slice_index - rows.first)) for rank, roi in discs]
    numbers = rows.places["slice_number"].to_numpy()
    scored = _scored_regions(
        regions, of_labels, shape=target_hu.shape, series=rows.series, numbers=numbers, feature_set=feature_set
    )
    return ScoredScan(
        first=rows.first,
        source_hu=read_all_hu(rows.sources),
        target_hu=target_hu,
        spacings_mm=rows.spacings_mm,
        series=rows.series,
        places=rows.places,
        scored=[roi for _, roi in scored],
        ranks=[rank for rank, _ in scored],
        lungs=lungs.read(),
        labels=of_labels,
        repeat_hu=None if repeats is None else _read_repeats(repeats, rows.sources, shape=target_hu.shape),
    )


def _scored_regions(
    discs: Sequence[tuple[int, Roi]],
    labels: NDArray[np.uint16] | None,
    *,
    shape: tuple[int, ...],
    series: NDArray[np.int64],
    numbers: NDArray[np.int64],
    feature_set: FeatureSet,
) -> list[tuple[int, Roi | VolumeRoi]]:
    """Discs with their ranks, lesions and, where the set is measured there, whole slices; in space through several slices."""
    found: list[tuple[int, Roi | VolumeRoi]] = list(discs)
    if feature_set.depth == 1:
        return found + [(_LESIONS_RANK, roi) for roi in (mask_rois(labels) if labels is not None else [])]
    follows = (np.diff(series) == 0) & (np.diff(numbers) == 1)
    blocks = np.cumsum([True, *~follows])  # number of the run of slices, each the next of the one before, that a slice is in
    deep = extrude([roi for _, roi in discs], blocks=blocks, depth=feature_set.depth)
    found = [(rank, roi) for (rank, _), roi in zip(discs, deep, strict=True)]
    found += [(_LESIONS_RANK, roi) for roi in (volume_mask_rois(labels, blocks=blocks) if labels is not None else [])]
    return found + [(_WHOLE_RANK, roi) for roi in (whole_slices(shape) if feature_set.of_whole_slices else [])]


def _scored_pairs(manifest: pd.DataFrame, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the sources and of the targets of a split, in the order of the slices."""
    rows = manifest[(manifest["split"] == split) & manifest["pair_id"].notna()]
    if rows.empty:
        raise ValueError(f"the manifest has no pair in its split {split!r}; see the option --split of `ltdiff pair`")
    rows = of_usual_size(rows)
    sources = rows[rows["role"] == "source"].sort_values(["series_uid", "z_mm"])
    targets = rows[rows["role"] == "target"].set_index("pair_id").loc[sources["pair_id"]].reset_index()
    return sources.reset_index(drop=True), targets


def _describe_scans(sources: pd.DataFrame, targets: pd.DataFrame) -> dict[str, Any]:
    """How many there are, and with which protocols; smallest and largest value in mm."""
    both = pd.concat([sources, targets])
    thicknesses_mm = both["slice_thickness_mm"].dropna()
    spacings_mm = both[["spacing_y_mm", "spacing_x_mm"]].to_numpy(float)
    return {
        "num_patients": int(sources["patient"].nunique()),
        "num_scans": len(set(zip(sources["series_uid"], targets["series_uid"], strict=True))),
        "manufacturers": sorted(set(both["manufacturer"]) - {""}),
        "source_kernels": sorted(set(sources["kernel"]) - {""}),
        "target_kernels": sorted(set(targets["kernel"]) - {""}),
        "spacing_mm": [float(spacings_mm.min()), float(spacings_mm.max())],
        "slice_thickness_mm": [float(thicknesses_mm.min()), float(thicknesses_mm.max())] if len(thicknesses_mm) else [],
    }


def _repeated_rows(manifest: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of the targets scanned again, by pair; None where no pair was."""
    rows = manifest[manifest["role"] == REPEAT].set_index("pair_id", drop=False)
    return rows if sources["pair_id"].isin(rows.index).any() else None


def _read_repeats(repeats: pd.DataFrame, sources: pd.DataFrame, *, shape: tuple[int, ...]) -> Slices:
    """The repeat (Z, Y, X) of the target of each pair, NaN where there is none."""
    (places,) = np.nonzero(sources["pair_id"].isin(repeats.index))
    repeat_hu = np.full(shape, np.nan, np.float32)
    if len(places):
        repeat_hu[places] = read_all_hu(repeats.loc[sources["pair_id"].iloc[places]])
    return repeat_hu


def _find_all_lungs(
    target_hu: Slices, series: NDArray[np.int64], spacings_mm: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], int]:
    """The lungs (Z, Y, X) of each pair of series; all False in those that show none; and the number of those that show some."""
    lungs = np.zeros(target_hu.shape, bool)
    for number in np.unique(series):
        of_series = series == number
        y_mm, x_mm = spacings_mm[of_series][0]
        lungs[of_series] = find_lungs(target_hu[of_series], (float(y_mm), float(x_mm)))
    return lungs, sum(int(lungs[series == number].any()) for number in np.unique(series))
