"""One piece of work: a DICOM series, or a volume file, to be standardized slice by slice into one output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ltdiff.data.volume import Volume
from ltdiff.data.volume_files import SUFFIXES, outside_field_of_view, read_volume, write_volume
from ltdiff.dicom.derived import Derivation, derived_series_uid, write_derived_series
from ltdiff.dicom.pixels import AIR_FILL_HU, StoredSlice, read_stored_slice
from ltdiff.dicom.series import Series
from ltdiff.inference.results import SeriesResult, Status
from ltdiff.system.atomic_files import write_text

DERIVED_MARK = "_ltdiff"
HEADER_SUFFIXES = (".mhd", ".nhdr")


class Task(Protocol):
    """What a worker needs to know. Slices are (Y, X) float32 in HU, in ascending z; errors are ValueError or OSError."""

    @property
    def source(self) -> Path:
        """The file, or the first file of the series."""

    @property
    def output(self) -> Path:
        """What will be there when the task is done, and not before."""

    @property
    def num_slices(self) -> int:
        """Number of slices."""

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """PixelSpacing (y, x)."""

    @property
    def derivation(self) -> Derivation:
        """What the output says of how it was made."""

    @property
    def model(self) -> Path:
        """Folder of the model to standardize it with."""

    def is_done(self) -> bool:
        """Whether the very same output is there already."""

    def read_slice(self, index: int) -> np.ndarray:
        """Source slice `index`."""

    def write(self, slices_hu: Iterable[np.ndarray]) -> None:
        """Write the output from all standardized slices, each read before, in order; it appears complete or not at all."""


def task_result(task: Task, status: Status, reason: str = "", *, seconds: float = 0.0) -> SeriesResult:
    """What became of a task; without an output where it failed."""
    return SeriesResult(
        task.source,
        status,
        reason,
        output=None if status == "fail" else task.output,
        num_slices=task.num_slices,
        seconds=seconds,
        model=task.model,
    )


@dataclass(frozen=True)
class SeriesTask:
    """A DICOM series → out/<new SeriesInstanceUID>/."""

    series: Series
    out: Path
    derivation: Derivation
    model: Path

    @property
    def source(self) -> Path:
        """See `Task`."""
        return self.series.slices[0].path

    @property
    def output(self) -> Path:
        """See `Task`."""
        return self.out / derived_series_uid(self.series, self.derivation)

    @property
    def num_slices(self) -> int:
        """See `Task`."""
        return self.series.num_slices

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """See `Task`."""
        return self.series.spacing_mm

    def is_done(self) -> bool:
        """The UID stands for source, weights, settings, seed and warning."""
        return self.output.is_dir()

    def read_slice(self, index: int) -> np.ndarray:
        """See `Task`."""
        path = self.series.slices[index].path
        self._in_hand[path] = read_stored_slice(path)
        return self._in_hand[path].hu

    def write(self, slices_hu: Iterable[np.ndarray]) -> None:
        """See `Task`."""
        write_derived_series(
            self.series, slices_hu, out_dir=self.out, derivation=self.derivation, read=self._in_hand.pop
        )

    @cached_property
    def _in_hand(self) -> dict[Path, StoredSlice]:  # read and not yet written
        return {}


@dataclass(frozen=True)
class VolumeTask:
    """A volume file NAME.EXT → out/NAME_ltdiff.EXT, and NAME_ltdiff.EXT.json that says how it was made.

    These formats have no room for that. The JSON file is written first, so no output is without it.
    """

    source: Path
    out: Path
    derivation: Derivation
    num_slices: int
    model: Path

    @property
    def output(self) -> Path:
        """See `Task`."""
        name, suffix = split_suffix(self.source)
        return self.out / f"{name}{DERIVED_MARK}{suffix}"

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """See `Task`."""
        return self._volume.spacing_mm[1:]

    def is_done(self) -> bool:
        """See `Task`."""
        """Raises:
        ValueError: the output is there, but made from another file, by another model or with other settings; or what a
            header's voxels would be written over.
        """
        if not self.output.exists():
            voxels = self.out / f"{split_suffix(self.output)[0]}.raw"  # of .mhd and .nhdr
            if self.output.suffix.lower() in HEADER_SUFFIXES and voxels.exists() and not self._origin.is_file():
                raise ValueError(f"{voxels} exists and belongs to another file: remove it or choose another folder")
            return False
        if not self._origin.is_file() or json.loads(self._origin.read_text()) != self._describe():
            raise ValueError(f"{self.output} exists and was made in another way: remove it or choose another folder")
        return True

    def read_slice(self, index: int) -> np.ndarray:
        """What lies outside the field of view becomes air, as in a DICOM slice."""
        hu = self._volume.hu[index]
        return np.where(outside_field_of_view(hu), np.float32(AIR_FILL_HU), hu)

    def write(self, slices_hu: Iterable[np.ndarray]) -> None:
        """What lies outside the field of view stays as it was."""
        volume = self._volume
        for kept, hu in zip(volume.hu, slices_hu, strict=True):
            inside = ~outside_field_of_view(kept)
            kept[inside] = hu[inside]
        write_text(self._origin, json.dumps(self._describe(), indent=1) + "\n")
        write_volume(volume, self.output)

    @cached_property
    def _volume(self) -> Volume:  # read by the worker, so that it does not travel with the task
        return read_volume(self.source)

    @property
    def _origin(self) -> Path:
        return self.out / f"{self.output.name}.json"

    def _describe(self) -> dict[str, object]:
        with self.source.open("rb") as file:
            source = hashlib.file_digest(file, "sha256")
        if self.source.suffix.lower() in HEADER_SUFFIXES:  # the voxels are in another file
            source.update(read_volume(self.source).hu.tobytes())
        description = {"description": self.derivation.description, "source_sha256": source.hexdigest()}
        return description | asdict(self.derivation)


def split_suffix(path: Path) -> tuple[str, str]:
    """Name and suffix of a volume file: scan.nii.gz → ("scan", ".nii.gz")."""
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)], path.name[-len(suffix) :]
