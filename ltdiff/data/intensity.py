"""HU and network units: a linear map and its exact inverse. Nothing is clipped on the way in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
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
