"""Lesion masks: for the slices of a manifest, or by name for one scan.

They come from volume files (NIfTI, NRRD, MHA), DICOM SEG files and, by name, RT Structure Sets.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.manifest_series import find_manifest_series, paths_by_series
from ltdiff.data.volume_files import is_volume_file, orientation_code, read_mask, read_volume
from ltdiff.data.volume_header import GRID_TOLERANCE_VOXELS
from ltdiff.dicom.drawn_region import DrawnOn, DrawnRegion
from ltdiff.dicom.scan import Scan, Volume
from ltdiff.dicom.segmentation import find_segmentations, read_segmentation
from ltdiff.dicom.series import Series
from ltdiff.dicom.structure_set import find_structure_sets, read_structures
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)


def read_labels(mask: Path, manifest: pd.DataFrame, *, pairs: pd.DataFrame) -> NDArray[Any]:
    """Labels (N, Y, X) uint16 for the N rows of `pairs` (source rows of `manifest`, paired or not), 0 where there is no lesion.

    `mask` is a volume file on the grid of the only source series; or a DICOM SEG file, or a folder of them, each of which names
    a series of the pairs or was drawn in its frame of reference, as the log says then.

    Raises:
        ValueError: the mask fits no series of the pairs.
    """
    return np.concatenate(list(read_labels_by_series(mask, manifest, parts=[pairs])))


def read_labels_by_series(mask: Path, manifest: pd.DataFrame, *, parts: Iterable[pd.DataFrame]) -> Iterator[NDArray[Any]]:
    """Labels as `read_labels` reads them, one after the other for each of `parts`, the rows of all pairs of some source series.

    Raises:
        ValueError: as `read_labels`; that the mask fits no series of any part shows at the end.
    """
    if not mask.exists():
        raise ValueError(f"{printable(mask)}: there is no such file or folder")
    if is_volume_file(mask):
        yield from (_from_volume(mask, manifest, pairs) for pairs in parts)
        return
    found, is_used = _ManifestSegmentations.of(find_segmentations(mask), manifest), False
    for pairs in parts:
        labels, used = _from_segmentations(found, pairs)
        is_used = is_used or bool(used)
        yield labels
    if not is_used:
        raise ValueError(f"{printable(mask)}: there is no DICOM segmentation (SEG) of a series of these pairs")


def _from_volume(mask: Path, manifest: pd.DataFrame, pairs: pd.DataFrame) -> NDArray[Any]:
    series_uids = manifest.loc[manifest["role"] == "source", "series_uid"].unique()
    if len(series_uids) != 1:
        raise ValueError(f"{mask}: a mask file belongs to one series, and the manifest has {len(series_uids)} source series")
    path = Path(pairs["path"].iloc[0])
    if is_volume_file(path):
        return _numbered(_read_on_grid(mask, read_volume(path)))[pairs["slice_index"]]
    series_uid = str(series_uids[0])
    series = find_manifest_series(series_uid, paths_by_series(manifest)[series_uid])
    return _of_slices(pairs["path"], _numbered(_read_on_grid(mask, series.read_volume())), series)


def _numbered(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (Z, Y, X) in which the lesions of a binary mask have numbers of their own, as far as they do not touch."""
    if np.unique(labels).size > 2:
        return labels
    numbered, num_lesions = ndimage.label(labels, structure=np.ones((3, 3, 3)))
    if num_lesions > np.iinfo(np.uint16).max:
        logger.warning("the mask has one label and %d separate parts, too many to number: they are one region", num_lesions)
        return labels
    if num_lesions < 2:
        return labels
    logger.info("the mask has one label and %d separate lesions, which are numbered", num_lesions)
    return np.asarray(numbered, dtype=np.uint16)


@dataclass(frozen=True)
class _ManifestSegmentations:
    """Segmentations, and what is looked up in their manifest, in one pass for all series.

    `by_series` are those that name a series of the manifest, `strangers` name none of them. `paths` are the files of each series,
    `targets` the rows of that role by `pair_id`.
    """

    origins: Mapping[Path, DrawnOn]
    by_series: Mapping[str, Set[Path]]
    strangers: Set[Path]
    paths: Mapping[str, Set[str]]
    targets: pd.DataFrame

    @classmethod
    def of(cls, origins: Mapping[Path, DrawnOn], manifest: pd.DataFrame) -> "_ManifestSegmentations":
        paths = paths_by_series(manifest)
        by_series: dict[str, set[Path]] = defaultdict(set)
        for path, origin in origins.items():
            for series_uid in origin.series & paths.keys():
                by_series[series_uid].add(path)
        strangers = origins.keys() - set[Path]().union(*by_series.values())
        is_target = (manifest["role"] == "target") & manifest["pair_id"].notna()
        return cls(origins, by_series, strangers, paths, manifest[is_target].set_index("pair_id"))


