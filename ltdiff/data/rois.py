"""Regions of interest: seeded random discs and the lesions of a label volume, in one slice or through several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import ndimage

RADIUS_RANGE_PX = (8, 15)  # both included
BORDER_PX = 60  # least distance of a disc's centre from the edge of the image
BORDER_FRACTION = 0.25  # images narrower than BORDER_PX / BORDER_FRACTION = 240 px keep this fraction of it clear
LOWEST_MEAN_HU = -950.0  # darker discs lie in the air round the patient
HU_RANGES = ((-800.0, -300.0), (-100.0, 250.0), (10.0, 250.0), (300.0, 800.0))  # lung, soft tissue, contrast, bone
MIN_LESION_PIXELS = 16
WHOLE_SLICES = "whole_slice"  # the roi_set of `whole_slices`
_CANDIDATES_PER_ROI = 1000
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Roi:
    """A region of one slice; the same mask is laid on the source, the target and every standardized image.

    `roi_set` names the recipe ("random", "hu_-800_-300", "tumour"), `mask` is bool (Y, X), `label` tells the regions
    of one slice apart and, for a disc, holds what rebuilds it ("y201_x300_r11", see `disc_mask`).
    """

    roi_set: str
    slice_index: int
    mask: np.ndarray
    label: str

    @property
    def volume_mask(self) -> np.ndarray:
        """The mask as one of a volume of one slice (1, Y, X)."""
        return self.mask[None]


@dataclass(frozen=True, eq=False)
class VolumeRoi:
    """A region of consecutive slices of one series; `volume_mask` bool (N, Y, X) from slice `slice_index` on. See `Roi`."""

    roi_set: str
    slice_index: int
    volume_mask: np.ndarray
    label: str


class RoiSummary(NamedTuple):
    """What is told of a region: all but its mask, which is as large as a slice.

    It lies in `num_slices` slices from `slice_index` on; `rows` and `columns` are its bounding box, from and to, and `num_pixels`
    are those of all its slices.
    """

    roi_set: str
    slice_index: int
    num_slices: int
    label: str
    num_pixels: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of(cls, roi: Roi | VolumeRoi, *, first: int = 0) -> Self:
        """Describe a region whose slices are counted from slice `first` on."""
        mask = roi.volume_mask
        rows, columns = bounding_box(np.any(mask, axis=0))
        box = (rows.start, rows.stop), (columns.start, columns.stop)
        return cls(roi.roi_set, first + roi.slice_index, len(mask), roi.label, int(mask.sum()), *box)


def disc_mask(shape: tuple[int, int], *, centre_yx: tuple[int, int], radius_px: int) -> np.ndarray:
    """Bool (Y, X): the pixels at most `radius_px` from the centre."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 <= radius_px**2


def random_rois(
    target_hu: np.ndarray, *, num_rois: int = 100, seed: int = 0, hu_range: tuple[float, float] | None = None
) -> list[Roi]:
    """Draw `num_rois` discs in all over the slices of `target_hu` (Z, Y, X), at uniformly random slices and places.

    Radius 8–15 px; centre at least 60 px from the border (a quarter of the image where that is less); mean of the
    target above −950 HU or, with `hu_range` (low, high) in HU, inside that range. Discs may overlap. The same seed
    gives the same discs; fewer come back where a thousand candidates per disc do not hold enough. ValueError when
    the image is too small for a disc of the smallest radius.
    """
    border, largest_radius = _margins(target_hu.shape)
    roi_set = "random" if hu_range is None else hu_set_name(hu_range)
    rois: list[Roi] = []
    for candidates in _candidates(target_hu.shape, border, largest_radius, seed, num_rois * _CANDIDATES_PER_ROI):
        means = _disc_means(target_hu, candidates)
        accepted = candidates[_wanted(means, hu_range)]
        rois += [_disc_roi(roi_set, candidate, target_hu.shape) for candidate in accepted[: num_rois - len(rois)]]
        if len(rois) == num_rois:
            break
    return rois


