"""A protocol whose series differ in dose, as DICOM series, for tests of what is done for single series."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from bodies import SPACING_MM, make_bodies
from dicom_files import identity
from tiny_run import save_tiny_model

from ltdiff.data.manifest_rows import build_manifest
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.inference.method import Slices
from ltdiff.model.model_folder import SERIES_NOISE
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_windows import NoiseModel, NoiseWindows, noise_windows
from ltdiff.physics.series_noise import SeriesNoise

SIZE, NUM_SLICES = 192, 6
USUAL_HU, OTHER_HU = 20.0, 50.0
"""Noise of most series of the source protocol, which is that of the target, and of one."""


def write_doses(root: Path, noise_hu: tuple[float, ...], *, reduce: Callable[[Slices], Slices] = lambda hu: hu) -> pd.DataFrame:
    """Write a source series of each noise level, each slice (Y, X) in HU reduced, and a target series; return their manifest, in
    that order."""
    scans = []
    for number, level_hu in enumerate((*noise_hu, USUAL_HU)):
        uids = {name: stable_uid(name, str(number)) for name in ("study_uid", "frame_of_reference_uid", "series_uid")}
        one = identity(patient_id=f"P{number}", kernel="L" if number == len(noise_hu) else "B", slice_thickness_mm=5.0, **uids)
        folder, hu = root / str(number), make_bodies(NUM_SLICES, size=SIZE, noise_hu=level_hu, noise_px=0.6, seed=number)
        hu = hu if number == len(noise_hu) else np.stack([reduce(one) for one in hu])
        write_ct_series(hu, out_dir=folder, identity=one, spacing_mm=(5.0, *SPACING_MM), origin_mm=(-60.0, -60.0, 0.0))
        scans += find_series(folder)[0]
    return build_manifest([], sources=scans[:-1], targets=scans[-1:])


def usual_noise() -> SeriesNoise:
    """Of a protocol with the target's noise."""
    slices = make_bodies(NUM_SLICES, size=SIZE, noise_hu=USUAL_HU, noise_px=0.6, seed=77)
    measured = [noise_windows(hu, SPACING_MM, place=noise_place(hu, SPACING_MM), number=n) for n, hu in enumerate(slices)]
    model: NoiseModel = NoiseWindows.join(measured).quiet.model()
    return SeriesNoise.of(model, model, np.ones(len(model.power)))


def save_match_model(folder: Path) -> Path:
    """A model that changes nothing, but for what it knows of the noise of its source protocol."""
    return save_tiny_model(folder, source_kernel="B", target_kernel="L", facts={SERIES_NOISE: asdict(usual_noise())})
