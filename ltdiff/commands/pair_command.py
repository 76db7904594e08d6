"""`ltdiff pair`."""

import logging
from pathlib import Path

from ltdiff.commands.command_line import UsageError

logger = logging.getLogger(__name__)


def pair(
    root: Path | None = None,
    /,
    *,
    out: Path = Path("pairs.parquet"),
    source: Path | None = None,
    target: Path | None = None,
    source_kernel: str | None = None,
    target_kernel: str | None = None,
    split: str = "auto",
) -> int:
    """Pair the series of an archive that show one scan with two kernels, or two named series; write the manifest.

    Args:
        root: Folder tree of DICOM series to search.
        out: The manifest, a Parquet file with one row per slice.
        source: Instead of an archive: DICOM folder or volume file (NIfTI, NRRD, MHA) with the non-standard kernel.
        target: Its partner with the standard kernel.
        source_kernel: Pair only series with this ConvolutionKernel, for a model of their own.
        target_kernel: ConvolutionKernel that is the standard one; without it, the sharpest kernel.
        split: "z:0.7" (blocks of slices), "patient:0.7", or "auto" (by patient when there are three or more).
    """
    if (root is None) == (source is None) or (source is None) != (target is None):
        raise UsageError("name either a folder to search, or both --source and --target")
    if source is not None and (source_kernel is not None or target_kernel is not None):
        raise UsageError("--source_kernel and --target_kernel choose series of an archive: --source and --target are chosen")
    from ltdiff.data.manifest import LEFT_OUT, SPLITS, write_manifest
    from ltdiff.data.pairing import pair_archive, pair_named

    if source is not None and target is not None:
        result = pair_named(source, target, split=split)
    else:
        assert root is not None
        result = pair_archive(root, source_kernel=source_kernel, target_kernel=target_kernel, split=split)
    for issue in result.issues:
        logger.warning("%s: %s", issue.action, issue)
    columns = [f"{number} to {kernel!r}" for number, kernel in map(tuple, result.table.columns)]
    print(result.table.set_axis(columns, axis=1).to_markdown() if columns else "no pairs found")
    write_manifest(result.manifest, out)
    counts = result.manifest[result.manifest["role"] == "source"]["split"].value_counts()
    pairs = ", ".join(f"{counts[split]} {split}" for split in (*SPLITS, LEFT_OUT) if split in counts)
    print(f"{out}: {counts.sum()} pairs ({pairs or 'none'}), {len(result.manifest)} rows")
    return int(any(issue.action == "fail" for issue in result.issues))