class DiscDrawing:
    """Draws the discs of `random_rois` on N slices (N, Y, X) that are seen one scan at a time: the same as on all at once."""

    def __init__(self, shape: tuple[int, int, int], *, num_rois: int, seed: int) -> None:
        self.shape, self.num_rois = shape, num_rois
        border, largest_radius = _margins(shape)
        batches = _candidates(shape, border, largest_radius, seed, num_rois * _CANDIDATES_PER_ROI)
        self._candidates = np.concatenate(list(batches))
        self._means_hu = np.full(len(self._candidates), np.nan)

    def see(self, target_hu: np.ndarray, *, first: int) -> None:
        """Look at the slices (Z, Y, X) from number `first` on."""
        slices = self._candidates[:, 0]
        (inside,) = np.nonzero((slices >= first) & (slices < first + len(target_hu)))
        for start in range(0, len(inside), _BATCH):
            batch = inside[start : start + _BATCH]
            self._means_hu[batch] = _disc_means(target_hu, self._candidates[batch] - (first, 0, 0, 0))

    def draw(self, *, hu_range: tuple[float, float] | None = None) -> list[Roi]:
        """Draw the discs of one set once all slices were seen; see `random_rois`."""
        assert np.isfinite(self._means_hu).all(), "slices are missing"
        roi_set = "random" if hu_range is None else hu_set_name(hu_range)
        accepted = self._candidates[_wanted(self._means_hu, hu_range)][: self.num_rois]
        return [_disc_roi(roi_set, candidate, self.shape) for candidate in accepted]


def mask_rois(labels: np.ndarray, *, roi_set: str = "tumour") -> list[Roi]:
    """One region per label and slice of `labels`, whole numbers (Z, Y, X), 0 being background.

    Cross-sections with fewer than `MIN_LESION_PIXELS` pixels, or only one pixel high or wide, hold no texture and are left
    out.
    """
    sections = _cross_sections(labels, roi_set)
    return [roi for roi in sections if roi.mask.sum() >= MIN_LESION_PIXELS and min(bounding_shape(roi.mask)) >= 2]


