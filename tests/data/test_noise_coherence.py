"""One set of raw data or two scans: told by the noise of simulated pairs and repeats, and by made ones of every kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ltdiff.data.noise_coherence import Verdict, compare_noise, compare_slices
from ltdiff.data.read_scan import read_scan

SPACING_MM = (0.8, 0.8)


def _anatomy(rng, size=160, num_slices=3):
    """A body with organs of different HU, in air."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    slices = []
    for _ in range(num_slices):
        hu = np.where((x / 0.46) ** 2 + (y / 0.38) ** 2 < 1, 40.0, -1000.0)
        for _ in range(6):
            (cy, cx), radius = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.03, 0.12)
            hu[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.choice([-850.0, -100.0, 80.0, 300.0])
        slices.append(ndimage.gaussian_filter(hu, 1.0))
    return np.stack(slices)


def _kernels(hu, *, soft_px):
    """The same data through a soft and a sharp kernel, rounded to whole HU."""
    soft = ndimage.gaussian_filter(hu, (0, soft_px, soft_px))
    sharp = 2 * hu - ndimage.gaussian_filter(hu, (0, 1.0, 1.0))
    return np.round(soft).astype(np.float32), np.round(sharp).astype(np.float32)


def _scan(rng, anatomy, *, noise_hu):
    noise = ndimage.gaussian_filter(rng.normal(0, 1, anatomy.shape), (0, 0.6, 0.6))
    return anatomy + noise / noise.std() * noise_hu


made = {"seed": st.integers(0, 2**32 - 1), "noise_hu": st.floats(12, 60), "soft_px": st.floats(0.6, 1.1)}


@settings(max_examples=20)
@given(**made)
def test_two_kernels_of_one_scan_are_one_set_of_raw_data(seed, noise_hu, soft_px):
    rng = np.random.default_rng(seed)
    scan = _scan(rng, _anatomy(rng), noise_hu=noise_hu)
    soft, sharp = _kernels(scan, soft_px=soft_px)
    assert compare_slices(zip(soft, sharp, strict=True), SPACING_MM).verdict is Verdict.ONE
    assert compare_slices(zip(sharp, soft, strict=True), SPACING_MM).verdict is Verdict.ONE


@settings(max_examples=20)
@given(**made, dose=st.sampled_from([0.5, 1.0, 2.0]))
def test_two_scans_of_one_body_are_not(seed, noise_hu, soft_px, dose):
    rng = np.random.default_rng(seed)
    anatomy = _anatomy(rng)
    one, other = (_scan(rng, anatomy, noise_hu=sigma) for sigma in (noise_hu, noise_hu / dose**0.5))
    soft, sharp = _kernels(one, soft_px=soft_px)[0], _kernels(other, soft_px=soft_px)[1]
    assert compare_slices(zip(soft, sharp, strict=True), SPACING_MM).verdict is not Verdict.ONE


@settings(max_examples=10)
@given(**made, moved_px=st.sampled_from([(2, 0), (0, 2), (-2, 1)]))
def test_a_moved_body_is_not(seed, noise_hu, soft_px, moved_px):
    rng = np.random.default_rng(seed)
    soft, sharp = _kernels(_scan(rng, _anatomy(rng), noise_hu=noise_hu), soft_px=soft_px)
    moved = np.roll(sharp, moved_px, axis=(1, 2))
    assert compare_slices(zip(soft, moved, strict=True), SPACING_MM).verdict is Verdict.TWO


def test_without_noise_nobody_knows():
    anatomy = _anatomy(np.random.default_rng(0))
    assert compare_slices(zip(*_kernels(anatomy, soft_px=1.0), strict=True), SPACING_MM).verdict is not Verdict.TWO


@pytest.mark.parametrize("shape", [(8, 8), (16, 200), (64, 64)])
def test_air_and_small_images_are_unknown(shape):
    air = np.full((2, *shape), -1000, np.float32)
    assert compare_slices(zip(air, air, strict=True), SPACING_MM).verdict is Verdict.UNKNOWN


def test_the_real_pair_is_one_and_its_neighbours_are_two(real_data):
    from dataclasses import replace

    folder = real_data / "lung-pet-ct-dx-a0001"
    soft, sharp = read_scan(folder / "soft_B"), read_scan(folder / "sharp_L")
    assert compare_noise(soft, sharp).verdict is Verdict.ONE
    shifted = replace(soft, slices=soft.slices[:-1]), replace(sharp, slices=sharp.slices[1:])
    assert compare_noise(*shifted).verdict is Verdict.TWO
