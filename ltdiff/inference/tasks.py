"""One piece of work: a scan to be standardized slice by slice into a derived series or volume file."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ltdiff.data.volume_files import SUFFIXES, read_volume, write_volume
from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_derived import derived_series_uid, write_derived_series
from ltdiff.inference.results import SeriesResult, Status
from ltdiff.system.atomic_files import write_text

DERIVED_MARK = "_ltdiff"
HEADER_SUFFIXES = (".mhd", ".nhdr")

Pairs = Iterable[tuple[Any, NDArray[np.float32]]]
"""Slices as the scan's `read_slices` gives them, each with its standardized HU (Y, X), in order."""


@dataclass(frozen=True)
class Task(ABC):
    """A scan, the folder of its model, and what the output says of how it was made; `out` is the folder of all outputs."""

    scan: Scan
    out: Path
    derivation: Derivation
    model: Path

    @property
    @abstractmethod
    def output(self) -> Path:
        """The folder or file that will be there when the task is done, and not before."""

    @abstractmethod
    def is_done(self) -> bool:
        """Whether the very same output is there already."""

    @abstractmethod
    def write(self, pairs: Pairs) -> None:
        """Write the output from all slices; it appears complete or not at all."""

    def result(self, status: Status, reason: str = "", *, seconds: float = 0.0) -> SeriesResult:
        """The row of the report; without an output where the task failed."""
        return SeriesResult(
            self.scan.path,
            status,
            reason,
            output=None if status == "fail" else self.output,
            num_slices=self.scan.num_slices,
            seconds=seconds,
            model=self.model,
        )


@dataclass(frozen=True)
class SeriesTask(Task):
    """A DICOM series → out/<new SeriesInstanceUID>/. The UID stands for source, weights, settings, seed and warning."""

    scan: Series

    @property
    @override
    def output(self) -> Path:
        return self.out / derived_series_uid(self.scan, self.derivation)

    @override
    def is_done(self) -> bool:
        return self.output.is_dir()

    @override
    def write(self, pairs: Pairs) -> None:
        write_derived_series(self.scan, pairs, out_dir=self.out, derivation=self.derivation)


@dataclass(frozen=True)
class VolumeTask(Task):
    """A volume file NAME.EXT → out/NAME_ltdiff.EXT, and NAME_ltdiff.EXT.json that says how it was made.

    These formats have no room for that. The JSON file is written first, so no output is without it.
    """

    @property
    @override
    def output(self) -> Path:
        name, suffix = split_suffix(self.scan.path)
        return self.out / f"{name}{DERIVED_MARK}{suffix}"

    @override
    def is_done(self) -> bool:
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

    @override
    def write(self, pairs: Pairs) -> None:
        """What lies outside the field of view stays as it was."""
        slices_hu = [np.where(source.padding, source.stored, hu) for source, hu in pairs]
        if len(slices_hu) != self.scan.num_slices:
            raise ValueError(f"the scan has {self.scan.num_slices} slices, and {len(slices_hu)} came to be written")
        write_text(self._origin, json.dumps(self._describe(), indent=1) + "\n")
        write_volume(self.scan.make_volume(np.stack(slices_hu)), self.output)

    @property
    def _origin(self) -> Path:
        return self.out / f"{self.output.name}.json"

    def _describe(self) -> dict[str, object]:
        path = self.scan.path
        with path.open("rb") as file:
            source = hashlib.file_digest(file, "sha256")
        if path.suffix.lower() in HEADER_SUFFIXES:  # the voxels are in another file
            source.update(read_volume(path).hu.tobytes())
        description = {"description": self.derivation.description, "source_sha256": source.hexdigest()}
        return description | asdict(self.derivation)


def split_suffix(path: Path) -> tuple[str, str]:
    """Name and suffix of a volume file: scan.nii.gz → ("scan", ".nii.gz")."""
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)], path.name[-len(suffix) :]
