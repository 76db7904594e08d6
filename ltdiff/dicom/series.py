"""Find the CT series in a folder tree. Only headers are read; what cannot be used is named, never silently lost."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from typing_extensions import override

from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.grid import check_grid, irregularity
from ltdiff.dicom.header import Header, named_errors
from ltdiff.dicom.header_index import HeaderIndex
from ltdiff.dicom.header_scan import scan_headers
from ltdiff.dicom.header_table import full_path, headers_of
from ltdiff.dicom.hounsfield import ScanCheck
from ltdiff.dicom.pixels import StoredDicomSlice, read_stored_slice
from ltdiff.dicom.same_file import check_nothing_came, check_same_file, count_files
from ltdiff.dicom.scan import Scan, SliceHeader, Volume
from ltdiff.system.errors import NothingToDoError
from ltdiff.system.text import printable
from ltdiff.system.traces import describe_unforeseen

logger = logging.getLogger(__name__)

MAX_NAMED = 5
"""Series in the sentence that says why there is none."""
_REFUSAL = ["path", "action", "reason", "is_of_folder", "series_instance_uid"]
NUM_CHECKED = 5
"""Slices that tell whether the values of a series are HU, before all are read."""


@dataclass(frozen=True, kw_only=True)
class Series(Scan):
    """One CT series. `patient_key` stands for PatientID and its issuer, or the study where there is none."""

    study_instance_uid: str = ""
    person_key: str = ""
    """12 hex digits that stand for name, birth date and sex."""
    has_patient_id: bool = True
    standardized_by_ltdiff: bool = False
    num_files: dict[Path, int] = field(default_factory=dict, compare=False)
    """In each folder that holds a slice, when the series was found."""

    @property
    def source_sop_instance_uids(self) -> list[str]:
        """Of the slices that it was derived from, slice by slice; empty where not all are known."""
        uids = [header.source_sop_instance_uid for header in self.slices]
        return uids if all(uids) else []

    @override
    def read_slice(self, index: int) -> NDArray[np.float32]:
        return self._read(index, complete=False).hu

    @override
    def read_slices(self) -> Iterator[StoredDicomSlice]:
        check = ScanCheck()
        yield from self._read_checked(range(self.num_slices), check=check)
        with named_errors(self.path):
            check.finish()
        check_nothing_came(self.slices, self.num_files, series_instance_uid=self.series_instance_uid)

    @override
    def check_values(self) -> str:
        """Some slices spread evenly, and those whose slope or intercept is another than that of their neighbour."""
        changes = [index for index in range(1, self.num_slices) if self.slices[index].rescale != self.slices[index - 1].rescale]
        spread = np.linspace(0, self.num_slices - 1, NUM_CHECKED).round().astype(int).tolist()
        chosen = {*spread, *(near for index in changes[:NUM_CHECKED] for near in (index - 1, index))}
        check = ScanCheck()
        for _ in self._read_checked(sorted(chosen), check=check, complete=False):
            pass
        with named_errors(self.path):
            warning = check.finish()
        if warning:
            logger.warning("%s: %s", printable(self.path.parent), warning)
        return warning

    def _read_checked(self, indices: Iterable[int], *, check: ScanCheck, complete: bool = True) -> Iterator[StoredDicomSlice]:
        for index in indices:
            one = self._read(index, complete=complete)
            with named_errors(self.slices[index].path):
                check.add(index, one.hu, one.padding, one.levels)
            yield one

    def _read(self, index: int, *, complete: bool) -> StoredDicomSlice:
        scanned = self.slices[index]
        read = read_stored_slice(scanned.path, complete=complete)
        check_same_file(read.header, scanned, series_instance_uid=self.series_instance_uid, patient_key=self.patient_key)
        return read

    @override
    def make_volume(self, slices_hu: NDArray[np.float32]) -> Volume:
        """The rows and columns stay as they are stored, whatever the orientation."""
        if self.irregularity:
            raise ValueError(f"the series of {printable(self.path)} forms no regular grid in space: {self.irregularity}")
        rows, columns = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        direction = np.stack([rows, columns, np.cross(rows, columns)], axis=1)
        return Volume(
            hu=slices_hu,
            spacing_mm=(self.slice_spacing_mm, *self.spacing_mm),
            origin_mm=self.slices[0].position_mm,
            direction=tuple(map(float, direction.ravel())),
        )


FoundSeries = tuple[list[Series], list[Issue]]
"""What `find_series` gives: to be handed on, so that headers are read once."""


def find_series(
    root: Path, *, without: Path | None = None, index: HeaderIndex | None = None, num_workers: int | None = None
) -> FoundSeries:
    """All usable CT series in a folder tree (or of one file), and everything that is not one, with the reason.

    Links to folders are not followed, and a folder `without` below `root` is not entered. A bad file, or one without pixels,
    fails its whole series; no file makes this function raise. With an `index` only the headers of files that are new or have
    changed are read; where these are many, by `num_workers` tasks of Ray (None: by this process). Raises ValueError when `root`
    does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise ValueError(f"{printable(root)} does not exist")
    issues: list[Issue] = []
    prefix, rows = scan_headers(root, issues, without=without, index=index or HeaderIndex(None), num_workers=num_workers)
    is_good = pc.is_null(rows["action"])
    groups, refused = _by_series(rows.filter(is_good)), rows.filter(pc.invert(is_good)).select(_REFUSAL)
    del rows, is_good  # of a million files they are a quarter of a gigabyte
    for uid in _refuse(refused, groups, prefix, issues):
        del groups[uid]
    return _with_num_files([*_checked_series(groups.values(), prefix, issues)]), issues


