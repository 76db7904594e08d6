"""The networks of the adversarial methods: a small U-Net that makes images, and a discriminator that judges patches of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltdiff.model.blocks import ConvBlock, Down, PreciseConv2d, Up

SCALE = 2
Channels = tuple[int, int, int]
"""Of the three levels of a network, from fine to coarse."""
SIZE_DIVISOR = 4 * SCALE


class FeatureUNet(nn.Module):
    """A U-Net with skips between features at half resolution: (B, channels[0], H/2, W/2) → the same shape."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.down = nn.ModuleList([Down(fine, middle), Down(middle, coarse)])
        self.encode = nn.ModuleList([ConvBlock(middle, middle), ConvBlock(coarse, coarse)])
        self.up = nn.ModuleList([Up(coarse, middle), Up(middle, fine)])
        self.decode = nn.ModuleList([ConvBlock(2 * middle, middle), ConvBlock(2 * fine, fine)])

    def forward(self, fine: Tensor) -> Tensor:
        """Features → features."""
        middle = self.encode[0](self.down[0](fine))
        y = self.encode[1](self.down[1](middle))
        y = self.decode[0](torch.cat([middle, self.up[0](y)], dim=1))
        return self.decode[1](torch.cat([fine, self.up[1](y)], dim=1))


class Generator(nn.Module):
    """Image (B, 1, H, W) → image, 2×2 pixels folded into channels."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.enter = enter_features(channels)
        self.middle = FeatureUNet(channels)
        self.leave = leave_features(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Of A in network units."""
        features = self.middle(self.enter(functional.pixel_unshuffle(x, SCALE)))
        return functional.pixel_shuffle(self.leave(features), SCALE)


class Discriminator(nn.Module):
    """Images side by side (B, N, H, W) → features, and a verdict (B, 1, H/8, W/8) for each patch."""

    def __init__(self, num_images: int, channels: Channels) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.features = nn.Sequential(
            PreciseConv2d(num_images, fine, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(fine, middle, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(middle, coarse, kernel_size=4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.verdict = nn.Conv2d(coarse, 1, kernel_size=3, padding=1)

    def forward(self, *images: Tensor) -> tuple[Tensor, Tensor]:
        """N images (B, 1, H, W) → (features, verdict: the higher, the more it is taken for real)."""
        features = self.features(torch.cat(images, dim=1))
        return features, self.verdict(features)


def judge_as_fixed(discriminator: Discriminator, *images: Tensor) -> tuple[Tensor, Tensor]:
    """What a discriminator says, by a way on which gradients reach the images alone and not its own weights."""
    parameters = {name: value.detach() for name, value in discriminator.named_parameters()}
    judged: tuple[Tensor, Tensor] = torch.func.functional_call(discriminator, parameters, images)
    return judged


def enter_features(channels: Channels) -> ConvBlock:
    """What turns a folded image (B, 4, H/2, W/2) into features."""
    return ConvBlock(SCALE**2, channels[0], precise=True)


def leave_features(channels: Channels) -> PreciseConv2d:
    """What turns features into a folded image."""
    return PreciseConv2d(channels[0], SCALE**2, kernel_size=3, padding=1)


def start_with_zeros(layer: nn.Conv2d) -> None:
    """Make a network's last layer give zeros before training."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
