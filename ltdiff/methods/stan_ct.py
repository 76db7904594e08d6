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

from ltdiff.methods.image_network import ImageNetwork
from ltdiff.model.blocks import ConvBlock, Down, PreciseConv2d, Up
from ltdiff.training.phases import Batch, BatchNoise, to_input

SCALE = 2
CHANNELS = (32, 64, 96)
L1_WEIGHT = 100.0
LATENT_WEIGHT = 1.0


class Generator(nn.Module):
    """A U-Net with skips at half resolution: image (B, 1, H, W) → image."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.enter = ConvBlock(SCALE**2, fine, precise=True)
        self.down = nn.ModuleList([Down(fine, middle), Down(middle, coarse)])
        self.encode = nn.ModuleList([ConvBlock(middle, middle), ConvBlock(coarse, coarse)])
        self.up = nn.ModuleList([Up(coarse, middle), Up(middle, fine)])
        self.decode = nn.ModuleList([ConvBlock(2 * middle, middle), ConvBlock(2 * fine, fine)])
        self.leave = PreciseConv2d(fine, SCALE**2, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """A (B, 1, H, W) → A' in network units."""
        fine = self.enter(functional.pixel_unshuffle(x, SCALE))
        middle = self.encode[0](self.down[0](fine))
        y = self.encode[1](self.down[1](middle))
        y = self.decode[0](torch.cat([middle, self.up[0](y)], dim=1))
        y = self.decode[1](torch.cat([fine, self.up[1](y)], dim=1))
        return functional.pixel_shuffle(self.leave(y), SCALE)


class Discriminator(nn.Module):
    """Source and candidate (B, 2, H, W) → features, and a verdict (B, 1, H/8, W/8) for each patch."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(2, fine, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(fine, middle, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(middle, coarse, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.verdict = nn.Conv2d(coarse, 1, kernel_size=3, padding=1)

    def forward(self, source: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """(features, verdict: above 0 means taken for a real target)."""
        features = self.features(torch.cat([source, candidate], dim=1))
        return features, self.verdict(features)


class StanCT(nn.Module):
    """Generator and discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Generator(), Discriminator()


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
    latent = _generator_only(model.discriminator, source, made, real_features.detach())
    return {"loss": adversarial + L1_WEIGHT * pixel + LATENT_WEIGHT * latent, "pixel_loss": pixel}


class StanCTMethod(ImageNetwork):
    """The generator on the source itself."""

    make_network = StanCT
    phase_name, loss = "adversarial", staticmethod(adversarial_loss)
    uses_kernel_match = False
    size_divisor = 4 * SCALE

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


def _generator_only(discriminator: Discriminator, source: Tensor, made: Tensor, real_features: Tensor) -> Tensor:
    """Distance of the discriminator's features of A' and B, whose gradient reaches the generator alone."""
    parameters = {name: value.detach() for name, value in discriminator.named_parameters()}
    features, _ = torch.func.functional_call(discriminator, parameters, (source, made))
    return functional.l1_loss(features.float(), real_features.float())
