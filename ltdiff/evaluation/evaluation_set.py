"""The slice pairs of a manifest that are scored, and the regions on them: the same for every method."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.ensemble import of_usual_size
from ltdiff.data.manifest import REPEAT, data_fingerprint, slice_numbers
from ltdiff.data.masks import check_regular, read_labels
from ltdiff.data.paired_scans import read_all_hu
from ltdiff.data.rois import (
    HU_RANGES,
    Roi,
    VolumeRoi,
    count_cross_sections,
    extrude,
    is_lesion_set,
    mask_rois,
    random_rois,
    volume_mask_rois,
    whole_slices,
)
from ltdiff.data.slice_pairs import find_neighbours
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.evaluation.structures import Neighbours
from ltdiff.inference.method import Method, Slices
from ltdiff.radiomics.feature_sets import FEATURE_SETS, FeatureSet
from ltdiff.system.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """N slice pairs (N, Y, X) in HU, and the regions drawn on their targets.

    `rois` are regions of single slices, `scored` those that features are extracted from. `spacings_mm` (N, 2) is (y, x);
    `series` (N,) numbers the pairs of series that slices belong to; `places` has a row for each slice: series_uid, z_mm and
    slice_number, its place in the whole series.
    `repeat_hu` (N, Y, X) are the targets scanned again, NaN where they were not, None where none was.
    `lungs` (N, Y, X) bool is one mask for all images; `labels` (N, Y, X) uint16 numbers the lesions of each series, None without
    a mask, and `num_cross_sections` counts their cross-sections; `facts` tell a reader what it is.
    """

    source_hu: Slices
    target_hu: Slices
    spacings_mm: NDArray[np.float64]
    series: NDArray[np.int64]
    places: pd.DataFrame
    rois: tuple[Roi, ...]
    scored: tuple[Roi, ...] | tuple[VolumeRoi, ...]
    lungs: NDArray[np.bool_]
    labels: NDArray[np.uint16] | None
    num_cross_sections: int | None
    config: EvaluationConfig
    facts: dict[str, Any]
    repeat_hu: Slices | None = None

    @property
    def slice_numbers(self) -> NDArray[np.int64]:
        """The places (N,) of the slices in their whole series, which decide the noise of a method that draws some."""
        return self.places["slice_number"].to_numpy()

    @property
    def neighbours(self) -> Neighbours:
        """Indices of slices that follow each other in one series."""
        return find_neighbours(zip(self.series.tolist(), self.slice_numbers.tolist(), strict=True))

    @property
    def lesions(self) -> list[Roi]:
        """The cross-sections of lesions among `rois`."""
        return [roi for roi in self.rois if is_lesion_set(roi.roi_set)]


def standardize_slices(
    method: Method,
    slices_hu: Sequence[Slices] | Slices,
    spacings_mm: Iterable[Sequence[float]],
    *,
    numbers: Iterable[int],
    num_workers: int,
    name: str = "standardize",
) -> list[Slices]:
    """A' (Y, X) of source slices (Y, X), several at a time, with PixelSpacings (y, x) and their numbers in their series."""

    def standardize(hu: Slices, spacing_mm: Sequence[float], number: int) -> Slices:
        return method.standardize(hu[None], (float(spacing_mm[0]), float(spacing_mm[1])), first_slice=int(number))[0]

    with ThreadPoolExecutor(num_workers) as pool:
        made = pool.map(standardize, slices_hu, spacings_mm, numbers)
        return list(progress(made, name=name, unit="slice", total=len(slices_hu)))