def find_archived_series(root: Path, *, without: Path | None = None, num_workers: int = 1) -> FoundSeries:
    """As `find_series`, for the commands of an archive, of which each reads the headers that none before it has read.

    Raises ValueError also when `num_workers` is below 1.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    index = HeaderIndex.of(root) if root.is_dir() else None
    return find_series(root, without=without, index=index, num_workers=num_workers)


def _by_series(rows: pa.Table) -> dict[str, pa.Table]:
    """The rows of each SeriesInstanceUID, in order."""
    uids = rows["series_instance_uid"].combine_chunks()
    codes = uids.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ends = np.append(starts[1:], len(rows))
    first = np.argsort(order[starts])  # series in the order of their first files
    ordered, names = rows.take(pa.array(order)).combine_chunks(), uids.dictionary
    return {
        names[int(codes[order[start]])].as_py(): ordered.slice(start, end - start)
        for start, end in zip(starts[first].tolist(), ends[first].tolist(), strict=True)
    }


def _refuse(refused: pa.Table, groups: Mapping[str, pa.Table], prefix: str, issues: list[Issue]) -> list[str]:
    """Add to `issues` what the refused files are, and return the SeriesInstanceUIDs of good slices whose series they fail."""
    bad_files: dict[str, list[Issue]] = {}  # by SeriesInstanceUID
    without_pixels: dict[str, list[Issue]] = {}
    of_folder: list[Issue] = []
    for name, action, reason, is_of_folder, uid in zip(*(column.to_pylist() for column in refused.columns), strict=True):
        issue = Issue(full_path(prefix, name), action, reason)
        if action == "skip":
            known = without_pixels.setdefault(uid, []) if uid else issues
        else:
            known = of_folder if is_of_folder else bad_files.setdefault(uid, [])
        known.append(issue)
    folders = {uid: _folders(rows, prefix) for uid, rows in groups.items()} if of_folder else {}
    for issue in of_folder:  # of which series is not known: of any that lies beside it
        beside = [uid for uid, own in folders.items() if issue.path.parent in own]
        for uid in beside or [""]:
            bad_files.setdefault(uid, []).append(issue)
    for uid, skipped in without_pixels.items():
        if uid in groups or uid in bad_files:  # a slice that was cut short, without which the series is another
            bad_files.setdefault(uid, []).extend(replace(issue, action="fail") for issue in skipped)
        else:
            issues += skipped
    issues += bad_files.pop("", [])
    issues += [_series_issue(bad, num_good=len(groups.get(uid, ()))) for uid, bad in bad_files.items()]
    return [uid for uid in bad_files if uid in groups]


def _folders(rows: pa.Table, prefix: str) -> set[Path]:
    return {full_path(prefix, name).parent for name in rows["path"].to_pylist()}


def _with_num_files(found: Sequence[Series]) -> list[Series]:
    names = [{os.path.dirname(header.path) for header in one.slices} for one in found]  # noqa: PTH120 (a Path takes far longer)
    folders = [set(map(Path, of_series)) for of_series in names]
    num_files = count_files(set().union(*folders))
    return [
        replace(one, num_files={folder: num_files[folder] for folder in own}) for one, own in zip(found, folders, strict=True)
    ]


def no_series_error(root: Path, series: Sequence[Series], issues: Sequence[Issue]) -> ValueError:
    """To raise where no series below `root` is original: why, of each that cannot be used, and of the first that is left out.

    A NothingToDoError where none failed: then nothing here is an original CT.
    """
    fails, skips = ([issue.reason for issue in issues if issue.action == action] for action in ("fail", "skip"))
    reasons = [*fails[:MAX_NAMED], *([f"{len(fails) - MAX_NAMED} more cannot be used"] if len(fails) > MAX_NAMED else [])]
    if series:
        reasons.append(f"{len(series)} series are derived, such as that of {printable(series[0].path)}")
    if skips:
        reasons.append(f"{skips[0]}, and {len(skips) - 1} more files are none" if len(skips) > 1 else skips[0])
    kind = ValueError if fails else NothingToDoError
    return kind(f"{printable(root)}: no original CT series found: {'; '.join(reasons) or 'there is no file'}")


def _series_issue(bad_files: Sequence[Issue], *, num_good: int) -> Issue:
    first, num_more = bad_files[0], len(bad_files) - 1
    if not num_good + num_more:
        return first
    others = f"as {num_more} more do" if num_more else f"which also fails the {num_good} good slices"
    return Issue(first.path, "fail", f"{first.reason}, {others} of its series")


def _checked_series(groups: Iterable[pa.Table], prefix: str, issues: list[Issue]) -> Iterator[Series]:
    for rows in groups:
        group = headers_of(rows, prefix)  # of one series at a time: they take three times the room of what is kept of them
        try:
            yield _series(check_grid(group))
        except Exception as error:  # also what nobody foresaw: it costs the series, never the archive
            path = group[0].path
            fault = error if isinstance(error, BadFile) else describe_unforeseen(error)
            reason = f"the series of {len(group)} slices of which {printable(path)} is one {fault}"
            issues.append(Issue(path, "fail", reason))


def _series(headers: Sequence[Header]) -> Series:
    first = headers[0]
    return Series(
        series_instance_uid=first.series_instance_uid,
        study_instance_uid=first.study_instance_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        patient_key=first.patient_key,
        kernel=first.kernel,
        manufacturer=first.manufacturer,
        scanner_model=first.scanner_model,
        noise_reduction=first.noise_reduction,
        slice_thickness_mm=first.slice_thickness_mm,
        person_key=first.person_key,
        has_patient_id=first.has_patient_id,
        rows=first.geometry.rows,
        columns=first.geometry.columns,
        spacing_mm=first.geometry.spacing_mm,
        orientation=first.geometry.orientation,
        slices=tuple(map(_slice_header, headers)),
        derived=any(header.derived for header in headers),
        standardized_by_ltdiff=any(header.standardized_by_ltdiff for header in headers),
        irregularity=irregularity(headers),
    )


def _slice_header(header: Header) -> SliceHeader:
    return SliceHeader(
        path=header.path,
        position_mm=header.geometry.position_mm,
        z_mm=header.geometry.z_mm,
        stamp=header.stamp,
        sop_instance_uid=header.sop_instance_uid,
        source_sop_instance_uid=header.source_sop_instance_uid if header.derived else "",
        raw_data=header.raw_data,
        rescale=(header.pixel_format.slope, header.pixel_format.intercept_hu),
        digest=header.digest,
    )
