"""`ltdiff harmonize`."""

from pathlib import Path

from ltdiff.commands.command_line import Config, Set


def harmonize(
    root: Path,
    /,
    *,
    target_kernel: str,
    out: Path,
    minutes: float | None = None,
    num_workers: int = 1,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Make all series of an archive comparable with those of one kernel, with pairs or without. Not for diagnostic use.

    Every source protocol is matched to the target by its spectra, or trained. Run it again to resume.

    Args:
        root: Folder tree of DICOM series.
        target_kernel: ConvolutionKernel of the series that the others shall be like.
        out: Folder for the matches, the derived series and the report.
        minutes: Train LTDiff++ for so long in all; without it no network is trained.
        num_workers: Ray actors that standardize.
    """
    from ltdiff.commands.configuration import TRAINING_SECTIONS, read_settings_of

    options = {} if minutes is None else {"training.minutes": minutes}
    read = read_settings_of(config, settings, sections=[*TRAINING_SECTIONS, "inference"], options=options)

    from ltdiff.harmonize.harmonized_archive import harmonize_archive
    from ltdiff.inference.results import exit_code

    results = harmonize_archive(
        root,
        target_kernel=target_kernel,
        out=out,
        minutes=minutes,
        settings=read.run,
        inference=read.inference,
        num_workers=num_workers,
    )
    return exit_code(results)