def extrude(rois: Sequence[Roi], *, blocks: np.ndarray, depth: int) -> list[VolumeRoi]:
    """The same regions through `depth` slices, as many before as behind, where the series reaches so far.

    `runs` (Z,) numbers the slices' blocks: slices that follow each other in one series have the same number.
    """
    deep = []
    for roi in rois:
        reach = range(roi.slice_index - depth // 2, roi.slice_index + depth // 2 + 1)
        inside = [z for z in reach if 0 <= z < len(blocks) and blocks[z] == blocks[roi.slice_index]]
        mask = np.broadcast_to(roi.mask, (len(inside), *roi.mask.shape))
        deep.append(VolumeRoi(roi.roi_set, inside[0], mask, roi.label))
    return deep


def volume_mask_rois(labels: np.ndarray, *, blocks: np.ndarray, roi_set: str = "tumour") -> list[VolumeRoi]:
    """One region per label and run (see `extrude`) of `labels`, whole numbers (Z, Y, X), 0 being background.

    Regions of fewer than MIN_LESION_PIXELS voxels, or only one voxel high or wide, are left out.
    """
    found = []
    for run in np.unique(blocks):
        (places,) = np.nonzero(blocks == run)
        for value in np.unique(labels[places][labels[places] > 0]):
            mask = labels[places] == value
            used = np.flatnonzero(mask.any(axis=(1, 2)))
            mask = mask[used[0] : used[-1] + 1]
            if mask.sum() >= MIN_LESION_PIXELS and min(bounding_shape(mask.any(axis=0))) >= 2:
                found.append(VolumeRoi(roi_set, int(places[used[0]]), mask, f"label_{value}"))
    return found


def whole_slices(shape: tuple[int, ...]) -> list[VolumeRoi]:
    """Every slice of (Z, Y, X) as one region."""
    mask = np.broadcast_to(np.True_, (1, *shape[1:]))
    return [VolumeRoi(WHOLE_SLICES, z, mask, "whole") for z in range(shape[0])]


def count_cross_sections(labels: np.ndarray) -> int:
    """Labels of all slices of (Z, Y, X), those too small for `mask_rois` included."""
    return sum(len(np.unique(plane[plane > 0])) for plane in labels)


def hu_set_name(hu_range: tuple[float, float]) -> str:
    """The roi_set of random discs in a HU range: (-800, -300) gives "hu_-800_-300"."""
    return f"hu_{hu_range[0]:g}_{hu_range[1]:g}"


def is_lesion_set(roi_set: str) -> bool:
    """True for regions of a mask: all that are neither drawn at random nor whole slices."""
    return not roi_set.startswith(("random", "hu_", WHOLE_SLICES))


def bounding_box(mask: np.ndarray, *, margin_px: int = 0) -> tuple[slice, slice]:
    """The smallest rectangle (rows, columns) that holds every True of a bool (Y, X), grown by a margin inside the image.

    ValueError when there is none.
    """
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        raise ValueError("The mask of a region of interest is empty.")
    rows, columns = (slice(max(0, part.start - margin_px), part.stop + margin_px) for part in found[0])
    return rows, columns


def bounding_shape(mask: np.ndarray) -> tuple[int, int]:
    """Height and width in pixels of `bounding_box`."""
    rows, columns = bounding_box(mask)
    return rows.stop - rows.start, columns.stop - columns.start


def _cross_sections(labels: np.ndarray, roi_set: str) -> Iterator[Roi]:
    for slice_index, plane in enumerate(labels):
        for value in np.unique(plane[plane > 0]):
            yield Roi(roi_set, slice_index, plane == value, f"label_{value}")


def _margins(shape: tuple[int, ...]) -> tuple[int, int]:
    """Border and largest radius in px; a disc must not stick out of a small image."""
    border = min(BORDER_PX, int(min(shape[1:]) * BORDER_FRACTION))
    if border < RADIUS_RANGE_PX[0]:
        raise ValueError(f"Random discs need slices of at least 32 × 32 pixels; these have {shape[1]} × {shape[2]}.")
    return border, min(RADIUS_RANGE_PX[1], border)


def _candidates(shape: tuple[int, ...], border: int, largest_radius: int, seed: int, limit: int) -> Iterator[np.ndarray]:
    """Batches of rows (slice, y, x, radius) of int64, each uniform within its bounds."""
    low = np.array([0, border, border, RADIUS_RANGE_PX[0]])
    high = np.array([shape[0], shape[1] - border, shape[2] - border, largest_radius + 1])
    rng = np.random.default_rng(seed)
    for _ in range(0, limit, _BATCH):
        yield low + (rng.random((_BATCH, 4)) * (high - low)).astype(np.int64)


def _disc_means(hu: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Mean HU inside each candidate disc, (num candidates,)."""
    means = np.empty(len(candidates))
    for radius in np.unique(candidates[:, 3]):
        chosen = candidates[:, 3] == radius
        z, y, x = candidates[chosen, :3].T[..., None]
        size = 2 * radius + 1
        dy, dx = np.nonzero(disc_mask((size, size), centre_yx=(radius, radius), radius_px=radius))
        means[chosen] = hu[z, y + dy - radius, x + dx - radius].mean(axis=1, dtype=np.float64)
    return means


def _wanted(means_hu: np.ndarray, hu_range: tuple[float, float] | None) -> np.ndarray:
    if hu_range is None:
        return means_hu > LOWEST_MEAN_HU
    return (means_hu >= hu_range[0]) & (means_hu <= hu_range[1])


def _disc_roi(roi_set: str, candidate: np.ndarray, shape: tuple[int, ...]) -> Roi:
    z, y, x, radius = (int(value) for value in candidate)
    mask = disc_mask((shape[1], shape[2]), centre_yx=(y, x), radius_px=radius)
    return Roi(roi_set, z, mask, f"y{y}_x{x}_r{radius}")
