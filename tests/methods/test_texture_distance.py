"""The distance of textures: known values, and what it must not see."""

import math

import pytest
import torch

from ltdiff.data.network_inputs import to_network
from ltdiff.methods.texture_distance import mean_texture, measure_texture, texture_distance

LUNG_HU, TISSUE_HU, AIR_HU = -850.0, 40.0, -1000.0


def _noise(*levels_hu, sigma_hu=20.0, size=64, seed=0):
    """Flat images (N, 1, size, size) in network units, with white noise."""
    noise = sigma_hu * torch.randn(len(levels_hu), 1, size, size, generator=torch.Generator().manual_seed(seed))
    return to_network(torch.tensor(levels_hu)[:, None, None, None] + noise)


def _distance(first, second):
    return texture_distance(measure_texture(first), measure_texture(second)).item()


def test_an_image_has_no_distance_from_itself():
    x = _noise(LUNG_HU, TISSUE_HU)
    assert _distance(x, x) == 0


@pytest.mark.parametrize("factor", [0.5, 1.2])
def test_noise_that_is_so_many_times_as_strong_has_the_logarithm_of_it(factor):
    first, second = (_noise(LUNG_HU, TISSUE_HU, sigma_hu=sigma) for sigma in (20.0, 20.0 * factor))
    assert _distance(first, second) == pytest.approx(abs(math.log(factor)), rel=0.02)
    assert _distance(second, first) == pytest.approx(_distance(first, second))


def test_the_spectrum_counts_and_not_only_the_strength():
    white = _noise(TISSUE_HU, TISSUE_HU)
    smooth = torch.nn.functional.avg_pool2d(white, 3, stride=1, padding=1)
    level = smooth.mean()
    assert _distance(white, level + (smooth - level) * white.std() / smooth.std()) > 0.3


def test_the_share_of_a_tissue_does_not_count():
    """Lungs are noisier than the rest in both; one patient has three times as much of them."""

    def patient(*, num_lung, num_tissue, seed):
        lung, tissue = _noise(*[LUNG_HU] * num_lung, sigma_hu=60.0, seed=seed), _noise(*[TISSUE_HU] * num_tissue, seed=seed + 1)
        return torch.cat([lung, tissue])

    first, second = patient(num_lung=6, num_tissue=2, seed=0), patient(num_lung=2, num_tissue=6, seed=10)
    assert _distance(first, second) < 0.02


def test_air_outside_the_patient_does_not_count():
    tissue, air = _noise(TISSUE_HU), _noise(AIR_HU, sigma_hu=5.0)
    assert _distance(torch.cat([tissue, air]), tissue) == 0
    assert _distance(air, air + 0.1) == 0
    assert measure_texture(tissue).num_pixels.sum() == tissue.numel()


def test_images_measured_one_by_one_are_as_if_they_were_one():
    images = _noise(LUNG_HU, TISSUE_HU, TISSUE_HU)
    whole = measure_texture(images)
    mean = mean_texture([measure_texture(image[None]) for image in images])
    torch.testing.assert_close(mean.strength, whole.strength)
    torch.testing.assert_close(mean.num_pixels, whole.num_pixels)
