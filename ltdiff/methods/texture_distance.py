"""How far the textures of two sets of images are apart, whatever anatomy they show: what chooses where nothing is paired.

Texture is the mean strength of band-pass responses, apart for pixels whose surroundings are lung, fat, soft tissue and so on:
one patient with more lung than another has no other texture for it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ltdiff.data.network_inputs import to_network
from ltdiff.physics.window_power import CLASS_EDGES_HU

SIZES_PX = (1, 3, 5, 9)
"""Sides of the squares over which an image is averaged: a response is the difference of two neighbours among these images."""
LEAST_STRENGTH = 1e-6
"""In network units: of a band in which nothing is left."""


class TissueTexture(NamedTuple):
    """Mean strength (classes, bands), in network units, and number of pixels (classes,)."""

    strength: Tensor
    num_pixels: Tensor


def measure_texture(x: Tensor) -> TissueTexture:
    """Of images (B, 1, H, W) in network units. Pixels in air outside the patient and in metal do not count."""
    x = x.float()
    smoothed = [
        functional.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False) if size > 1 else x
        for size in SIZES_PX
    ]
    responses = torch.stack([(fine - coarse).abs().flatten() for fine, coarse in pairwise(smoothed)])
    edges = torch.tensor([to_network(edge) for edge in CLASS_EDGES_HU], device=x.device)
    classes = torch.bucketize(smoothed[-1].flatten(), edges)
    num_pixels = torch.bincount(classes, minlength=len(edges) + 1)
    sums = torch.zeros(len(responses), len(edges) + 1, device=x.device).index_add(1, classes, responses)
    strength = sums.T / num_pixels[:, None].clamp(min=1)
    return TissueTexture(strength[1:-1], num_pixels[1:-1])


def mean_texture(textures: Sequence[TissueTexture]) -> TissueTexture:
    """Of several images, as if they were one."""
    num_pixels = torch.stack([texture.num_pixels for texture in textures])
    sums = torch.stack([texture.strength for texture in textures]) * num_pixels[:, :, None]
    return TissueTexture(sums.sum(dim=0) / num_pixels.sum(dim=0)[:, None].clamp(min=1), num_pixels.sum(dim=0))


def texture_distance(first: TissueTexture, second: TissueTexture) -> Tensor:
    """Mean |log ratio| of the strengths, () ≥ 0: 0.1 where one is a tenth stronger. A class counts by the pixels of both.

    Zero where the two have no class in common.
    """
    ratio = first.strength.clamp(min=LEAST_STRENGTH).log() - second.strength.clamp(min=LEAST_STRENGTH).log()
    weights = (first.num_pixels.float() * second.num_pixels).sqrt()
    return (weights * ratio.abs().mean(dim=1)).sum() / weights.sum().clamp(min=1)
