"""Building blocks."""

import pytest
import torch
from torch import nn

from ltdiff.model.blocks import ConvBlock, Down, PreciseConv2d, ResidualBlock, TimeEmbedding, Up


def test_a_residual_block_starts_near_the_identity():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 12, 12)
    y = ResidualBlock(16)(x)
    assert (y - x).std() < 0.1 * x.std()


def test_time_modulates_a_residual_block_from_a_start_without_effect():
    torch.manual_seed(0)
    block, x = ResidualBlock(4, embedding_size=8), torch.randn(2, 4, 6, 6)
    embedding = torch.randn(2, 8)
    torch.testing.assert_close(block(x, embedding), block(x, -embedding))
    nn.init.normal_(block.modulate.weight)
    assert not torch.allclose(block(x, embedding), block(x, -embedding))
    together, alone = block(x, embedding), block(x[1:], embedding[1:])
    torch.testing.assert_close(together[1:], alone)


def test_down_and_up_halve_and_double():
    x = torch.randn(1, 3, 8, 12)
    assert Down(3, 5)(x).shape == (1, 5, 4, 6)
    assert Up(3, 5)(x).shape == (1, 5, 16, 24)


@pytest.mark.parametrize("precise", [False, True])
def test_precise_layers_stay_in_float32_under_autocast(precise):
    torch.manual_seed(0)
    layer = (PreciseConv2d if precise else nn.Conv2d)(1, 4, kernel_size=3, padding=1)
    x = torch.randn(1, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.bfloat16() if precise else x)
    assert y.dtype == (torch.float32 if precise else torch.bfloat16)
    assert ConvBlock(1, 4, precise=precise).fuse.__class__ is layer.__class__


def test_time_embedding_tells_a_thousand_times_apart():
    torch.manual_seed(0)
    embed = TimeEmbedding(64)
    times = torch.arange(1, 1001) / 1000
    embedded = embed(times)
    assert embedded.shape == (1000, 64)
    distances = torch.cdist(embedded, embedded) + torch.eye(1000)
    assert distances.min() > 1e-3
