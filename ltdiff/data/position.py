"""Where a pixel lies in its slice: scanners correct the middle of the scan field in ways of their own (docs/a0001.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def position_mm(shape: tuple[int, int], spacing_mm: tuple[float, float]) -> tuple[NDArray[np.float32], ...]:
    """How far each pixel of a slice (H, W) with PixelSpacing (y, x) lies below and to the right of its middle, in mm.

    Two read-only arrays (H, W). The middle of the image stands for the isocentre, which the headers of most scanners do not give.
    """
    y, x = (((np.arange(n) - (n - 1) / 2) * mm).astype(np.float32) for n, mm in zip(shape, spacing_mm, strict=True))
    return np.broadcast_to(y[:, None], shape), np.broadcast_to(x[None, :], shape)