def _from_segmentations(found: _ManifestSegmentations, pairs: pd.DataFrame) -> tuple[NDArray[Any], dict[int, Path]]:
    """The labels, and the segmentation that they are of by slice."""
    labels = np.zeros((len(pairs), int(pairs["rows"].iloc[0]), int(pairs["columns"].iloc[0])), np.uint16)
    sources = pairs.reset_index(drop=True)
    paired = sources.dropna(subset="pair_id")  # a slice without a partner has no target
    targets = found.targets.loc[paired["pair_id"]].set_axis(paired.index)
    used: dict[int, Path] = {}  # by the slices in `labels`
    for rows, is_named in ((sources, True), (targets, True), (sources, False)):  # it may be drawn on a third kernel
        for series_uid, slices in rows.groupby("series_uid"):
            named = found.by_series.get(str(series_uid), set()) if is_named else set()
            candidates = found.strangers | named
            if not candidates or (not is_named and used.keys() & set(slices.index)):
                continue
            series = find_manifest_series(str(series_uid), found.paths[str(series_uid)])
            fitting = sorted(path for path in candidates if _fits(found.origins[path], series, is_named=is_named))
            images = _label_images(fitting, series, is_named=is_named)
            if path := _only(list(images)):
                _only([*{used[index] for index in slices.index if index in used}, path])
                labels[slices.index] = _of_slices(slices["path"], _numbered(images[path]), series)
                used |= dict.fromkeys(slices.index, path)
    return labels, used


def _fits(origin: DrawnOn, series: Series, *, is_named: bool) -> bool:
    """Whether a segmentation names the series, or at least lies in its frame of reference."""
    return origin.is_of(series) if is_named else origin.is_in_frame_of(series) and origin.could_be_of(series)


def _label_images(paths: Sequence[Path], series: Series, *, is_named: bool) -> dict[Path, NDArray[np.uint16]]:
    """Those of segmentations of a series; where they do not name it, only of those that lie on its slices."""
    images = {}
    for path in paths:
        try:
            images[path] = _label_image(path, series)
        except ValueError as error:
            if is_named:
                raise
            logger.warning("%s: it is passed over", error)
    return images


def _label_image(path: Path, series: Series) -> NDArray[np.uint16]:
    """The regions of a segmentation as labels (Z, Y, X), their numbers."""
    labels = np.zeros((series.num_slices, series.rows, series.columns), np.uint16)
    names: dict[int, str] = {}
    for number, name, region in _without_gaps(read_segmentation(path, series), path):
        if labels[region].any():
            other = names[int(labels[region].max())]
            raise ValueError(
                f"{printable(path)}: the segments {quoted(other)} and {quoted(name)} overlap, and here one image of all labels "
                "is needed: write them to files of their own"
            )
        labels[region], names[number] = number, name
    return labels


def _without_gaps(regions: Iterator[DrawnRegion], path: Path) -> Iterator[DrawnRegion]:
    """The regions, while the log names those that were drawn on some slices only: what lies between counts as outside."""
    for region in regions:
        if between := _empty_between(region.mask):
            num_slices = int(np.ptp(np.flatnonzero(region.mask.any(axis=(1, 2))))) + 1
            logger.warning(
                "%s: %s is empty on %d of the %d slices from its first to its last: was it drawn on some of them only? "
                "Nothing is filled in",
                printable(path),
                quoted(region.name),
                between,
                num_slices,
            )
        yield region


def _empty_between(mask: NDArray[np.bool_]) -> int:
    """Number of slices without a voxel of a region (Z, Y, X), between two whose voxels lie at the same places in the plane."""
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    return sum(int(high - low - 1) for low, high in pairwise(used) if high > low + 1 and (mask[low] & mask[high]).any())


def _only(paths: Sequence[Path]) -> Path | None:
    """The only one of these masks, or None. Raise ValueError where there are several."""
    if len(paths) > 1:
        raise ValueError(f"{printable(paths[0])} and {printable(paths[1])} are masks of the same slices: name one of them")
    return paths[0] if paths else None


def _of_slices(paths: pd.Series, labels: NDArray[Any], series: Series) -> NDArray[Any]:
    """Those labels (N, Y, X) of a whole series that belong to the slices in these files."""
    places = {str(header.path): place for place, header in enumerate(series.slices)}
    return labels[[places[path] for path in paths]]


def check_regular(manifest: pd.DataFrame, *, pairs: pd.DataFrame) -> None:
    """ValueError naming a series of `pairs` (source rows of `manifest`) whose slices form no regular grid in space."""
    paths = paths_by_series(manifest)
    for series_uid, path in pairs.drop_duplicates("series_uid")[["series_uid", "path"]].itertuples(index=False):
        if not is_volume_file(Path(path)) and (series := find_manifest_series(series_uid, paths[series_uid])).irregularity:
            raise ValueError(
                f"features in space need a regular grid, and the series of {printable(series.path)} forms none: "
                f"{series.irregularity}"
            )


