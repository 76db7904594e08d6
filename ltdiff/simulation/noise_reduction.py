"""Edge-preserving noise reduction, as iterative reconstruction does to a soft image: what makes it non-linear."""

from dataclasses import dataclass

import numpy as np

_STEP = 0.2  # at most 1/4 keeps the explicit scheme stable


@dataclass(frozen=True)
class NoiseReduction:
    """Anisotropic diffusion.

    Args:
        num_iterations: how often neighbouring pixels are brought nearer to each other.
        edge_hu: step between pixels from which on an edge is kept.
    """

    num_iterations: int = 5
    edge_hu: float = 40.0

    def __post_init__(self) -> None:
        if self.num_iterations < 1 or self.edge_hu <= 0:
            raise ValueError(
                f"noise reduction needs at least one iteration and a positive edge_hu, not {self.num_iterations} and "
                f"{self.edge_hu}"
            )


def reduce_noise(hu: np.ndarray, *, setting: NoiseReduction) -> np.ndarray:
    """Smooth an image (Y, X) in HU where its steps are small (Perona & Malik 1990, conductance exp(−(∇/edge)²)).

    A simple stand-in for iterative reconstruction, with the same signature: noise falls in flat tissue, edges stay, and
    the response depends on contrast. No vendor's algorithm is modelled.
    """
    result = hu.astype(np.float32)
    for _ in range(setting.num_iterations):
        change = np.zeros_like(result)
        for axis in (0, 1):
            step = np.diff(result, axis=axis)
            flow = _STEP * step * np.exp(-((step / setting.edge_hu) ** 2))
            before = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
            after = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            change[before] += flow
            change[after] -= flow
        result += change
    return result
