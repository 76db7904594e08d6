"""The losses of images: per pixel, and over the heads of deep supervision."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltdiff.data.network_inputs import to_hu, to_network
from ltdiff.training.config import LossConfig

STORED_RANGE_HU = (-1024.0, 3071.0)
CHARBONNIER_EPSILON = float(to_network(5.0) - to_network(0.0))
"""5 HU: below it the loss is quadratic, so noise is averaged, not voted on."""

ImageLoss = Callable[[Tensor, Tensor], Tensor]
"""(prediction, target), images (B, 1, H, W) in network units"""


def image_loss(config: LossConfig) -> ImageLoss:
    """The loss that the configuration names."""
    return charbonnier if config.reconstruction == "robust" else bce_dice


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """Robust regression: mean √((prediction − target)² + ε²) − ε."""
    squared = (prediction.float() - target).square()
    return ((squared + CHARBONNIER_EPSILON**2).sqrt() - CHARBONNIER_EPSILON).mean()


def bce_dice(prediction: Tensor, target: Tensor) -> Tensor:
    """The paper's loss: ½ binary cross-entropy + soft Dice loss, on intensities mapped from the stored range to [0, 1].

    The printed formula drops half of the cross-entropy and Dice's sums; both are restored here. Dice has the
    squares of Milletari 2016 below the line: with p + y, which is meant for masks, its best image is not the target (soft
    tissue would end above 1000 HU).
    """
    p, y = _to_unit_interval(prediction.float()), _to_unit_interval(target)
    dice = 2 * (p * y).sum(dim=(1, 2, 3)) / (p.square() + y.square()).sum(dim=(1, 2, 3))
    with torch.autocast(p.device.type, enabled=False):
        cross_entropy = functional.binary_cross_entropy(p, y)
    return 0.5 * cross_entropy + (1 - dice).mean()


def supervise(loss: ImageLoss, heads: Sequence[Tensor], target: Tensor, weights: Sequence[float]) -> Tensor:
    """Deep supervision: Σ_j w_j·loss(head_j, target) / Σ_j w_j."""
    total = sum((weight * loss(head, target) for weight, head in zip(weights, heads, strict=True)), start=torch.zeros(()))
    return total / sum(weights)


def _to_unit_interval(x: Tensor) -> Tensor:
    low, high = STORED_RANGE_HU
    return ((to_hu(x) - low) / (high - low)).clamp(1e-4, 1 - 1e-4)
