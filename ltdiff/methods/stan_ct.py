"""A GAN in the manner of STAN-CT (Selim 2020): U-Net generator, patch discriminator, adversarial + 100·L1 + latent term.

The discriminator sees source and candidate side by side and judges patches; the latent term compares its features of A' and
B. Both networks are trained in one backward pass: a gradient reversal between them makes the discriminator descend and the
generator ascend the same loss (Ganin 2015). A reimplementation; as published there is no kernel match.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.methods.adversarial import SIZE_DIVISOR, Discriminator, Generator, judge_as_fixed
from ltdiff.methods.image_network import ImageNetwork
from ltdiff.training.phase import Batch, BatchNoise, to_input

CHANNELS = (32, 64, 96)
L1_WEIGHT = 100.0
LATENT_WEIGHT = 1.0


class StanCT(nn.Module):
    """Generator and discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Generator(CHANNELS), Discriminator(2, CHANNELS)


def adversarial_loss(model: StanCT, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
    """The generator against the discriminator, with hinge losses.

    `val_loss` is the pixel term, since the adversarial one says nothing about closeness.
    """
    source, target = (to_input(batch[name]) for name in ("source", "target"))
    made = model.generator(source)
    pixel = functional.l1_loss(made.float(), target)
    if not model.training:
        return {"loss": pixel}
    real_features, real = model.discriminator(source, target)
    _, verdict = model.discriminator(source, _Reversal.apply(made))
    # reversed on its way to the generator: descent for the discriminator is ascent for the generator
    adversarial = functional.relu(1 - real.float()).mean() + functional.relu(1 + verdict.float()).mean()
    made_features, _ = judge_as_fixed(model.discriminator, source, made)
    latent = functional.l1_loss(made_features.float(), real_features.detach().float())
    return {"loss": adversarial + L1_WEIGHT * pixel + LATENT_WEIGHT * latent, "pixel_loss": pixel}


class StanCTMethod(ImageNetwork):
    """The generator on the source itself."""

    make_network = StanCT
    phase_name, loss = "adversarial", staticmethod(adversarial_loss)
    uses_kernel_match = False
    size_divisor = SIZE_DIVISOR

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.network.generator(x)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient
