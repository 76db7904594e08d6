"""The standardized volumes of which features are measured: one image, or samples over which the features are averaged.

Which of them agrees best with the target was measured on validation pairs (`OutputChoice`).
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltdiff.data.acquisition import AcquisitionInfo
from ltdiff.data.read_scan import read_scan
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import TrainedModel, check_domain, read_training_domain
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.inference.standardizer import Standardizer
from ltdiff.system.text import printable
from ltdiff.uncertainty.calibration import EXPECTED, read_choice

logger = logging.getLogger(__name__)

Volume = NDArray[np.float32]


def standardized_volumes(concerned: NDArray[np.bool_], *, series: Path, model: Path, force: bool) -> Iterator[Volume]:
    """Volumes (Z, Y, X) in HU of a DICOM series or a volume file, whose concerned (Z,) slices are standardized.

    Raises:
        ValueError: the series cannot be read; no model there, or, without `force`, not one for this series.
    """
    scan = read_scan(series)
    hu = scan.read_hu()
    torch.set_num_threads(1)
    check_domain(AcquisitionInfo.of(scan), read_training_domain(model), name=printable(scan.path), verb="measure", force=force)
    choice = read_choice(model)
    best = None if choice is None else choice.for_features
    of = "their expectation over samples" if best == EXPECTED else "those of the " + (best or "model's image")
    logger.info("features are %s%s", of, "" if best is None else ", which agreed best with the target on the validation pairs")
    standardizer = Standardizer.load(model, InferenceConfig(output="mean" if best == EXPECTED else None))
    numbers = np.flatnonzero(concerned)
    sets: Iterable[list[Volume]]
    if best == EXPECTED:
        spacings_mm = repeat(scan.spacing_mm)
        sets = standardizer.samples(hu[numbers], spacings_mm, numbers=numbers.tolist(), num=Expectation.NUM_SAMPLES)
    else:
        standardizer = standardizer.for_series(hu.__getitem__, num_slices=len(hu), spacing_mm=scan.spacing_mm)
        sets = [standardize_slices(standardizer, hu[numbers], repeat(scan.spacing_mm), numbers=numbers, num_workers=1)]
    for images in sets:
        volume = hu.copy()
        volume[numbers] = np.stack(images)
        yield volume


def describe_volumes(*, series: Path, model: Path) -> str:
    """How `standardized_volumes` makes the image that is measured: source, kernels, model, weights, and what is out of domain.

    Raises:
        ValueError: the series or the model cannot be read.
    """
    scan = read_scan(series)
    choice = read_choice(model)
    best = None if choice is None else choice.for_features
    trained = TrainedModel.load(model, InferenceConfig(output="mean" if best == EXPECTED else None))
    out_of_domain = "; ".join(trained.domain.violations(AcquisitionInfo.of(scan)))
    derivation = trained.derivation_for(scan.kernel, out_of_domain=out_of_domain)
    averaged = f" Features are means over {Expectation.NUM_SAMPLES} samples around that image." if best == EXPECTED else ""
    return f"Measured is no image of this study, but one computed from the series: {derivation.description}.{averaged}"
