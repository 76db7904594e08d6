"""One piece of work: a scan to be standardized slice by slice into a derived series or volume file."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
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
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.output_record import FileFacts, OutputRecord, joint_sha256, read_record, remove_series, write_record
from ltdiff.inference.results import SeriesResult, Status
from ltdiff.system.atomic_files import write_text
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

DERIVED_MARK = "_ltdiff"
OUTPUT_SHA256 = "output_sha256"
"""In the JSON file of a volume output, when the output is complete."""
HEADER_SUFFIXES = (".mhd", ".nhdr")

Pairs = Iterable[tuple[Any, NDArray[np.float32]]]
"""Slices as the scan's `read_slices` gives them, each with its standardized HU (Y, X), in order."""


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a run knows: settings, the folder in which attempts are counted, how it shares its machine."""

    inference: InferenceConfig
    attempts: Path
    num_tasks: int
    use_gpu: bool
    workers_per_node: int = 1


@dataclass(frozen=True)
class Outcome:
    """What a worker made of a task: its output, or the reason why there is none."""

    number: int
    reason: str
    output: Path | None
    seconds: float


@dataclass(frozen=True)
class Task(ABC):
    """A scan, the folder of its model, and what the output says of how it was made; `out` is the folder of all outputs."""

    scan: Scan
    out: Path
    derivation: Derivation
    model: Path

    @abstractmethod
    def find_output(self) -> Path | None:
        """The output, where it is there as it was made, of the scan as it is now; what is there otherwise is to be made again."""

    @abstractmethod
    def write(self, pairs: Pairs) -> Path:
        """Write the output from all slices and return its path; it appears complete or not at all."""

    def result(self, status: Status, reason: str = "", *, output: Path | None = None, seconds: float = 0.0) -> SeriesResult:
        """The row of the report."""
        return SeriesResult(
            self.scan.path, status, reason, output=output, num_slices=self.scan.num_slices, seconds=seconds, model=self.model
        )


@dataclass(frozen=True)
class SeriesTask(Task):
    """A DICOM series → out/<new SeriesInstanceUID>/. The UID stands for the source's files, weights, settings, seed and warning.

    What it was made of and consists of is noted in a hidden file of `out`.
    """

    scan: Series

    @override
    def find_output(self) -> Path | None:
        record = read_record(self._record)
        if record is None:
            return None
        folder = self.out / record.folder
        change = record.find_change([header.path for header in self.scan.slices], folder)
        if change:
            logger.warning("%s is made again: %s", printable(folder), change)
        return None if change else folder

    @override
    def write(self, pairs: Pairs) -> Path:
        files = [header.path for header in self.scan.slices]
        sources = [FileFacts.of(path) for path in files]
        derivation = replace(self.derivation, source_sha256=joint_sha256(sources))
        folder = self.out / derived_series_uid(self.scan, derivation)
        record = OutputRecord(folder.name, self._remove_former(folder), sources, slices={})
        write_record(self._record, record)
        checked = _as_noted(pairs, sources)
        write_derived_series(self.scan, checked, out_dir=self.out, derivation=derivation, made=record.made)
        slices = {path.name: FileFacts.of(path) for path in sorted(folder.iterdir())}
        write_record(self._record, replace(record, slices=slices))
        return folder

    def _remove_former(self, folder: Path) -> datetime:
        """Remove what an earlier run made of this series; return when `folder` was made: the same UIDs, the same bytes."""
        record = read_record(self._record)
        for path in {folder, self.out / record.folder if record else folder}:
            remove_series(path)
        return record.made if record and record.folder == folder.name else datetime.now()

    @property
    def _record(self) -> Path:
        return self.out / f".{derived_series_uid(self.scan, self.derivation)}.json"


def _as_noted(pairs: Pairs, sources: Sequence[FileFacts]) -> Iterator[tuple[Any, NDArray[np.float32]]]:
    for number, (source, hu) in enumerate(pairs):
        if number < len(sources) and source.file_sha256 != sources[number].sha256:
            raise ValueError(f"{printable(source.header.path)} was changed while its series was read")
        yield source, hu


@dataclass(frozen=True)
class VolumeTask(Task):
    """A volume file NAME.EXT → out/NAME_ltdiff.EXT, and NAME_ltdiff.EXT.json that says how it was made.

    These formats have no room for that. The JSON file is written first, so no output is without it, and last with the sha256 of
    the output.
    """

    @override
    def find_output(self) -> Path | None:
        """Raises:
        ValueError: the output is there, but made from another file, by another model or with other settings; or what a
            header's voxels would be written over.
        """
        if not self.output.exists() or self.output.is_symlink():
            voxels = self.out / f"{split_suffix(self.output)[0]}.raw"  # of .mhd and .nhdr
            if self.output.suffix.lower() in HEADER_SUFFIXES and voxels.exists() and not self._origin.is_file():
                raise ValueError(f"{voxels} exists and belongs to another file: remove it or choose another folder")
            return None
        origin = json.loads(self._origin.read_text()) if self._origin.is_file() else {}
        output_sha256 = origin.pop(OUTPUT_SHA256, "")
        if origin != self._describe():
            raise ValueError(f"{self.output} exists and was made in another way: remove it or choose another folder")
        if output_sha256 != _volume_sha256(self.output):
            logger.warning("%s is made again: it is not as it was made", printable(self.output))
            return None
        return self.output

    @override
    def write(self, pairs: Pairs) -> Path:
        """What lies outside the field of view stays as it was."""
        slices_hu = [np.where(source.padding, source.stored, hu) for source, hu in pairs]
        if len(slices_hu) != self.scan.num_slices:
            raise ValueError(f"the scan has {self.scan.num_slices} slices, and {len(slices_hu)} came to be written")
        origin = self._describe()
        _write_json(self._origin, origin)
        write_volume(self.scan.make_volume(np.stack(slices_hu)), self.output)
        _write_json(self._origin, origin | {OUTPUT_SHA256: _volume_sha256(self.output)})
        return self.output

    @property
    def output(self) -> Path:
        """The file that will be there when the task is done, and not before."""
        name, suffix = split_suffix(self.scan.path)
        return self.out / f"{name}{DERIVED_MARK}{suffix}"

    @property
    def _origin(self) -> Path:
        return self.out / f"{self.output.name}.json"

    def _describe(self) -> dict[str, object]:
        derivation = replace(self.derivation, source_sha256=_volume_sha256(self.scan.path))
        return {"description": derivation.description} | asdict(derivation)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def _volume_sha256(path: Path) -> str:
    """Of a volume file, and of the voxels that a header points to."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if path.suffix.lower() in HEADER_SUFFIXES:
        digest.update(read_volume(path).hu.tobytes())
    return digest.hexdigest()


def split_suffix(path: Path) -> tuple[str, str]:
    """Name and suffix of a volume file: scan.nii.gz → ("scan", ".nii.gz")."""
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)], path.name[-len(suffix) :]
