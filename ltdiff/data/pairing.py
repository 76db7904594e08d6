"""Which series show the same acquisition through two kernels: found in an archive, or named by the user.

Two kernels applied to the same raw data give two series that share frame of reference, slice positions, orientation,
pixel spacing, size and slice thickness. Everything else that is alike is a coincidence or another acquisition.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ltdiff.data.formats import is_volume_file, read_volume_series
from ltdiff.data.grid import grid_difference, slice_overlap
from ltdiff.data.manifest import SCHEMA, split_manifest
from ltdiff.dicom.series import Finding, Series, find_series, read_slice_hu

logger = logging.getLogger(__name__)

NEAR_MISS_OVERLAP: Final = 0.5  # more of the slices than this at the same z: meant as a pair, so it fails, not skips
NUM_SHARPNESS_SLICES: Final = 3
SHARPNESS_CUTOFF: Final = 0.5  # of the Nyquist frequency: above it soft kernels let almost nothing pass


@dataclass(frozen=True)
class SeriesPair:
    """Two series on the same grid, slice i of one belongs to slice i of the other: `source` is made like `target`."""

    source: Series
    target: Series


@dataclass(frozen=True)
class PairingResult:
    """`manifest`: one row per slice, split; `table`: kernel × kernel counts; `findings`: what was left out, and why."""

    manifest: pd.DataFrame
    table: pd.DataFrame
    findings: list[Finding]


def pair_archive(root: Path, *, target_kernel: str | None = None, split: str = "auto") -> PairingResult:
    """Find every dual-kernel acquisition below `root`; series without partner become rows of role "other".

    `target_kernel` and what None means: see `find_pairs`; `split`: see `split_manifest`. Raises ValueError when there
    is no CT series at all.
    """
    series, unreadable = find_series(root)
    pairs, findings = find_pairs(series, target_kernel=target_kernel)
    paired_uids = {one.series_instance_uid for pair in pairs for one in (pair.source, pair.target)}
    unpaired = [one for one in series if not one.derived and one.series_instance_uid not in paired_uids]
    if not pairs and not unpaired:
        raise ValueError(f"{root}: no original CT series found")
    manifest = split_manifest(build_manifest(pairs, unpaired), split)
    return PairingResult(manifest, kernel_table(pairs), [*unreadable, *findings])


def pair_named(source: Path, target: Path, *, split: str = "auto") -> PairingResult:
    """Pair two series that the user names: each a DICOM folder or file, or a NIfTI, NRRD or MetaImage file.

    A volume file has no kernel, and its patient is a hash of the source's voxels. Raises ValueError with one sentence
    when a side is not exactly one readable original series, or the two are not on the same grid.
    """
    pair = SeriesPair(_only_series(source), _only_series(target))
    if is_volume_file(source) or is_volume_file(target):  # then only the user can know that it is one patient
        known = pair.target if is_volume_file(source) and not is_volume_file(target) else pair.source
        pair = SeriesPair(*(replace(one, patient_key=known.patient_key) for one in (pair.source, pair.target)))
    reason = grid_difference(pair.source, pair.target)
    if reason:
        raise ValueError(f"{source} and {target} are no pair: {reason}")
    if pair.source.kernel and pair.source.kernel == pair.target.kernel:
        logger.warning("%s and %s have the same kernel %r", source, target, pair.source.kernel)
    return PairingResult(split_manifest(build_manifest([pair]), split), kernel_table([pair]), [])


def _only_series(path: Path) -> Series:
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if is_volume_file(path):
        return read_volume_series(path)
    series, findings = find_series(path)
    failures = [finding for finding in findings if finding.action == "fail"]
    if failures:
        raise ValueError(str(failures[0]))
    if len(series) != 1:
        raise ValueError(f"{path}: name one CT series; here are {len(series)}")
    if series[0].derived:
        raise ValueError(f"{path}: this series is derived, and only original ones are paired")
    return series[0]


def find_pairs(series: Iterable[Series], *, target_kernel: str | None = None) -> tuple[list[SeriesPair], list[Finding]]:
    """Every pair of original series of the same patient, study and acquisition on the same grid with different kernels.

    Several kernels of one acquisition: each is paired with the target kernel. When `target_kernel` is None the sharpest
    is the target, decided once for each set of kernels by the high-frequency power of the first acquisition that has
    it, and logged. Findings say, for every series left without a partner although its acquisition has another kernel,
    what the difference is: "fail" where most slices agree (meant as a pair), "skip" where it is another kind of series.
    """
    series = sorted(series, key=lambda one: one.series_instance_uid)
    findings = [_finding(one, "skip", "is derived and never paired") for one in series if one.derived]
    originals = [one for one in series if not one.derived]
    pairs: list[SeriesPair] = []
    targets: dict[frozenset[str], str] = {}
    for grid in _group_by_grid(originals):
        kernels = frozenset(one.kernel for one in grid)
        if len(kernels) < 2:
            continue
        try:
            target = target_kernel or targets.get(kernels) or targets.setdefault(kernels, _sharpest_kernel(grid))
        except ValueError as error:
            findings.append(_finding(grid[0], "fail", f"could not be paired: {error}"))
            continue
        pairs += _pairs_with(target, grid)
    if len(set(targets.values())) > 1:
        logger.warning("several target kernels (%s): name the one to train for", ", ".join(sorted(targets.values())))
    return pairs, findings + _explain_unpaired(originals, pairs, target_kernel)


def _group_by_grid(series: Sequence[Series]) -> list[list[Series]]:
    """Series with a kernel of the same acquisition on the same grid; groups and their members in a stable order."""
    acquisitions: dict[tuple[str, str, str, str], list[list[Series]]] = defaultdict(list)
    for one in series:
        if not one.kernel:
            continue
        key = (one.patient_key, one.study_instance_uid, one.frame_of_reference_uid, one.acquisition_key)
        grids = acquisitions[key]
        grid = next((grid for grid in grids if not grid_difference(grid[0], one)), None)
        if grid is None:
            grids.append([one])
        else:
            grid.append(one)
    return [grid for grids in acquisitions.values() for grid in grids]


def _pairs_with(target_kernel: str, grid: Sequence[Series]) -> list[SeriesPair]:
    targets = [one for one in grid if one.kernel == target_kernel]  # of two alike, the first serves
    return [SeriesPair(one, targets[0]) for one in grid if targets and one.kernel != target_kernel]


def _sharpest_kernel(grid: Sequence[Series]) -> str:
    sharpness = {one.kernel: _high_frequency_power(one) for one in reversed(grid)}
    target = max(sharpness, key=lambda kernel: sharpness[kernel])
    measured = ", ".join(f"{kernel} {power:.3g}" for kernel, power in sorted(sharpness.items()))
    logger.info(
        "target kernel %s is the sharpest (power above half the Nyquist frequency in HU²: %s)", target, measured
    )
    return target


def _high_frequency_power(series: Series) -> float:
    """Mean power (HU²) above half the Nyquist frequency in the middle slices; ValueError when one cannot be read."""
    first = max(0, (series.num_slices - NUM_SHARPNESS_SLICES) // 2)
    headers = series.slices[first : first + NUM_SHARPNESS_SLICES]
    return float(np.mean([_power_above_cutoff(read_slice_hu(header.path)) for header in headers]))


def _power_above_cutoff(hu: np.ndarray) -> float:
    rows, columns = hu.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))  # without it the image's border counts as an edge
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])  # cycles/pixel
    spectrum = np.fft.rfft2((hu - hu.mean()) * window)[frequency > SHARPNESS_CUTOFF / 2]
    return float((np.abs(spectrum) ** 2).sum() / hu.size**2)


def _explain_unpaired(
    series: Sequence[Series], pairs: Sequence[SeriesPair], target_kernel: str | None
) -> list[Finding]:
    paired = {one.series_instance_uid for pair in pairs for one in (pair.source, pair.target)}
    studies: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for one in series:
        studies[one.patient_key, one.study_instance_uid].append(one)
    findings, explained = [], set()
    for study in studies.values():
        for one in study:
            others = [other for other in study if _is_candidate(one, other)]
            if one.series_instance_uid in paired or not others:
                continue
            closest = max(others, key=lambda other: slice_overlap(one, other))
            couple = frozenset((one.series_instance_uid, closest.series_instance_uid))
            if couple not in explained:
                findings.append(_explain(one, closest, target_kernel))
            explained.add(couple)
    return findings


def _is_candidate(one: Series, other: Series) -> bool:
    same_frame = one.frame_of_reference_uid == other.frame_of_reference_uid
    same_acquisition = bool(one.acquisition_key) and one.acquisition_key == other.acquisition_key
    return one.kernel != other.kernel and (same_frame or same_acquisition)


def _explain(one: Series, other: Series, target_kernel: str | None) -> Finding:
    couple = f"was not paired with the series of kernel {other.kernel!r} in {other.slices[0].path.parent}"
    if not one.kernel or not other.kernel:
        return _finding(one, "skip", f"{couple}: one of them names no kernel")
    if one.acquisition_key != other.acquisition_key:
        return _finding(one, "skip", f"{couple}: it is another acquisition")
    reason = grid_difference(one, other)
    if not reason:
        return _finding(one, "skip", f"{couple}: {_no_target(one, target_kernel)}")
    is_near_miss = slice_overlap(one, other) > NEAR_MISS_OVERLAP
    return _finding(one, "fail" if is_near_miss else "skip", f"{couple}: {reason}")


def _no_target(one: Series, target_kernel: str | None) -> str:
    if target_kernel is None or one.kernel == target_kernel:
        return "another series has the same kernel and positions"
    return f"none has the target kernel {target_kernel!r}"


def _finding(series: Series, action: str, reason: str) -> Finding:
    assert action in ("skip", "fail")
    return Finding(series.slices[0].path.parent, "fail" if action == "fail" else "skip", f"the series {reason}")


def kernel_table(pairs: Sequence[SeriesPair]) -> pd.DataFrame:
    """Source kernels (rows) × target kernels (columns): numbers of acquisitions and of slice pairs."""
    counts = pd.DataFrame(
        [(pair.source.kernel, pair.target.kernel, 1, pair.source.num_slices) for pair in pairs],
        columns=["source kernel", "target kernel", "acquisitions", "slices"],
    )
    return counts.pivot_table(
        index="source kernel", columns="target kernel", values=["acquisitions", "slices"], aggfunc="sum", fill_value=0
    )


def build_manifest(pairs: Sequence[SeriesPair], unpaired: Sequence[Series] = ()) -> pd.DataFrame:
    """The manifest of the pairs and of further series (role "other"), all of it "train" until it is split."""
    rows: list[dict[str, object]] = []
    for pair in pairs:
        uids = f"{pair.source.series_instance_uid}\n{pair.target.series_instance_uid}"
        prefix = hashlib.sha256(uids.encode()).hexdigest()[:12]
        pair_ids = [f"{prefix}-{index:04d}" for index in range(pair.source.num_slices)]
        rows += _rows(pair.source, "source", pair_ids) + _rows(pair.target, "target", pair_ids)
    for series in unpaired:
        rows += _rows(series, "other", [None] * series.num_slices)
    manifest = pd.DataFrame(rows, columns=SCHEMA.names)
    return manifest.astype({"pair_id": object, "slice_thickness_mm": float})


def _rows(series: Series, role: str, pair_ids: Sequence[str | None]) -> list[dict[str, object]]:
    return [
        {
            "path": str(header.path.absolute()),  # workers may run in another directory
            "slice_index": index if is_volume_file(header.path) else 0,
            "series_uid": series.series_instance_uid,
            "patient": series.patient_key,
            "role": role,
            "pair_id": pair_id,
            "kernel": series.kernel,
            "manufacturer": series.manufacturer,
            "z_mm": header.z_mm,
            "spacing_y_mm": series.spacing_mm[0],
            "spacing_x_mm": series.spacing_mm[1],
            "slice_thickness_mm": series.slice_thickness_mm,
            "rows": series.rows,
            "columns": series.columns,
            "split": "train",
        }
        for index, (header, pair_id) in enumerate(zip(series.slices, pair_ids, strict=True))
    ]
