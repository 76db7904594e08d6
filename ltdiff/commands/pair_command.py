"""`ltdiff pair`."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ltdiff.commands.command_line import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ltdiff.data.pairing import PairingResult

logger = logging.getLogger(__name__)

Names = tuple[str | None, str | None]
"""Of the source and of the target."""
Paths = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]


def pair(
    root: Path | None = None,
    /,
    *,
    out: Path = Path("pairs.parquet"),
    source: Paths = (),
    target: Paths = (),
    source_kernel: str | None = None,
    target_kernel: str | None = None,
    unpaired: bool = False,
    source_protocol: str | None = None,
    target_protocol: str | None = None,
    repeat: Paths = (),
    split: str = "auto",
    num_workers: int = 1,
) -> int:
    """Pair the series of an archive that show one scan with two kernels, or two named series; write the manifest.

    With --unpaired series of both kernels are taken whoever was scanned: their spectra match the kernels.

    Args:
        root: Folder tree of DICOM series to search; with --source_protocol, the folder of a survey.
        out: The manifest, a Parquet file with one row per slice.
        source: Instead of an archive: DICOM folder or volume file (NIfTI, NRRD, MHA) with the non-standard kernel; with
            --unpaired several, and folders of any number of series.
        target: Its partner with the standard kernel; with --unpaired other patients.
        source_kernel: Take only series with this ConvolutionKernel, for a model of their own.
        target_kernel: ConvolutionKernel that is the standard one; without it, the sharpest kernel.
        unpaired: Also take series without a partner, as source or target; an archive needs --target_kernel for it.
        source_protocol: With --unpaired, a protocol_id of the survey that `ltdiff survey` wrote to `root`.
        target_protocol: The protocol_id of the target.
        repeat: Folders, or volume files, with the targets scanned again: same patient, kernel and places, another noise. Reports
            then say how much of an error is noise.
        split: "z:0.7" (blocks of slices), "patient:0.7", or "auto" (by patient when there are three or more).
        num_workers: Ray tasks that read the headers of a large archive at a time.
    """
    kernels, protocols = (source_kernel, target_kernel), (source_protocol, target_protocol)
    _check_usage(root, source, target, kernels, protocols, unpaired=unpaired)
    if num_workers != 1 and (root is None or source_protocol is not None):
        raise UsageError("--num_workers is for a folder to search")
    from ltdiff.data.manifest import write_manifest

    result = _find(root, source, target, kernels, protocols, unpaired=unpaired, split=split, num_workers=num_workers)
    if repeat:
        from ltdiff.data.repeats import add_repeats

        manifest, issues = add_repeats(result.manifest, repeat)
        result = replace(result, manifest=manifest, issues=[*result.issues, *issues])
    for issue in result.issues:
        logger.warning("%s: %s", issue.action, issue)
    write_manifest(result.manifest, out)
    _print_summary(result, out)
    return int(any(issue.action == "fail" for issue in result.issues))


def _check_usage(
    root: Path | None, source: tuple[Path, ...], target: tuple[Path, ...], kernels: Names, protocols: Names, *, unpaired: bool
) -> None:
    if (root is None) == (not source) or (not source) != (not target):
        raise UsageError("name either a folder to search, or both --source and --target")
    if source and kernels != (None, None):
        raise UsageError("--source_kernel and --target_kernel choose series of an archive: --source and --target are chosen")
    if max(len(source), len(target)) > 1 and not unpaired:
        raise UsageError("one --source and one --target are a pair; several of them need --unpaired")
    if protocols.count(None) == 1:
        raise UsageError("--source_protocol and --target_protocol belong together")
    if None not in protocols and (root is None or not unpaired or any(kernels)):
        raise UsageError("--source_protocol and --target_protocol need --unpaired and the folder of a survey, and no kernel")
    if unpaired and root is not None and kernels[1] is None and None in protocols:
        raise UsageError("--unpaired needs --target_kernel: without pairs nothing says which kernel is the standard one")


def _find(
    root: Path | None,
    source: tuple[Path, ...],
    target: tuple[Path, ...],
    kernels: Names,
    protocols: Names,
    *,
    unpaired: bool,
    split: str,
    num_workers: int,
) -> "PairingResult":
    from ltdiff.data.pairing import pair_archive, pair_named
    from ltdiff.data.unpaired import collect_archive, collect_named, collect_surveyed

    (source_kernel, target_kernel), (source_protocol, target_protocol) = kernels, protocols
    if root is None:
        return collect_named(source, target, split=split) if unpaired else pair_named(source[0], target[0], split=split)
    if source_protocol is not None and target_protocol is not None:
        return collect_surveyed(root, source_protocol=source_protocol, target_protocol=target_protocol, split=split)
    if unpaired:
        assert target_kernel is not None
        return collect_archive(
            root, source_kernel=source_kernel, target_kernel=target_kernel, split=split, num_workers=num_workers
        )
    return pair_archive(root, source_kernel=source_kernel, target_kernel=target_kernel, split=split, num_workers=num_workers)


def _print_summary(result: "PairingResult", out: Path) -> None:
    from ltdiff.data.manifest import LEFT_OUT, REPEAT, SPLITS

    def by_split(rows: "pd.DataFrame") -> str:
        counts = rows["split"].value_counts()
        return ", ".join(f"{counts[split]} {split}" for split in (*SPLITS, LEFT_OUT) if split in counts) or "none"

    columns = [f"{number} to {kernel!r}" for number, kernel in map(tuple, result.table.columns)]
    manifest, is_paired = result.manifest, result.manifest["pair_id"].notna()
    sides = {role: manifest[~is_paired & (manifest["role"] == role)] for role in ("source", "target")}
    print(result.table.set_axis(columns, axis=1).to_markdown() if columns else "no pairs found")
    pairs = manifest[is_paired & (manifest["role"] == "source")]
    text = f"{len(pairs)} pairs ({by_split(pairs)})"
    for role, rows in sides.items():
        if len(rows):
            patients = rows["patient"].nunique()
            text += f", {len(rows)} {role} slices of {patients} patient(s) without pairs ({by_split(rows)})"
    repeats = manifest[manifest["role"] == REPEAT]
    if len(repeats):
        text += f", {len(repeats)} of them with a repeat ({by_split(repeats)})"
    print(f"{out}: {text}, {len(manifest)} rows")
