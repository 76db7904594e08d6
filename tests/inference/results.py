"""What several tests of standardizing archives ask of the result."""

from pathlib import Path

import numpy as np
import torch

from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.series import find_series
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.results import SeriesResult
from ltdiff.inference.standardizer import Standardizer


def outcome_of(name: str, results: list[SeriesResult]) -> SeriesResult:
    (found,) = [one for one in results if name in str(one.source)]
    return found


def assert_as_standardizer(source_dir: Path, derived_dir: Path, model: Path, inference: InferenceConfig) -> None:
    (source,), _ = find_series(source_dir)
    (derived,), _ = find_series(derived_dir)
    hu, result = (np.stack([read_slice_hu(one.path) for one in series.slices]) for series in (source, derived))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = Standardizer.load(model, inference).standardize(hu, source.spacing_mm)
    torch.set_num_threads(num_threads)
    assert np.array_equal(result, expected)
    assert not np.array_equal(result, hu)