def read_evaluation_set(
    manifest: pd.DataFrame, *, config: EvaluationConfig, mask: Path | None = None, lung_mask: Path | None = None
) -> EvaluationSet:
    """Read the pairs of a split and draw the regions. The lungs are found in the targets, or given.

    Raises:
        ValueError: the split has no pairs, or no region can be drawn on them; a slice cannot be read; a mask fits no series.
    """
    pairs, targets = _scored_pairs(manifest, config.split)
    target_hu = read_all_hu(targets)
    labels = read_labels(mask, manifest, pairs=pairs) if mask else None
    rois = draw_rois(target_hu, labels=labels, config=config)
    if not rois:
        raise ValueError(f"the pairs of split {config.split!r} show air alone: there is nothing to draw a region on")
    series = (pairs["series_uid"] + " " + targets["series_uid"]).factorize()[0]
    numbers = slice_numbers(manifest, pairs)
    feature_set = FEATURE_SETS[config.features]
    scored: tuple[Roi, ...] | tuple[VolumeRoi, ...] = tuple(rois)
    if feature_set.depth > 1:
        check_regular(manifest, pairs=pairs)
        follows = (np.diff(series) == 0) & (np.diff(numbers) == 1)
        blocks = np.cumsum([True, *~follows])  # number of the run of slices, each the next of the one before, that a slice is in
        scored = _in_space(rois, labels, blocks=blocks, feature_set=feature_set)
    num_cross_sections = None if labels is None else count_cross_sections(labels)
    spacings_mm = pairs[["spacing_y_mm", "spacing_x_mm"]].to_numpy(dtype=float)
    given = read_labels(lung_mask, manifest, pairs=pairs) > 0 if lung_mask else None
    repeat_hu = _read_repeats(manifest, pairs, shape=target_hu.shape)
    return EvaluationSet(
        source_hu=read_all_hu(pairs),
        target_hu=target_hu,
        spacings_mm=spacings_mm,
        series=series,
        places=pairs[["series_uid", "z_mm"]].assign(slice_number=numbers).rename_axis("slice_index").reset_index(),
        rois=tuple(rois),
        scored=scored,
        lungs=_find_all_lungs(target_hu, series, spacings_mm) if given is None else given,
        labels=labels,
        num_cross_sections=num_cross_sections,
        config=config,
        facts={
            "split": {"spec": manifest.attrs.get("split", ""), "scored": config.split, "num_pairs": len(pairs)},
            "data_fingerprint": data_fingerprint(manifest),
            "roi_seed": config.seed,
            "num_lesion_cross_sections": num_cross_sections or 0,
            "lungs": "found in the target by thresholds" if given is None else "given",
            "scans": _describe_scans(pairs, targets),
            "num_repeated_slices": 0 if repeat_hu is None else int(np.isfinite(repeat_hu[:, 0, 0]).sum()),
        },
        repeat_hu=repeat_hu,
    )


def draw_rois(target_hu: Slices, *, labels: NDArray[np.uint16] | None, config: EvaluationConfig) -> list[Roi]:
    """Random discs, random discs for every HU range, and those of the lesion masks; drawn on the target alone."""
    rois = random_rois(target_hu, num_rois=config.num_rois, seed=config.seed)
    for hu_range in HU_RANGES:
        rois += random_rois(target_hu, num_rois=config.num_rois, seed=config.seed, hu_range=hu_range)
    if labels is not None:
        lesions = mask_rois(labels)
        logger.info("%d of %d lesion cross-sections are scored", len(lesions), count_cross_sections(labels))
        rois += lesions
    return rois


def _scored_pairs(manifest: pd.DataFrame, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the sources and of the targets of a split, in the order of the slices."""
    rows = manifest[(manifest["split"] == split) & manifest["pair_id"].notna()]
    if rows.empty:
        raise ValueError(f"the manifest has no pair in its split {split!r}; see the option --split of `ltdiff pair`")
    rows = of_usual_size(rows)
    sources = rows[rows["role"] == "source"].sort_values(["series_uid", "z_mm"])
    targets = rows[rows["role"] == "target"].set_index("pair_id").loc[sources["pair_id"]].reset_index()
    return sources.reset_index(drop=True), targets


def _in_space(
    rois: list[Roi], labels: NDArray[np.uint16] | None, *, blocks: NDArray[np.int64], feature_set: FeatureSet
) -> tuple[VolumeRoi, ...]:
    """Random discs through several slices of a block (Z,), whole lesions and, where the set is measured there, whole slices."""
    discs = extrude([roi for roi in rois if not is_lesion_set(roi.roi_set)], blocks=blocks, depth=feature_set.depth)
    lesions = [] if labels is None else volume_mask_rois(labels, blocks=blocks)
    whole = whole_slices((len(blocks), *rois[0].mask.shape)) if feature_set.of_whole_slices else []
    return (*discs, *lesions, *whole)


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


def _read_repeats(manifest: pd.DataFrame, pairs: pd.DataFrame, *, shape: tuple[int, ...]) -> Slices | None:
    """The repeat (N, Y, X) of the target of each pair, NaN where there is none; None without any."""
    rows = manifest[manifest["role"] == REPEAT].set_index("pair_id", drop=False)
    (places,) = np.nonzero(pairs["pair_id"].isin(rows.index))
    if len(places) == 0:
        return None
    repeat_hu = np.full(shape, np.nan, np.float32)
    repeat_hu[places] = read_all_hu(rows.loc[pairs["pair_id"].iloc[places]])
    return repeat_hu


def _find_all_lungs(target_hu: Slices, series: NDArray[np.int64], spacings_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The lungs (N, Y, X) of each pair of series; all False in those that show none."""
    lungs = np.zeros(target_hu.shape, bool)
    for number in np.unique(series):
        of_series = series == number
        y_mm, x_mm = spacings_mm[of_series][0]
        lungs[of_series] = find_lungs(target_hu[of_series], (float(y_mm), float(x_mm)))
    num_found = sum(lungs[series == number].any() for number in np.unique(series))
    logger.info("lungs are found in the scored slices of %d of %d pairs of series", num_found, len(np.unique(series)))
    return lungs
