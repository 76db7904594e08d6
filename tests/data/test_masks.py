"""Masks for the slices of a manifest: by z of the series, or by the series a segmentation names."""

import numpy as np
import pytest
from tiny_run import save_volume

from ltdiff.data.masks import read_labels
from ltdiff.data.pairing import pair_named

SHAPE = (5, 24, 20)


@pytest.fixture
def pairs(tmp_path):
    """A manifest of five pairs in volume files, and the folder they are in."""
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        save_volume(rng.normal(size=SHAPE), tmp_path / f"{name}.nrrd")
    manifest = pair_named(tmp_path / "source.nrrd", tmp_path / "target.nrrd", split="z:0.7").manifest
    return manifest, tmp_path


def test_a_volume_mask_is_cut_to_the_rows_asked_for(pairs):
    manifest, folder = pairs
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    save_volume(labels.astype(float), folder / "mask.nii.gz")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm").iloc[[4, 1]]
    assert np.array_equal(read_labels(folder / "mask.nii.gz", manifest, pairs=sources), labels[[4, 1]])


def test_a_mask_of_another_size_is_refused(pairs):
    manifest, folder = pairs
    save_volume(np.ones((4, 24, 20)), folder / "mask.nii.gz")
    with pytest.raises(ValueError, match=r"mask.nii.gz.*\(4, 24, 20\).*\(5, 24, 20\)"):
        read_labels(folder / "mask.nii.gz", manifest, pairs=manifest[manifest["role"] == "source"])


def test_a_folder_without_a_fitting_segmentation_is_refused(pairs):
    manifest, folder = pairs
    with pytest.raises(ValueError, match="no DICOM segmentation"):
        read_labels(folder, manifest, pairs=manifest[manifest["role"] == "source"])
