"""`ltdiff calibrate`."""

from pathlib import Path
from typing import Annotated

from ltdiff.commands.command_line import IN_PLACE, is_registered, model_cache, resolve_model


def calibrate(pairs: Path, /, *, model: Annotated[str, IN_PLACE], num_workers: int = 2) -> int:
    """Fit a model's residual noise and prediction intervals on validation pairs; report their coverage on test pairs.

    Args:
        pairs: Manifest written by `ltdiff pair`; its split `val` calibrates, its split `test` is covered.
        model: Folder of a trained model; calibration.json is written into it. Export a registered one first.
        num_workers: Slices standardized at a time, and processes for the feature extraction.
    """
    from ltdiff.uncertainty.calibration import calibrate as calibrate_model

    if is_registered(model) or Path(model).absolute().is_relative_to(model_cache()):
        raise ValueError(f"{model} is what was registered and stays so: `ltdiff models export` it and calibrate the folder")
    print(calibrate_model(pairs, model=resolve_model(model), num_workers=num_workers))
    return 0
