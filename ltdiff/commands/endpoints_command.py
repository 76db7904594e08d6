"""`ltdiff endpoints`."""

from pathlib import Path

from ltdiff.commands.command_line import UsageError, print_lines


def endpoints(*images: Path, mask: Path | None = None, out: Path | None = None) -> int:
    """Measure clinical end points: LAA−950, Perc15, mean, volume and mass of the lungs, or of the regions of a mask.

    Args:
        images: DICOM series or volume files (NIfTI, NRRD, MHA). Several must be images of one scan: all are measured inside the
            lungs of the first, so that no difference is one of two masks.
        mask: Regions instead of the lungs: a volume file on the same grid, a DICOM SEG or RT Structure Set, or a folder with one
            of these.
        out: Table with a row per image and region, .parquet or .csv; without it, the table is printed.
    """
    if not images:
        raise UsageError("name at least one IMAGE")
    from ltdiff.evaluation.scan_endpoints import measure_endpoints
    from ltdiff.radiomics.feature_table import check_table_path, write_table

    if out is not None:
        check_table_path(out)
    table = measure_endpoints(images, mask=mask)
    if out is None:
        print_lines(table.to_csv(sep="\t", index=False, float_format="%.6g"))
        return 0
    write_table(table, out)
    print(f"{out}: {', '.join(table['roi'].unique())}")
    return 0