def read_named_masks(mask: Path, scan: Scan, *, hu: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield regions as name and mask (Z, Y, X) on the slices of `scan`, whose HU (Z, Y, X) are `hu`; none of them is empty.

    `mask` is a volume file on the grid of the scan, whose labels become "label_1" and so on; or a DICOM SEG or RT Structure Set,
    whose segments and ROIs keep their names; or a folder with the one that belongs to the scan's series. Regions may overlap. A
    DICOM file may also have been drawn on the series that this one was derived from or, as the log says then, on another one in
    the same frame of reference, such as another kernel of the same acquisition.

    Raises:
        ValueError: the mask cannot be read, is empty, or does not belong to the scan.
    """
    if not mask.exists():
        raise ValueError(f"{printable(mask)}: there is no such file or folder")
    regions = _by_label(mask, scan.make_volume(hu)) if is_volume_file(mask) else _from_dicom(mask, scan)
    for _, name, voxels in _without_gaps(regions, mask):
        yield name, voxels


def _from_dicom(mask: Path, scan: Scan) -> Iterator[DrawnRegion]:
    if not isinstance(scan, Series):
        raise ValueError(f"{printable(mask)}: the mask of a volume file is a volume file, not a DICOM file or a folder")
    chosen, is_segmentation = _choose_file(mask, scan)
    return read_segmentation(chosen, scan) if is_segmentation else read_structures(chosen, scan)


def find_segmentation(mask: Path, series: Series) -> Path | None:
    """The DICOM SEG whose segments `read_named_masks` yields; None where it reads a file of another kind."""
    if is_volume_file(mask):
        return None
    chosen, is_segmentation = _choose_file(mask, series)
    return chosen if is_segmentation else None


def _choose_file(mask: Path, series: Series) -> tuple[Path, bool]:
    """The SEG or RT Structure Set that belongs to the series, and whether it is a SEG."""
    segmentations, structure_sets = find_segmentations(mask), find_structure_sets(mask)
    found = segmentations | structure_sets
    fitting = [
        [path for path, origin in found.items() if origin.is_of(series)],
        [path for path, origin in found.items() if origin.is_in_frame_of(series) and origin.could_be_of(series)],
        [path for path, origin in found.items() if origin.could_be_of(series)],
    ]
    if mask.is_file() and found:
        fitting.append([mask])  # to be told why it does not
    chosen = next((_only(paths) for paths in fitting if paths), None)
    if chosen is None:
        what = "this is no DICOM segmentation or" if mask.is_file() else "there is no DICOM segmentation and no"
        raise ValueError(f"{printable(mask)}: {what} RT structure set of this series")
    return chosen, chosen in segmentations


def _by_label(mask: Path, image: Volume) -> Iterator[DrawnRegion]:
    labels = _read_on_grid(mask, image)
    found = [int(label) for label in np.unique(labels) if label]
    if not found:
        raise ValueError(f"{printable(mask)}: the mask is empty")
    return (DrawnRegion(label, f"label_{label}", labels == label) for label in found)


def _read_on_grid(mask: Path, image: Volume) -> NDArray[Any]:
    """The labels (Z, Y, X) of a volume file whose voxels are those of the image."""
    # of a DICOM series any, for its rows and columns are as they are stored
    orientation = orientation_code(image.direction)
    labels = read_mask(mask, orientation=orientation)
    if labels.shape != image.hu.shape:
        raise ValueError(f"{printable(mask)}: the mask has {labels.shape} voxels, the image {image.hu.shape}")
    grid = read_volume(mask, orientation=orientation)
    if (distance := _largest_distance(grid, image)) > GRID_TOLERANCE_VOXELS:
        raise ValueError(
            f"{printable(mask)}: the mask lies up to {distance:.3g} voxels beside the image "
            f"(mask: {_describe_grid(grid)}; image: {_describe_grid(image)})"
        )
    return labels


def _largest_distance(grid: Volume, image: Volume) -> float:
    """How far voxels of one lie from those of the other at most, along any axis of the image, in its voxels."""
    last = np.array(image.hu.shape[::-1]) - 1
    corners = np.indices((2, 2, 2)).reshape(3, 8) * last[:, None]  # of voxels in a line, one at an end is farthest off
    (axes, origin_mm), (image_axes, image_origin_mm) = _affine(grid), _affine(image)
    positions_mm = axes @ corners + origin_mm
    return float(np.abs(np.linalg.solve(image_axes, positions_mm - image_origin_mm) - corners).max())


def _affine(volume: Volume) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps from voxel to voxel as columns (3, 3) for x, y and z, and the first voxel's position (3, 1), in mm."""
    axes = np.array(volume.direction).reshape(3, 3) * volume.spacing_mm[::-1]
    return axes, np.array(volume.origin_mm)[:, None]


def _describe_grid(volume: Volume) -> str:
    spacing, origin, direction = (
        "\\".join(f"{value:.5g}" for value in values) for values in (volume.spacing_mm[::-1], volume.origin_mm, volume.direction)
    )
    return f"spacing {spacing} mm, origin {origin} mm, direction {direction}"
