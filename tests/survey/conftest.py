"""Archives of small series: a round body with two lungs, noise, and whatever a header says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import edit, identity
from scipy import ndimage

from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series

SIZE, SPACING_MM = 160, 1.5


def body_hu(num_slices: int, *, seed: int = 0, sigma_px: float = 0.8, noise_hu: float = 12.0) -> np.ndarray:
    """Slices (Z, Y, X): soft tissue with two lungs in air, blurred, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    hu = np.where((x / 70) ** 2 + (y / 55) ** 2 <= 1, 40.0, -990.0)
    for side in (-1, 1):
        hu[((x - side * 40) / 20) ** 2 + ((y + 10) / 28) ** 2 <= 1] = -850.0
    noise = np.random.default_rng(seed).normal(0, noise_hu, (num_slices, SIZE, SIZE))
    return ndimage.gaussian_filter(np.broadcast_to(hu, noise.shape), (0, sigma_px, sigma_px)) + noise


@pytest.fixture
def write_scan() -> Callable[..., Path]:
    """write_scan(folder, patient=…, kernel=…, num_slices=…, …) -> folder: a series; `elements` are set in each slice."""

    def write(
        folder: Path,
        *,
        patient: str = "p1",
        kernel: str = "B",
        num_slices: int = 3,
        thickness_mm: float = 2.5,
        hu: np.ndarray | None = None,
        **elements: object,
    ) -> Path:
        hu = body_hu(num_slices, seed=len(str(folder))) if hu is None else hu
        of_series = identity(
            patient_id=patient,
            study_uid=stable_uid("study", patient),
            frame_of_reference_uid=stable_uid("frame", patient),
            series_uid=stable_uid("series", str(folder)),
            kernel=kernel,
            slice_thickness_mm=thickness_mm,
        )
        write_ct_series(hu, out_dir=folder, identity=of_series, spacing_mm=(thickness_mm, SPACING_MM, SPACING_MM))
        for path in sorted(folder.iterdir()) if elements else []:
            edit(path, **elements)
        return folder

    return write
