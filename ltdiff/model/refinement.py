"""The decoder's last layers, at the image's own resolution."""

import torch
from torch import Tensor, cat, nn
from torch.nn import functional

FEATURE_GAIN, POSITION_GAIN, EXCESS_GAIN = 20.0, 5.0, 10.0
"""Bring all inputs to about the same size: without them the features and the place are not found in time."""
NUM_FEATURES, NUM_POSITION_FEATURES = 8, 8
NUM_BASIS_FUNCTIONS, REACH_MM = 8, 100.0
"""A coordinate is given by that many Gaussians between ±REACH_MM, which networks learn sooner than the number itself. Farther
out they vanish and all places are alike: what is learned there must hold for patients of other sizes."""


class PixelRefinement(nn.Module):
    """Pixel refinement: corrections that depend on a pixel's four neighbours and on its position in the slice.

    Some scanners suppress local extrema: pixels above or below all four neighbours, near the isocentre only
    (docs/notes/a0001.md). Convolutions learn a maximum slowly, so it is an input: they predict how far each extremum is
    suppressed, and an additive change.
    """

    def __init__(self, in_channels: int, scale: int, channels: int) -> None:
        super().__init__()
        self.scale = scale
        self.enter = nn.Conv2d(in_channels, NUM_FEATURES * scale**2, kernel_size=3, padding=1)
        self.position = nn.Sequential(
            nn.Conv2d(2 * NUM_BASIS_FUNCTIONS, 16, kernel_size=1),
            nn.SiLU(),
            nn.Conv2d(16, 16, kernel_size=1),
            nn.SiLU(),
            nn.Conv2d(16, NUM_POSITION_FEATURES, kernel_size=1),
        )
        num_inputs = 1 + 2 + NUM_FEATURES + NUM_POSITION_FEATURES  # the image, how far it stands out
        self.first = nn.Conv2d(num_inputs, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.last = nn.Conv2d(channels, 3, kernel_size=3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, features: Tensor, position_mm: Tensor | None) -> Tensor:
        """Image (B, 1, H, W), features (B, in_channels, H/scale, W/scale), positions (B or 1, 2, H, W) → image.

        Without positions every pixel is taken to lie in the middle.
        """
        above, below = beyond_neighbours(image)
        unfolded = functional.pixel_shuffle(self.enter(functional.silu(FEATURE_GAIN * features)), self.scale)
        excess = EXCESS_GAIN * cat([above, below], dim=1)
        x = cat([image, excess, unfolded, self._position_features(image, position_mm)], dim=1)
        x = self.second(functional.silu(self.first(x)))
        change, suppress_above, suppress_below = self.last(functional.silu(x)).float().chunk(3, dim=1)
        return image + change - suppress_above * above.relu() + suppress_below * below.relu()

    def _position_features(self, image: Tensor, position_mm: Tensor | None) -> Tensor:
        if position_mm is None:
            position_mm = image.new_zeros(1, 2, *image.shape[-2:])
        position_mm = functional.avg_pool2d(position_mm, self.scale)  # places change slowly, and a quarter of them is enough
        middles_mm = torch.linspace(-REACH_MM, REACH_MM, NUM_BASIS_FUNCTIONS)
        spacing_mm = 2 * REACH_MM / (NUM_BASIS_FUNCTIONS - 1)
        away = (position_mm[:, :, None] - middles_mm.to(position_mm.device)[:, None, None]) / spacing_mm
        basis = torch.exp(-0.5 * away**2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        features: Tensor = POSITION_GAIN * self.position(basis)
        features = functional.interpolate(features, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return features.expand(len(image), -1, -1, -1)


def beyond_neighbours(image: Tensor) -> tuple[Tensor, Tensor]:
    """Height of each pixel (B, 1, H, W) above its highest and depth below its lowest of four neighbours; may be negative."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    highest = up.maximum(down).maximum(left.maximum(right))
    lowest = up.minimum(down).minimum(left.minimum(right))
    return image - highest, lowest - image
