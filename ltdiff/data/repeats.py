"""Repeats: the target scanned again with its own protocol, so that a report can say how much of an error is noise.

A repeat shows the target's anatomy at the same places with another noise: a phantom or a patient who has not moved (one frame of
reference), or volume files that the user has brought to one grid. A patient who got up in between has moved, and regions of
one scan are not those of the other: such a scan is refused with the reason.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ltdiff.data.manifest import REPEAT, SCHEMA
from ltdiff.data.manifest_rows import add_rows
from ltdiff.data.manifest_series import find_manifest_series, paths_by_series
from ltdiff.data.noise_coherence import Verdict, compare_noise
from ltdiff.data.same_grid import grid_difference, shared_slices
from ltdiff.data.unpaired import read_originals, scan_name
from ltdiff.data.volume_files import VolumeFile, is_volume_file, read_volume_scan
from ltdiff.dicom.archive_files import Issue
from ltdiff.dicom.scan import Scan

logger = logging.getLogger(__name__)


class _Match(NamedTuple):
    """A repeat and its target, cut to the slices that both have; or why there is none."""

    repeat: Scan | None = None
    target: Scan | None = None
    reason: str = ""


def add_repeats(manifest: pd.DataFrame, paths: Sequence[Path]) -> tuple[pd.DataFrame, list[Issue]]:
    """The manifest with the series in folders, and the volume files, that repeat targets of its pairs; and what was left out.

    Each goes with its pair: same `pair_id`, patient and split. Series of another kernel are no repeats and are skipped: a folder
    of rescans may hold sources, too.

    Raises:
        ValueError: the manifest has no pairs; a path has no usable series; nothing is a repeat.
    """
    targets = _read_targets(manifest)
    scans, issues = read_originals(paths, role=REPEAT)
    tables: list[pd.DataFrame] = []
    refused: list[Issue] = []
    taken: dict[str, str] = {}
    for scan in scans:
        match = _find_target(scan, targets)
        if match.repeat is None or match.target is None:
            is_other = bool(scan.kernel) and scan.kernel not in {target.kernel for target in targets}
            refused.append(Issue(scan.path, "skip" if is_other else "fail", f"{scan_name(scan)} is no repeat: {match.reason}"))
            continue
        uid = match.target.series_instance_uid
        if uid in taken:
            refused.append(Issue(scan.path, "fail", f"{scan_name(scan)} repeats the same target as {taken[uid]}: one is enough"))
            continue
        taken[uid] = scan_name(scan)
        tables.append(_rows_of(match.repeat, match.target, manifest))
    if not tables:
        raise ValueError(f"nothing repeats a target: {'; '.join(map(str, refused[:3]))}")
    logger.info("%d of %d target series have a repeat", len(taken), len(targets))
    result = pd.concat([manifest, *tables], ignore_index=True)
    result.attrs = dict(manifest.attrs)
    return result, [*issues, *refused]


def _read_targets(manifest: pd.DataFrame) -> list[Scan]:
    """The targets of the pairs, each with the patient that it has in the manifest."""
    rows = manifest[(manifest["role"] == "target") & manifest["pair_id"].notna()].drop_duplicates("series_uid")
    if rows.empty:
        raise ValueError("there are no pairs, and a repeat is one of a pair's target")
    targets: list[Scan] = []
    paths = paths_by_series(manifest)
    for uid, path, patient in rows[["series_uid", "path", "patient"]].itertuples(index=False):
        is_file = is_volume_file(Path(path))
        scan: Scan = read_volume_scan(Path(path)) if is_file else find_manifest_series(uid, paths[uid])
        targets.append(replace(scan, patient_key=patient))
    return targets


def _find_target(scan: Scan, targets: Sequence[Scan]) -> _Match:
    """The target that a scan repeats: of its patient and kernel, on its grid, with another noise."""
    if isinstance(scan, VolumeFile) or any(isinstance(target, VolumeFile) for target in targets):
        if len(targets) > 1:
            return _Match(reason=f"a volume file names no patient, and there are {len(targets)} targets")
        candidates = list(targets)
    else:
        candidates = [target for target in targets if target.patient_key == scan.patient_key]
    if not candidates:
        return _Match(reason="no pair shows its patient")
    reasons = []
    for target in candidates:
        reason = _difference(replace(scan, patient_key=target.patient_key), target)
        if not reason:
            repeat, shared = shared_slices(replace(scan, patient_key=target.patient_key), target)
            verdict, noise = compare_noise(repeat, shared)
            if verdict is not Verdict.ONE:
                return _Match(repeat, shared)
            reason = f"it shows the target's own raw data ({noise})"
        reasons.append(reason)
    return _Match(reason="; ".join(dict.fromkeys(reasons)))


def _difference(scan: Scan, target: Scan) -> str:
    """Why a scan cannot repeat a target of its patient, in words; "" when it can."""
    if scan.kernel and target.kernel and scan.kernel != target.kernel:
        return f"its kernel is {scan.kernel!r}, that of the target {target.kernel!r}"
    return grid_difference(scan, target)


def _rows_of(repeat: Scan, target: Scan, manifest: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of a slice of the target, with the same slice of its repeat."""
    partners = {(str(one.path.absolute()), one.index): other for one, other in zip(target.slices, repeat.slices, strict=True)}
    rows = manifest[(manifest["series_uid"] == target.series_instance_uid) & (manifest["role"] == "target")]
    rows = rows[[place in partners for place in zip(rows["path"], rows["slice_index"], strict=True)]].dropna(subset="pair_id")
    slices = tuple(partners[place] for place in zip(rows["path"], rows["slice_index"], strict=True))
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    add_rows(columns, replace(repeat, slices=slices), REPEAT, list(rows["pair_id"]))
    return pd.DataFrame(columns).astype({"slice_thickness_mm": float}).assign(split=rows["split"].to_numpy())
