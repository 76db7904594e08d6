"""What networks are given: intensities in network units instead of HU, and the position of each pixel in mm."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CENTRE_HU = -400.0
SCALE_HU = 500.0

Values = TypeVar("Values", Tensor, np.ndarray, float)


def to_network(hu: Values) -> Values:
    """HU → network units: lung about −1, soft tissue about 0.9."""
    return (hu - CENTRE_HU) / SCALE_HU


def to_hu(x: Values) -> Values:
    """Network units → HU."""
    return x * SCALE_HU + CENTRE_HU


def position_mm(shape: tuple[int, int], spacing_mm: tuple[float, float]) -> tuple[NDArray[np.float32], ...]:
    """How far each pixel of a slice (H, W) with PixelSpacing (y, x) lies below and to the right of its middle, in mm.

    Two read-only arrays (H, W). The middle of the image stands for the isocentre, which the headers of most scanners do not give.
    """
    y, x = (((np.arange(n) - (n - 1) / 2) * mm).astype(np.float32) for n, mm in zip(shape, spacing_mm, strict=True))
    return np.broadcast_to(y[:, None], shape), np.broadcast_to(x[None, :], shape)
