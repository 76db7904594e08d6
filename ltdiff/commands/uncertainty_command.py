"""`ltdiff uncertainty`."""

from pathlib import Path


def uncertainty(
    series: Path, /, *, model: str, out: Path, mask: Path | None = None, num_workers: int = 2, force: bool = False
) -> int:
    """Measure how far a standardized series can be trusted: a map of the standard deviation, intervals of features.

    Args:
        series: Source: DICOM series or volume file.
        model: Folder of a calibrated model, or models:/ltdiff@champion.
        out: Folder for sd.nii.gz and features.csv.
        mask: Its regions: a volume file on the same grid, a DICOM SEG or RT Structure Set, or a folder with one of these.
        num_workers: Slices standardized at a time, and processes for the feature extraction.
        force: Also a series outside the model's training domain; features.csv says what was outside.
    """
    from ltdiff.commands.command_line import resolve_model
    from ltdiff.uncertainty.measure import measure_uncertainty

    measure_uncertainty(series, model=resolve_model(model), out=out, mask=mask, num_workers=num_workers, force=force)
    print(f"written to {out}")
    return 0
