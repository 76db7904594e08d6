"""Which series show the same raw data through two kernels: found in an archive, or named by the user.

Two kernels applied to the same raw data give two series that share frame of reference, slice positions, orientation,
pixel spacing, size and slice thickness (same_grid), whose headers say the same of tube, table and time (dicom/raw_data), and
whose noise is the same (noise_coherence). Everything else that is alike is a coincidence or another acquisition.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from ltdiff.data.manifest_rows import build_manifest, kernel_table
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.noise_coherence import Verdict, compare_noise
from ltdiff.data.read_scan import read_scan
from ltdiff.data.same_grid import MIN_SHARED, grid_difference, slice_overlap
from ltdiff.data.series_pair import SeriesPair
from ltdiff.data.sharpness import sharpest_kernel
from ltdiff.data.volume_files import VolumeFile
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.series import FoundSeries, Series, find_archived_series, no_series_error
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

MANY_STUDIES = 3
"""Of one patient in an archive without others: an anonymization may have given all patients one PatientID."""
REMEDY = "to pair them all the same, name them with --source and --target"


@dataclass(frozen=True)
class PairingResult:
    """`manifest`: one row per slice, split; `table`: kernel × kernel counts; `issues`: what was left out, and why."""

    manifest: pd.DataFrame
    table: pd.DataFrame
    issues: list[Issue]


class ArchiveContent(NamedTuple):
    """The pairs of an archive, its original series without a partner, and what was left out, and why."""

    pairs: list[SeriesPair]
    unpaired: list[Series]
    issues: list[Issue]

    def of_source_kernel(self, kernel: str | None) -> "ArchiveContent":
        """The same without the pairs that have another source kernel, whose series have no partner then; all with None."""
        pairs = [pair for pair in self.pairs if kernel in (None, pair.source.kernel)]
        series = {one.series_instance_uid: one for pair in self.pairs for one in (pair.source, pair.target)}
        dropped = [one for uid, one in series.items() if uid not in _uids(pairs) and isinstance(one, Series)]
        return self._replace(pairs=pairs, unpaired=[*self.unpaired, *dropped])


def pair_archive(
    root: Path, *, source_kernel: str | None = None, target_kernel: str | None = None, split: str = "auto", num_workers: int = 1
) -> PairingResult:
    """Find every dual-kernel acquisition below `root`; series without partner become rows of role "other".

    With `source_kernel` only pairs whose source has it; `target_kernel` and what None means: see `find_pairs`; `split`: see
    `split_manifest`. Many new headers are read by `num_workers` tasks of Ray.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: there are only such as cannot be used; or no pair with the source kernel, but with others.
    """
    found = read_archive(root, target_kernel=target_kernel, num_workers=num_workers)
    content = found.of_source_kernel(source_kernel)
    if found.pairs and not content.pairs:
        kernels = sorted({pair.source.kernel for pair in found.pairs})
        raise ValueError(f"{printable(root)}: no pair has the source kernel {source_kernel!r}, only {', '.join(kernels)}")
    manifest = split_manifest(build_manifest(content.pairs, content.unpaired), split)
    return PairingResult(manifest, kernel_table(content.pairs), content.issues)


def read_archive(
    root: Path, *, target_kernel: str | None, found: FoundSeries | None = None, num_workers: int = 1
) -> ArchiveContent:
    """Find the pairs and the other original series below `root`, among those that were `found` there if they were already.

    Else many new headers are read by `num_workers` tasks of Ray.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: there are only such as cannot be used.
    """
    series, unreadable = find_archived_series(root, num_workers=num_workers) if found is None else found
    series, unwritable = _with_writable_paths(series)
    series, implausible = _with_plausible_values(series)
    pairs, issues = find_pairs(series, target_kernel=target_kernel)
    pairs, other_scans = _with_one_noise(pairs)
    paired_uids = _uids(pairs)
    unpaired = [one for one in series if not one.derived and one.series_instance_uid not in paired_uids]
    unreadable = [*unreadable, *unwritable, *implausible]
    if not pairs and not unpaired:
        raise no_series_error(root, series, unreadable)
    _warn_of_patients(series)
    for one in series:
        if one.irregularity:
            logger.warning("%s is used slice by slice: %s", printable(_folder(one)), one.irregularity)
    return ArchiveContent(pairs, unpaired, [*unreadable, *issues, *other_scans])


def _uids(pairs: Sequence[SeriesPair]) -> set[str]:
    return {one.series_instance_uid for pair in pairs for one in (pair.source, pair.target)}


def _with_one_noise(pairs: Sequence[SeriesPair]) -> tuple[list[SeriesPair], list[Issue]]:
    """The pairs whose noise is that of one set of raw data or, where it is too little to tell, whose headers name one event."""
    kept, issues = [], []
    for pair in pairs:
        assert isinstance(pair.source, Series)
        try:
            verdict, reason = compare_noise(pair.source, pair.target)
        except ValueError as error:
            issues.append(_issue(pair.source, "fail", f"cannot be compared with its other kernel: {error}"))
            continue
        couple = f"and that of kernel {pair.target.kernel!r} in {printable(pair.target.path.parent)}"
        if verdict is Verdict.TWO:
            action: Literal["skip", "fail"] = "fail" if pair.is_one_event else "skip"
            issues.append(_issue(pair.source, action, f"{couple} show two scans: {reason}; {REMEDY}"))
        elif verdict is Verdict.UNKNOWN and not pair.is_one_event:
            issues.append(
                _issue(
                    pair.source, "fail", f"{couple} may be two scans: no header names their acquisition, and {reason}; {REMEDY}"
                )
            )
        else:
            kept.append(pair)
    return kept, issues


def _warn_of_patients(series: Sequence[Series]) -> None:
    """Name what a split by PatientID cannot do: part patients who share one, or keep together one who has none."""
    if num_studies := len({one.study_instance_uid for one in series if not one.has_patient_id}):
        logger.warning("%d studies have no PatientID: each counts as a patient, and a split may part a patient", num_studies)
    by_patient: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        if one.has_patient_id:
            by_patient[one.patient_key].append(one)
    for of_patient in by_patient.values():
        persons, studies = ({getattr(one, key) for one in of_patient} for key in ("person_key", "study_instance_uid"))
        if len(persons) > 1 or (len(studies) >= MANY_STUDIES and len(by_patient) == 1):
            logger.warning(
                "%d studies with %d different names, birth dates or sexes have one PatientID (%s is one): "
                "they count as one patient, and no split parts them",
                len(studies),
                len(persons),
                printable(_folder(of_patient[0])),
            )


def _with_writable_paths(series: Sequence[Series]) -> tuple[list[Series], list[Issue]]:
    """A manifest holds paths as text, and a name in another encoding than UTF-8 is none."""
    usable: list[Series] = []
    issues = []
    for one in series:
        try:
            "".join(str(header.path.absolute()) for header in one.slices).encode()
            usable.append(one)
        except UnicodeEncodeError:
            issues.append(_issue(one, "fail", "lies under a name that is not UTF-8: rename it"))
    return usable, issues


def _with_plausible_values(series: Sequence[Series]) -> tuple[list[Series], list[Issue]]:
    """Those whose values can be HU; derived ones are not looked at."""
    usable: list[Series] = []
    issues = []
    for one in series:
        try:
            if not one.derived:
                one.check_values()
            usable.append(one)
        except ValueError as error:
            issues.append(_issue(one, "fail", f"cannot be used: {error}"))
    return usable, issues


def pair_named(source: Path, target: Path, *, split: str = "auto") -> PairingResult:
    """Pair two series that the user names: each a DICOM folder or file, or a NIfTI, NRRD or MetaImage file.

    A volume file has no kernel, and its patient is a hash of the source's voxels. Raises ValueError with one sentence
    when a side is not exactly one readable original series, or the two are not on the same grid.
    """
    pair = SeriesPair(_read_original(source), _read_original(target))
    files = [one for one in (pair.source, pair.target) if isinstance(one, VolumeFile)]
    if files:  # then only the user can know that it is one patient
        known = pair.target if files == [pair.source] else pair.source
        pair = SeriesPair(*(replace(one, patient_key=known.patient_key) for one in (pair.source, pair.target)))
    reason = grid_difference(pair.source, pair.target)
    if reason:
        raise ValueError(f"{printable(source)} and {printable(target)} are no pair: {reason}")
    pair = SeriesPair.of(pair.source, pair.target)
    verdict, noise = compare_noise(pair.source, pair.target)
    if doubt := pair.raw_data_difference or (noise if verdict is Verdict.TWO else ""):
        logger.warning("%s and %s may be two scans: %s", printable(source), printable(target), doubt)
    if pair.source.kernel and pair.source.kernel == pair.target.kernel:
        logger.warning("%s and %s have the same kernel %r", source, target, pair.source.kernel)
    return PairingResult(split_manifest(build_manifest([pair]), split), kernel_table([pair]), [])


def _read_original(path: Path) -> Scan:
    scan = read_scan(path)
    if scan.derived:
        raise ValueError(f"{printable(path)}: this series is derived, and only original ones are paired")
    return scan


def find_pairs(series: Iterable[Series], *, target_kernel: str | None = None) -> tuple[list[SeriesPair], list[Issue]]:
    """Every pair of original series of the same patient, study and acquisition on the same grid with different kernels.

    Several kernels of one acquisition: each is paired with the target kernel. When `target_kernel` is None the sharpest
    is the target, decided once for each set of kernels by the first acquisition that has it. Findings say, for every
    series left without a partner although its acquisition has another kernel, what the difference is: "fail" where most
    slices agree (meant as a pair), "skip" where it is another kind of series.
    """
    series = sorted(series, key=lambda one: one.series_instance_uid)
    issues = [_issue(one, "skip", "is derived, so it is neither paired nor trained on") for one in series if one.derived]
    originals = [one for one in series if not one.derived]
    grids = [grid for grid in _group_by_grid(originals) if len(_kernels(grid)) > 1]
    targets, unreadable = _target_kernels(grids, target_kernel)
    pairs = [pair for grid in grids if _kernels(grid) in targets for pair in _pairs_with(targets[_kernels(grid)], grid)]
    undecided = [one for grid in grids if _kernels(grid) not in targets for one in grid]
    decided = [one for one in originals if one not in undecided]
    return pairs, [*issues, *unreadable, *_explain_unpaired(decided, pairs, target_kernel)]


def _group_by_grid(series: Sequence[Series]) -> list[list[Series]]:
    """Series on the same grid whose headers allow one set of raw data; groups and their members in a stable order."""
    frames: dict[tuple[str, str, str], list[list[Series]]] = defaultdict(list)
    for one in series:
        if not one.kernel or not one.frame_of_reference_uid:  # without them nothing says what it may be paired with
            continue
        grids = frames[one.patient_key, one.study_instance_uid, one.frame_of_reference_uid]
        grid = next((grid for grid in grids if not _scan_difference(grid[0], one)), None)
        if grid is None:
            grids.append([one])
        else:
            grid.append(one)
    return [grid for grids in frames.values() for grid in grids]


def _scan_difference(one: Series, other: Series) -> str:
    """Why two series cannot be two kernels of one set of raw data, in words; "" when they can."""
    return grid_difference(one, other) or SeriesPair.of(one, other).raw_data_difference


def _kernels(grid: Iterable[Series]) -> frozenset[str]:
    return frozenset(one.kernel for one in grid)


def _target_kernels(
    grids: Sequence[Sequence[Series]], target_kernel: str | None
) -> tuple[dict[frozenset[str], str], list[Issue]]:
    """The target kernel of each set of kernels, and what could not be read to find it out."""
    if target_kernel is not None:
        return {_kernels(grid): target_kernel for grid in grids}, []
    targets: dict[frozenset[str], str] = {}
    issues = []
    for grid in grids:
        try:
            if _kernels(grid) not in targets:
                targets[_kernels(grid)] = sharpest_kernel(grid)
        except ValueError as error:
            issues.append(_issue(grid[0], "fail", f"cannot be compared with its other kernels: {error}"))
    if len(set(targets.values())) > 1:
        names = ", ".join(sorted(set(targets.values())))
        logger.warning("several target kernels (%s): name the one that a model shall be trained for", names)
    return targets, issues


def _pairs_with(target_kernel: str, grid: Sequence[Series]) -> list[SeriesPair]:
    targets = [one for one in grid if one.kernel == target_kernel]  # of two alike, the first serves
    return [SeriesPair.of(one, targets[0]) for one in grid if targets and one.kernel != target_kernel]


def _explain_unpaired(series: Sequence[Series], pairs: Sequence[SeriesPair], target_kernel: str | None) -> list[Issue]:
    paired = {one.series_instance_uid for pair in pairs for one in (pair.source, pair.target)}
    studies: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        studies[one.study_instance_uid].append(one)
    couples: dict[frozenset[str], Issue] = {}
    for study in studies.values():
        for one in study:
            others = [other for other in study if _is_candidate(one, other)]
            if one.series_instance_uid not in paired and others:
                closest = max(others, key=lambda other: (not _scan_difference(one, other), slice_overlap(one, other)))
                couple = frozenset((one.series_instance_uid, closest.series_instance_uid))
                couples.setdefault(couple, _explain(one, closest, target_kernel))
    return list(couples.values())


def _is_candidate(one: Series, other: Series) -> bool:
    """Of one study, with another kernel; and in one frame of reference, or together in time."""
    if one.kernel == other.kernel:
        return False
    if one.frame_of_reference_uid == other.frame_of_reference_uid:
        return True
    same_grid = replace(other, frame_of_reference_uid=one.frame_of_reference_uid)
    return not grid_difference(one, same_grid) and SeriesPair.of(one, other).is_one_event


def _explain(one: Series, other: Series, target_kernel: str | None) -> Issue:
    couple = f"has no partner in the series of kernel {other.kernel!r} in {printable(_folder(other))}"
    if not one.kernel or not other.kernel:
        return _issue(one, "skip", f"{couple}: only one of them names its kernel")
    if not one.frame_of_reference_uid or not other.frame_of_reference_uid:
        return _issue(one, "skip", f"{couple}: a FrameOfReferenceUID is missing")
    if reason := grid_difference(one, other):
        is_near_miss = slice_overlap(one, other) > MIN_SHARED
        return _issue(one, "fail" if is_near_miss else "skip", f"{couple}: {reason}")
    if reason := SeriesPair.of(one, other).raw_data_difference:
        return _issue(one, "skip", f"{couple}: it is another acquisition, {reason}")
    return _issue(one, "skip", f"{couple}: {_no_target(one, target_kernel)}")


def _no_target(one: Series, target_kernel: str | None) -> str:
    if target_kernel is None or one.kernel == target_kernel:
        return "another series has the same kernel and positions"
    return f"none has the target kernel {target_kernel!r}"


def _issue(series: Series, action: Literal["skip", "fail"], reason: str) -> Issue:
    return Issue(_folder(series), action, f"{printable(_folder(series))}: the series of kernel {series.kernel!r} {reason}")


def _folder(series: Series) -> Path:
    return series.path.parent
