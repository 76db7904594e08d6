"""What a phase trains on: samples → decoded, cropped, augmented patches.

Where the manifest has targets without a pair, their sources are made: `MakeSource` turns the target into what a source of the
same anatomy could be, another one for each sample.

A sample is one patch of one slice (or slice pair); `PATCHES_PER_SLICE` samples in a row see the same slice, and N slices are an
epoch. Which slice sample k sees (a permutation per epoch), crop and turns are functions of (seed, sample) alone.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.manifest import in_plane_spacing_mm, read_hu
from ltdiff.data.network_inputs import position_mm
from ltdiff.data.slice_cache import SliceCache
from ltdiff.data.slice_items import Item, is_target_without_pair, make_items

if TYPE_CHECKING:
    from ltdiff.physics.degradation import DegradePart  # with PyTorch, which not all need who import this

logger = logging.getLogger(__name__)

MAX_SAMPLES_PER_BLOCK, BLOCK_BYTES = 256, 32 << 20
"""Ray Data rests for some 0.15 s between two blocks of a stream: large ones lose little by it. Their patches, at most about:"""
PATCHES_PER_SLICE = 4
"""Samples in a row that see the same slice: decoding takes longer than cutting a patch."""
MAX_KEPT_SLICES = 512
"""Decoded slices are kept in memory up to this number, about 1 MB each."""
VAL_COLUMNS = 0.3
"""Where no slice is left to validate, this share of the columns of every training slice does, at its right edge."""
TRAINING_COLUMNS, VALIDATING_COLUMNS = (0.0, 1 - VAL_COLUMNS), (1 - VAL_COLUMNS, 1.0)
MIN_MEAN_HU = -950.0
"""A patch whose target is emptier than this is drawn again: air outside the body teaches nothing."""
NUM_DRAWS = 4

Image = NDArray[np.float32]
MatchKernel = Callable[[Image, tuple[float, float]], Image]
"""(slice in HU (H, W), PixelSpacing (y, x)) → kernel-matched slice in HU"""
MakeSource = Callable[[Image, tuple[float, float]], "DegradePart"]
"""(target in HU (H, W), PixelSpacing (y, x)) → what makes sources of its parts (see `Degradation`)"""
MakePatch = Callable[[tuple[int, int], np.random.Generator], Image]
"""(corner (y, x) in the target, random numbers) → the matched source of the patch there"""
MARGIN_PX = 24
"""Round a patch whose source is made: as far as a kernel reaches."""


@dataclass(frozen=True)
class PatchLoader:
    """Samples → patches.

    `match_kernel` is applied to rows whose role is `source`, to whole slices; `augment` flips and turns patches by
    multiples of 90°. Patches are cut from `columns`, two fractions of the width. `kept` holds the matched slices that
    have been read, for data sets that fit in memory, and `cache` is where they are on the disk; without both each is read again.
    """

    items: Sequence[Item]
    patch_size: int
    seed: int
    match_kernel: MatchKernel
    augment: bool = True
    columns: tuple[float, float] = (0.0, 1.0)
    kept: dict[int, dict[str, Image]] | None = None
    make_source: MakeSource | None = None
    cache: SliceCache | None = None

    def __call__(self, block: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int16]]:
        """{"id": samples (B,)} → patches (B, patch_size, patch_size): in whole HU, one column per column of the items, and
        `y_mm` and `x_mm`, the place of each pixel in its slice (see `position_mm`)."""
        return stack_patches(patch for number, samples in by_slice(block["id"]) for patch in self.load(number, samples))

    def load(self, number: int, samples: Iterable[int]) -> list[dict[str, Image]]:
        """The patches of some samples to the `number`-th slice of the run (or slice pair), which is decoded once.

        An item that cannot be read is named in the log and the next one takes its place.
        """
        epoch, place = divmod(number, len(self.items))
        first = int(_permutation(len(self.items), self.seed, epoch)[place])
        for offset in range(len(self.items)):
            index = (first + offset) % len(self.items)
            try:
                images = self._read(index)
            except ValueError as error:
                logger.warning("left out of training: %s", error)
                continue
            make_patch = self._patch_maker(images, in_plane_spacing_mm(next(iter(self.items[index].values()))))
            return [self._cut(images, make_patch, np.random.default_rng([self.seed, sample])) for sample in samples]
        raise ValueError(f"none of the {len(self.items)} training slices can be read; the log names each")

    def fill(self) -> None:
        """Read all slices now, if they are kept; those that cannot be read are named when their turn comes."""
        for index in range(len(self.items) if self.kept is not None else 0):
            with suppress(ValueError):
                self._read(index)

    def _read(self, index: int) -> dict[str, Image]:
        """The images of an item, sources matched, and the places of their pixels, at least as large as a patch."""
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        images = {name: self._read_slice(row) for name, row in self.items[index].items()}
        row = next(iter(self.items[index].values()))
        y_mm, x_mm = position_mm((int(row["rows"]), int(row["columns"])), in_plane_spacing_mm(row))
        images |= {"y_mm": self._in_columns(y_mm), "x_mm": self._in_columns(x_mm)}
        images = {name: _pad_to(image, self.patch_size) for name, image in images.items()}
        if self.kept is not None:
            self.kept[index] = images
        return images

    def _read_slice(self, row: Mapping[str, Any]) -> Image:
        """A slice, matched where it is a source; with a cache in whole HU, as patches are."""
        if self.cache is not None and (found := self.cache.find(row, self.columns)) is not None:
            return found
        hu = self._in_columns(read_hu(row))
        if row["role"] == "source":
            hu = self.match_kernel(hu, in_plane_spacing_mm(row))
        if self.cache is None:
            return hu
        whole = _to_int16(hu)
        self.cache.keep(row, self.columns, whole)
        return whole.astype(np.float32)

    def _in_columns(self, image: Image) -> Image:
        return image[:, slice(*columns_of(image.shape[1], self.columns))]

    def _cut(self, images: dict[str, Image], make_patch: MakePatch | None, rng: np.random.Generator) -> dict[str, Image]:
        """One random crop of all images of an item, turned alike."""
        size = self.patch_size
        top, left = self._draw_corner(images.get("target", next(iter(images.values()))), rng)
        turns, flip = (int(rng.integers(4)), bool(rng.integers(2))) if self.augment else (0, False)
        crops = {name: image[top : top + size, left : left + size] for name, image in images.items()}
        if make_patch is not None:
            crops["source"] = make_patch((top, left), rng)
        turned = {name: np.rot90(crop, turns) for name, crop in crops.items()}
        return {name: np.ascontiguousarray(crop[:, ::-1] if flip else crop) for name, crop in turned.items()}

    def _patch_maker(self, images: dict[str, Image], spacing_mm: tuple[float, float]) -> MakePatch | None:
        """What makes the matched source of a patch of the target at a corner; None where the item has a source."""
        if "target" not in images or "source" in images:
            return None
        assert self.make_source is not None
        degrade = self.make_source(images["target"], spacing_mm)
        padded = np.pad(images["target"], MARGIN_PX, mode="symmetric")
        outer = self.patch_size + 2 * MARGIN_PX

        def make_patch(corner: tuple[int, int], rng: np.random.Generator) -> Image:
            crop = padded[corner[0] : corner[0] + outer, corner[1] : corner[1] + outer]
            made = degrade(crop, (corner[0] - MARGIN_PX, corner[1] - MARGIN_PX), rng)
            return self.match_kernel(made, spacing_mm)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]

        return make_patch

    def _draw_corner(self, reference: Image, rng: np.random.Generator) -> tuple[int, int]:
        """Corner of a patch that is not mostly air, if a few draws find one."""
        size = self.patch_size
        top = left = 0
        for _ in range(NUM_DRAWS):
            top, left = (int(rng.integers(n - size + 1)) for n in reference.shape)
            if reference[top : top + size, left : left + size].mean() > MIN_MEAN_HU:
                break
        return top, left


def by_slice(samples: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """The samples that follow each other to one slice, with its number in the run."""
    for number, of_slice in groupby(map(int, samples), key=lambda sample: sample // PATCHES_PER_SLICE):
        yield number, list(of_slice)


def stack_patches(patches: Iterable[dict[str, Image]]) -> dict[str, NDArray[np.int16]]:
    """Patches (patch_size, patch_size) by column → columns (B, patch_size, patch_size) in whole HU and mm."""
    loaded = list(patches)
    return {name: _to_int16(np.stack([patch[name] for patch in loaded])) for name in loaded[0]}


def columns_of(width: int, fractions: tuple[float, float]) -> tuple[int, int]:
    """First column and the one after the last, of an image of this width; at least one."""
    first, last = (round(fraction * width) for fraction in fractions)
    return first, max(last, first + 1)


def make_loader(
    manifest: pd.DataFrame,
    *,
    split: str,
    pairs: bool,
    patch_size: int,
    seed: int,
    match_kernel: MatchKernel,
    make_source: MakeSource | None = None,
    keep_slices: bool = False,
    cache: SliceCache | None = None,
) -> PatchLoader:
    """What a phase's split is loaded with; only `train` is augmented.

    Where the manifest has no slice (or no pair) to validate with, every training slice is cut in two: the columns at its
    right edge validate and the others train.

    Raises:
        ValueError: the manifest has nothing to train on.
    """
    columns = (0.0, 1.0)
    concerned = manifest[manifest["pair_id"].notna() | is_target_without_pair(manifest)] if pairs else manifest
    if not (concerned["split"] == "val").any():
        columns = TRAINING_COLUMNS if split == "train" else VALIDATING_COLUMNS
        items = make_items(manifest, split="train", pairs=pairs)
    else:
        items = make_items(manifest, split=split, pairs=pairs)
    kept: dict[int, dict[str, Image]] | None = {} if keep_slices else None
    return PatchLoader(items, patch_size, seed, match_kernel, split == "train", columns, kept, make_source, cache)


def fit_in_memory(manifest: pd.DataFrame) -> bool:
    """Whether the slices that train or validate are few enough to be kept once they have been read."""
    return len(manifest[manifest["split"] != "test"].drop_duplicates(["path", "slice_index"])) <= MAX_KEPT_SLICES


def samples_per_block(patch_size: int) -> int:
    """Whole slices of them."""
    slices = min(MAX_SAMPLES_PER_BLOCK, BLOCK_BYTES // _sample_bytes(patch_size)) // PATCHES_PER_SLICE
    return max(1, slices) * PATCHES_PER_SLICE


def block_bytes(patch_size: int) -> int:
    """Bytes of the patches of a block."""
    return samples_per_block(patch_size) * _sample_bytes(patch_size)


def _sample_bytes(patch_size: int) -> int:
    return patch_size**2 * 4 * np.dtype(np.int16).itemsize  # source, target and two places


@lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, num_items]).permutation(num_items)


def _to_int16(hu: Image) -> NDArray[np.int16]:
    limits = np.iinfo(np.int16)  # beyond them, which metal can be, a cast would wrap around
    return hu.round().clip(limits.min, limits.max).astype(np.int16)


def _pad_to(image: Image, size: int) -> Image:
    """Extend an image smaller than `size` by reflection (again and again where it is much smaller)."""
    missing = [max(0, size - n) for n in image.shape]
    if not any(missing):
        return image
    return np.pad(image, [(m // 2, m - m // 2) for m in missing], mode="symmetric")
