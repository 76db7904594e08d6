"""Pairs of CT series of noise, as DICOM files: reading, matching and training take as long as with real ones."""

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from ltdiff.data.manifest import write_manifest
from ltdiff.data.pairing import pair_named
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity, write_ct_series

SPACING_MM = (5.0, 0.8, 0.8)  # z, y, x


def write_series(hu: np.ndarray, out_dir: Path, *, kernel: str) -> Path:
    """A series of HU (Z, Y, X), all of one acquisition."""
    identity = SeriesIdentity(
        patient_id="bench",
        study_uid=stable_uid("bench study"),
        frame_of_reference_uid=stable_uid("bench frame"),
        series_uid=stable_uid("bench series", out_dir.name),
        series_number=1,
        kernel=kernel,
        slice_thickness_mm=SPACING_MM[0],
        acquired=datetime(2020, 1, 1),
    )
    return write_ct_series(hu, out_dir=out_dir, identity=identity, spacing_mm=SPACING_MM)


def make_noise(num_slices: int, size_px: int) -> np.ndarray:
    """HU (Z, Y, X), float32, whole numbers."""
    shape = (num_slices, size_px, size_px)
    return np.random.default_rng(0).normal(-300, 300, shape).round().astype(np.float32)


def write_pairs(folder: Path, *, num_slices: int, size_px: int) -> Path:
    """Two series, the source the smoother one, and their manifest, whose path is returned."""
    sharp = make_noise(num_slices, size_px)
    soft = ndimage.gaussian_filter(sharp, (0, 1, 1))
    paths = [write_series(hu, folder / name, kernel=name) for name, hu in (("soft", soft), ("sharp", sharp))]
    write_manifest(pair_named(*paths, split="z:0.9").manifest, folder / "pairs.parquet")
    return folder / "pairs.parquet"


def multiply(manifest: pd.DataFrame, folder: Path, *, num_files: int) -> Path:
    """A manifest of `num_files` files, links to those of another one; its path."""
    folder.mkdir()
    copies = []
    for number in range(num_files // len(manifest)):
        copy = manifest.copy()
        copy["path"] = [str(folder / f"{number}_{row}.dcm") for row in range(len(manifest))]
        for column in ("series_uid", "pair_id"):
            copy[column] += f".{number}"
        for old, new in zip(manifest["path"], copy["path"], strict=True):
            os.link(old, new)
        copies.append(copy)
    write_manifest(pd.concat(copies), folder / "pairs.parquet")
    return folder / "pairs.parquet"
