"""The decoder's last layers: they change nothing at first, and can learn what depends on a pixel's neighbours and place."""

import pytest
import torch

from ltdiff.data.network_inputs import to_network
from ltdiff.model.config import AutoencoderConfig
from ltdiff.model.refinement import PixelRefinement
from ltdiff.model.unetpp import Decoder
from ltdiff.training.losses import charbonnier

IN_CHANNELS, SCALE, CHANNELS = 6, 2, 8


@pytest.fixture
def finish():
    torch.manual_seed(0)
    return PixelRefinement(IN_CHANNELS, SCALE, CHANNELS)


def _inputs(height=16, width=24, batch_size=2):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(batch_size, 1, height, width, generator=generator)
    features = torch.randn(batch_size, IN_CHANNELS, height // SCALE, width // SCALE, generator=generator)
    return image, features, torch.zeros(1, 2, height, width)


def _disturb(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def test_nothing_changes_before_anything_is_learned(finish):
    image, features, position_mm = _inputs()
    assert torch.equal(finish(image, features, position_mm), image)


def test_the_place_matters_near_the_middle_alone(finish):
    _disturb(finish)
    image, features, middle = _inputs()
    with torch.no_grad():
        near, far, farther = (finish(image, features, middle + mm) for mm in (30.0, 250.0, 300.0))
        assert not torch.allclose(near, finish(image, features, middle), atol=1e-4)
        torch.testing.assert_close(far, farther)
        torch.testing.assert_close(finish(image, features, None), finish(image, features, middle))


def test_pixels_further_away_than_a_few_do_not_matter(finish):
    _disturb(finish)
    image, features, position_mm = _inputs(16, 64)
    changed = image.clone()
    changed[..., 32:] += 1
    with torch.no_grad():
        before, after = (finish(x, features, position_mm) for x in (image, changed))
    torch.testing.assert_close(before[..., :28], after[..., :28])  # three convolutions and the neighbours: four pixels
    assert not torch.allclose(before[..., :32], after[..., :32])


def test_it_learns_to_level_pixels_that_stand_out_in_one_place():
    """As a scanner does round the isocentre (docs/notes/a0001.md): no pixel is beyond its four neighbours; elsewhere nothing."""
    torch.manual_seed(0)
    finish = PixelRefinement(IN_CHANNELS, SCALE, 16)
    generator = torch.Generator().manual_seed(2)
    position_mm = torch.stack(torch.meshgrid(torch.linspace(-80, 80, 32), torch.linspace(-80, 80, 32), indexing="ij"))[None]
    is_inside = (position_mm.abs().amax(1, keepdim=True) < 40).float()

    def batch():
        hu = 50 + 40 * torch.randn(8, 1, 32, 32, generator=generator)
        padded = torch.nn.functional.pad(hu, (1, 1, 1, 1), mode="replicate")
        sides = torch.stack([padded[..., :-2, 1:-1], padded[..., 2:, 1:-1], padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]])
        levelled = hu.clamp(min=sides.amin(0), max=sides.amax(0))
        return to_network(hu), to_network(is_inside * levelled + (1 - is_inside) * hu)

    def error_hu(image, target):
        return 500 * (image - target).abs().mean().item()

    optimizer = torch.optim.Adam(finish.parameters(), lr=2.5e-3)
    features = torch.zeros(8, IN_CHANNELS, 16, 16)
    for _ in range(200):
        image, target = batch()
        loss = charbonnier(finish(image, features, position_mm), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, target = batch()
    with torch.no_grad():
        assert error_hu(finish(image, features, position_mm), target) < 0.75 * error_hu(image, target)


def test_a_pruned_decoder_does_without():
    config = AutoencoderConfig(channels=(4, 6, 8), latent_channels=(5, 3, 1))
    torch.manual_seed(0)
    decoder = _disturb(Decoder(config))
    latents = [torch.randn(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate(config.latent_channels)]
    calls = []
    decoder.refinement.register_forward_hook(lambda *_: calls.append(1))
    decoder(latents, depth=1)
    assert calls == []
    decoder(latents)
    assert calls == [1]


def test_without_channels_there_is_none():
    assert Decoder(AutoencoderConfig(refinement_channels=0)).refinement is None
    with pytest.raises(ValueError, match="refinement_channels must not be negative, got -1"):
        AutoencoderConfig(refinement_channels=-1)
