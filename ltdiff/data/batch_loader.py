"""What a phase draws: slices or pairs, of one source protocol or of several in turn; or slices that have nothing to do with each
other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.patches import PATCHES_PER_SLICE, MakeSource, MatchKernel, PatchLoader, by_slice, make_loader, stack_patches
from ltdiff.data.slice_cache import SliceCache

Draw = Literal["images", "pairs", "sides", "kernels"]
"""One slice, as `image`; a pair, as `source` and `target`; or slices that are drawn independently of each other, of each of the
two sides (`by_side`) or of every kernel (`by_kernel`)."""
TARGET = "target"
SEED_STEP = 2**32
"""Between the seeds of two protocols: larger than any seed."""


@dataclass(frozen=True)
class ProtocolLoader:
    """Samples → patches of each protocol, of slices, places and turns of its own; for each a function of (seed, sample) alone."""

    loaders: Mapping[str, PatchLoader]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return next(iter(self.loaders.values())).patch_size

    def __call__(self, block: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int16]]:
        """{"id": samples (B,)} → patches (B, patch_size, patch_size) in whole HU, one column per protocol."""
        return {name: loader(block)["image"] for name, loader in self.loaders.items()}

    def fill(self) -> None:
        """Read all slices now, if they are kept."""
        for loader in self.loaders.values():
            loader.fill()


@dataclass(frozen=True)
class TurnsLoader:
    """Samples → patches of several source protocols, slice after slice of another one in turn, each by a loader of its own."""

    loaders: Sequence[PatchLoader]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.loaders[0].patch_size

    def __call__(self, block: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int16]]:
        """{"id": samples (B,)} → patches (B, patch_size, patch_size), as those of `PatchLoader`."""
        patches = []
        for number, samples in by_slice(block["id"]):
            turn, place = divmod(number, len(self.loaders))
            earlier = (number - turn) * PATCHES_PER_SLICE  # samples of the other protocols
            patches += self.loaders[place].load(turn, [sample - earlier for sample in samples])
        return stack_patches(patches)

    def fill(self) -> None:
        """Read all slices now, if they are kept."""
        for loader in self.loaders:
            loader.fill()


Loader = PatchLoader | ProtocolLoader | TurnsLoader


def make_batch_loader(
    manifest: pd.DataFrame,
    *,
    draw: Draw,
    split: str,
    patch_size: int,
    seed: int,
    match_kernel: MatchKernel,
    make_source: MakeSource | None = None,
    keep_slices: bool = False,
    cache: SliceCache | None = None,
) -> PatchLoader | ProtocolLoader:
    """What a phase's split is loaded with: `make_loader`, or one of them for each protocol.

    Raises:
        ValueError: the manifest, or a protocol of it, has nothing to train on.
    """

    def make(rows: pd.DataFrame, number: int = 0) -> PatchLoader:
        return make_loader(
            rows,
            split=split,
            pairs=draw == "pairs",
            patch_size=patch_size,
            seed=seed + number * SEED_STEP,
            match_kernel=match_kernel,
            make_source=make_source,
            keep_slices=keep_slices,
            cache=cache,
        )

    if draw in ("images", "pairs"):
        return make(manifest)
    protocols = by_side(manifest) if draw == "sides" else by_kernel(manifest)
    return ProtocolLoader({name: make(rows, number) for number, (name, rows) in enumerate(protocols.items())})


def by_side(manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of the `source` protocols and of the `target`, paired or not."""
    return {role: manifest[manifest["role"] == role] for role in ("source", TARGET)}


def by_kernel(manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of every manufacturer's source kernel that trains, in alphabetical order, and of the target: `source 0`, `source 1`,
    …, `target`."""
    sources = manifest[manifest["role"] == "source"]
    kernels = sources["manufacturer"] + " " + sources["kernel"]
    trained = sorted(kernels[sources["split"] == "train"].unique())
    rows = {f"source {number}": sources[kernels == kernel] for number, kernel in enumerate(trained)}
    return rows | {TARGET: manifest[manifest["role"] == TARGET]}
