"""`ltdiff standardize`."""

from pathlib import Path

from ltdiff.commands.command_line import Config, Set


def standardize(
    root: Path,
    /,
    *,
    model: str,
    out: Path,
    target_kernel: str | None = None,
    num_workers: int = 1,
    use_gpu: bool = False,
    force: bool = False,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Standardize a CT series, a volume file or a whole archive into derived series. Not for diagnostic use.

    Run it again to resume.

    Args:
        root: DICOM series, folder tree of them, or a NIfTI, NRRD or MHA file.
        model: Folder of a trained model, or models:/ltdiff@champion; or a folder of such folders, or models:/ltdiff for all
            champions, from which each series gets the model that was trained for its kernel and manufacturer.
        out: Folder for the derived series.
        target_kernel: The kernel to standardize to, where the models lead to several.
        num_workers: Ray actors, each with the model.
        use_gpu: Give each of them a GPU.
        force: Also standardize series outside the model's training domain, or without a kernel; the output says so.
    """
    from ltdiff.commands.command_line import resolve_models
    from ltdiff.commands.configuration import read_settings_of

    inference = read_settings_of(config, settings, sections=["inference"]).inference

    from ltdiff.inference.batch import standardize_archive
    from ltdiff.inference.results import exit_code

    results = standardize_archive(
        root,
        model=resolve_models(model),
        out=out,
        inference=inference,
        num_workers=num_workers,
        use_gpu=use_gpu,
        force=force,
        target_kernel=target_kernel,
    )
    return exit_code(results)
