"""`ltdiff compare`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ltdiff.commands.command_line import Config, Set
from ltdiff.commands.train_command import NUM_STEPS
from ltdiff.methods import METHOD_NAMES

UNUSED = (*NUM_STEPS, "training.minutes", "training.num_workers", "training.use_gpu", "training.init")
"""Settings of `ltdiff train` alone: here all methods have the same minutes, in one process."""
Methods = Annotated[str, Parameter(help=f'Names, separated by commas, or "all": {", ".join(METHOD_NAMES)}.')]


def compare(
    pairs: Path,
    /,
    *,
    out: Path,
    methods: Methods = "source,linear,residual_cnn,ltdiff",
    minutes: float = 30.0,
    test: Path | None = None,
    split: str | None = None,
    num_pairs: int | None = None,
    mask: Path | None = None,
    lung_mask: Path | None = None,
    features: Literal["pyradiomics", "catalogue", "ibsi", "wavelet"] | None = None,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Train several methods on the same pairs for the same time, and score them on the same held-out regions.

    Run it again to resume.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        out: Folder for the trainings, tables (CSV, Markdown) and figures (PNG).
        minutes: Training time of each method. Trials of three learning rates come on top.
        test: Manifest whose pairs are scored instead, for example another patient's.
        split: "z:0.7" or "patient:0.7"; without it the manifest's own, or with --test all of the pairs train.
        num_pairs: Train on so many of the training pairs only, spread evenly.
        mask: Lesion mask of the scored pairs: a volume file, a DICOM SEG, or a folder of DICOM SEG files.
        lung_mask: Mask of the lungs of pairs, for the clinical end points; without it, lungs are found in the target by
            thresholds.
        features: Four classes of PyRadiomics (the default), all 1,450 features of the catalogue, the 455 of IBSI, or 702 of
            intensity, texture and wavelets.
    """
    from ltdiff.commands.configuration import TRAINING_SECTIONS, read_settings_of

    configuration = read_settings_of(
        config, settings, sections=[*TRAINING_SECTIONS, "evaluation"], unused=UNUSED, options={"evaluation.features": features}
    )

    from ltdiff.methods.compare_methods import compare_methods

    tables = compare_methods(
        pairs,
        methods=METHOD_NAMES if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()],
        out=out,
        minutes=minutes,
        settings=configuration.run,
        test=test,
        split=split,
        num_pairs=num_pairs,
        mask=mask,
        lung_mask=lung_mask,
        config=configuration.evaluation,
    )
    print(f"{tables}\nreport: {out / 'report.md'}")
    return 0
