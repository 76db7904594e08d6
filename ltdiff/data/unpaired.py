"""The manifest without pairs: series of a source and of a target protocol, whoever was scanned."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ltdiff.data.manifest_rows import build_manifest, kernel_table
from ltdiff.data.manifest_split import split_manifest
from ltdiff.data.pairing import PairingResult, read_archive
from ltdiff.data.volume_files import VolumeFile, is_volume_file, read_volume_scan
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.grid import THICKNESS_TOLERANCE_MM
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.series import find_series, no_series_error
from ltdiff.system.remote_input import as_paths, fetch_whole_folder
from ltdiff.system.text import printable, quoted

logger = logging.getLogger(__name__)

SURVEYED_SERIES = "series.parquet"
"""In the folder of a survey: one row for each series."""


class Roles(NamedTuple):
    """Scans by what they are to a model: of the source protocol, of the target protocol, or of neither."""

    sources: list[Scan]
    targets: list[Scan]
    others: list[Scan]


def collect_archive(
    root: Path, *, source_kernel: str | None, target_kernel: str, split: str = "auto", num_workers: int = 1
) -> PairingResult:
    """Take every original series of `root` by its kernel: pairs where there are any, and the others as source or target.

    Many new headers are read by `num_workers` tasks of Ray.

    Raises:
        NothingToDoError: there is no original CT series.
        ValueError: none that can be used has the target kernel, or none is a source.
    """
    content = read_archive(root, target_kernel=target_kernel, num_workers=num_workers).of_source_kernel(source_kernel)
    pairs = content.pairs
    roles, issues = assign_roles(
        content.unpaired, source_kernel=source_kernel, target_kernel=target_kernel, known_targets=[pair.target for pair in pairs]
    )
    if not pairs:
        _check_sides(roles, issues, of=f"below {printable(root)}")
    manifest = build_manifest(pairs, roles.others, sources=roles.sources, targets=roles.targets)
    return PairingResult(split_manifest(manifest, split), kernel_table(pairs), [*content.issues, *issues])


def collect_named(sources: Sequence[Path], targets: Sequence[Path], *, split: str = "auto") -> PairingResult:
    """Take all original series in the folders, and the volume files, that the user names for each side.

    Raises:
        ValueError: a side has no usable series, or both have the same one.
    """
    of_source, source_issues = read_originals(sources, role="source")
    of_target, target_issues = read_originals(targets, role="target")
    return _collect(of_source, of_target, [*source_issues, *target_issues], of="named", split=split)


def collect_surveyed(survey: Path, *, source_protocol: str, target_protocol: str, split: str = "auto") -> PairingResult:
    """Take the original series of two protocols, by their `protocol_id`, that `ltdiff survey` found and wrote to `survey`.

    Raises:
        ValueError: that is no survey, it has no such protocol, or nothing of one can be used.
    """
    table = _read_survey(survey)
    sides: dict[str, list[Scan]] = {}
    issues: list[Issue] = []
    for role, protocol_id in (("source", source_protocol), ("target", target_protocol)):
        rows = table[(table["protocol_id"] == protocol_id) & ~table["derived"]]
        if rows.empty:
            raise ValueError(f"{printable(survey)} has no series of a protocol {quoted(protocol_id)}; protocols.csv lists them")
        folders = [Path(folder) for folder in as_paths(sorted(set(rows["folder"])))]
        for folder in folders:
            fetch_whole_folder(folder)
        scans, of_role = read_originals(folders, role=role)
        wanted = set(rows["series_uid"])
        sides[role] = [one for one in scans if one.series_instance_uid in wanted]
        issues += of_role
    return _collect(sides["source"], sides["target"], issues, of="surveyed", split=split)


def _collect(sources: Sequence[Scan], targets: Sequence[Scan], issues: Sequence[Issue], *, of: str, split: str) -> PairingResult:
    """The manifest of both sides, without pairs, as far as they are of one thickness."""
    _check_apart(sources, targets)
    roles, of_thickness = with_one_thickness(sources, targets)
    _check_sides(roles, of_thickness, of=of)
    manifest = build_manifest([], sources=roles.sources, targets=roles.targets)
    return PairingResult(split_manifest(manifest, split), kernel_table([]), [*issues, *of_thickness])


def _read_survey(survey: Path) -> pd.DataFrame:
    path = survey / SURVEYED_SERIES
    try:
        return pd.read_parquet(path, columns=["protocol_id", "series_uid", "folder", "derived"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{printable(survey)} holds no survey: {SURVEYED_SERIES} cannot be read; see `ltdiff survey`") from error


def _check_sides(roles: Roles, issues: Sequence[Issue], *, of: str) -> None:
    for role, scans in (("source", roles.sources), ("target", roles.targets)):
        if not scans:
            reasons = "; ".join(map(str, issues[:3])) or "no series has its kernel"
            raise ValueError(f"of the series {of}, none can be a {role}: {reasons}")


def assign_roles(
    series: Sequence[Scan], *, source_kernel: str | None, target_kernel: str, known_targets: Sequence[Scan] = ()
) -> tuple[Roles, list[Issue]]:
    """Give each series its role by its kernel; `known_targets` are targets of pairs, whose thickness counts as well.

    Without `source_kernel` every kernel but the target's is a source. A series without a kernel is neither.
    """
    targets = [one for one in series if one.kernel == target_kernel]
    sources = [one for one in series if one.kernel not in ("", target_kernel) and one.kernel == (source_kernel or one.kernel)]
    roles, issues = with_one_thickness(sources, targets, known_targets=known_targets)
    chosen = {one.series_instance_uid for one in (*sources, *targets)}
    kernels = sorted({one.kernel for one in roles.sources})
    if len(kernels) > 1:
        logger.warning(
            "the sources have several kernels (%s), and one match fits them all badly: "
            "name one with --source_kernel, or let `ltdiff harmonize` match each",
            ", ".join(map(repr, kernels)),
        )
    return roles._replace(others=[one for one in series if one.series_instance_uid not in chosen]), issues


def with_one_thickness(
    sources: Sequence[Scan], targets: Sequence[Scan], *, known_targets: Sequence[Scan] = ()
) -> tuple[Roles, list[Issue]]:
    """The scans whose slices are as thick as most of the targets', and the others as issues.

    A thicker slice is smoother and less noisy, which no filter in the plane can tell from a kernel.
    """
    if not (targets or known_targets) or not sources:
        return Roles(list(sources), list(targets), []), []
    counts: Counter[float] = Counter()
    for one in (*targets, *known_targets):
        if (thickness_mm := thickness(one)) is not None:
            counts[thickness_mm] += one.num_slices
    if not counts:
        return Roles(list(sources), list(targets), []), []
    wanted_mm = counts.most_common(1)[0][0]
    issues = []
    kept: list[list[Scan]] = []
    for role, scans in (("source", sources), ("target", targets)):
        kept.append([])
        for one in scans:
            if is_as_thick(one, wanted_mm):
                kept[-1].append(one)
                continue
            reason = f"cannot be a {role}: its slices are {thickness(one):g} mm thick, those of the target {wanted_mm:g} mm"
            issues.append(Issue(one.path, "fail", f"{scan_name(one)} {reason}"))
    return Roles(kept[0], kept[1], []), issues


def is_as_thick(scan: Scan, thickness_mm: float | None) -> bool:
    """Whether its slices have this thickness, as far as both are known."""
    found_mm = thickness(scan)
    return found_mm is None or thickness_mm is None or abs(found_mm - thickness_mm) <= THICKNESS_TOLERANCE_MM


def thickness(scan: Scan) -> float | None:
    """SliceThickness in mm; of a volume file the distance of its slices."""
    return scan.distance_mm if isinstance(scan, VolumeFile) else scan.slice_thickness_mm


def read_originals(paths: Sequence[Path], *, role: str) -> tuple[list[Scan], list[Issue]]:
    """All original CT series in folders, and volume files, that the user named for one role.

    Raises:
        ValueError: there is none; or a path does not exist.
    """
    scans: dict[str, Scan] = {}
    issues: list[Issue] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"{printable(path)}: there is no such file or folder")
        if is_volume_file(path):
            scan = read_volume_scan(path)
            scans[scan.series_instance_uid] = scan
            continue
        found, of_path = find_series(path)
        issues += of_path
        usable = [one for one in found if not one.derived]
        if not usable:
            raise no_series_error(path, found, of_path)
        for one in usable:
            try:
                one.check_values()
                scans[one.series_instance_uid] = one
            except ValueError as error:
                issues.append(Issue(one.path.parent, "fail", f"{scan_name(one)} cannot be used: {error}"))
    if not scans:
        raise ValueError(f"no {role} can be used: {'; '.join(str(issue) for issue in issues if issue.action == 'fail')}")
    return list(scans.values()), issues


def _check_apart(sources: Sequence[Scan], targets: Sequence[Scan]) -> None:
    """ValueError where a series is named as source and as target."""
    both = {one.series_instance_uid for one in sources} & {one.series_instance_uid for one in targets}
    if both:
        (one,) = [one for one in sources if one.series_instance_uid == min(both)]
        raise ValueError(f"{scan_name(one)} is named as source and as target")


def scan_name(scan: Scan) -> str:
    """What a sentence calls a scan."""
    return printable(scan.path) if isinstance(scan, VolumeFile) else f"the series of {printable(scan.path)}"
