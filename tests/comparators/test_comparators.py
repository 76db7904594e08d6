"""Comparators on pairs whose truth is known: the target is the source through a known filter."""

import numpy as np
import pytest

from ltdiff.comparators.linear import Linear
from ltdiff.comparators.residual_cnn import ResidualCNNConfig, ResidualCNNMethod
from ltdiff.data.formats import write_volume
from ltdiff.data.pairing import pair_named
from ltdiff.data.volume import Volume
from ltdiff.model.kernel_match import radial_frequency
from ltdiff.training.config import PhaseConfig, TrainingConfig

SPACING_MM = (0.8, 0.8)
TINY_CNN = ResidualCNNConfig(
    channels=8,
    num_blocks=1,
    phase=PhaseConfig(num_steps=2),
    training=TrainingConfig(patch_size=32, batch_size_per_worker=2, precision="fp32"),
)


@pytest.fixture
def pairs(tmp_path):
    """Ten slices: B is noise, A is B smoothed by a Gaussian of 0.3 mm; a filter leads back."""
    rng = np.random.default_rng(0)
    target = (200 * rng.standard_normal((10, 128, 128))).astype(np.float32)
    response = np.exp(-2 * (np.pi * 0.3 * radial_frequency((128, 128), SPACING_MM)) ** 2)
    source = np.fft.irfft2(np.fft.rfft2(target) * response, s=(128, 128)).astype(np.float32)
    for name, hu in (("source", source), ("target", target)):
        direction = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        volume = Volume(hu=hu, spacing_mm=(5.0, *SPACING_MM), origin_mm=(0.0, 0.0, 0.0), direction=direction)
        write_volume(volume, tmp_path / f"{name}.mha")
    manifest = pair_named(tmp_path / "source.mha", tmp_path / "target.mha", split="z:0.7").manifest
    return manifest, source, target


def test_linear_undoes_a_smoothing(pairs):
    manifest, source, target = pairs
    method = Linear()
    method.fit(manifest)
    restored = method.standardize(source[-2:], SPACING_MM)
    assert np.abs(restored - target[-2:])[:, 8:-8, 8:-8].mean() < 0.05 * np.abs(source - target)[-2:].mean()


def test_linear_gives_whole_hu_that_a_series_can_store(pairs):
    manifest, source, _ = pairs
    method = Linear()
    method.fit(manifest)
    restored = method.standardize(10 * source[-1:], SPACING_MM)
    assert (restored.min(), restored.max()) == (-1024, 3071)
    assert (restored == restored.round()).all()


def test_an_untrained_cnn_is_the_linear_match(pairs):
    manifest, source, _ = pairs
    linear, cnn = Linear(), ResidualCNNMethod(TINY_CNN)
    linear.fit(manifest)
    cnn.kernel_match = linear.kernel_match
    assert np.array_equal(cnn.standardize(source[:1], SPACING_MM), linear.standardize(source[:1], SPACING_MM))


def test_fitting_changes_the_cnn(pairs):
    manifest, source, _ = pairs
    cnn = ResidualCNNMethod(TINY_CNN)
    cnn.fit(manifest)
    corrected = cnn.standardize(source[:1], SPACING_MM)
    assert corrected.shape == source[:1].shape
    assert not np.array_equal(corrected, Linear(cnn.kernel_match).standardize(source[:1], SPACING_MM))
