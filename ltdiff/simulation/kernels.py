"""Reconstruction kernels: radial windows on the ramp filter, as named models; and the noise reduction of a soft image.

A window is given at 0, 1/4, 1/2, 3/4 and 1 times the detector's Nyquist frequency and interpolated monotonically in
between. `BR40_LIKE`, `STANDARD` and `BL64_LIKE` are the soft, standard and bone windows of a published (CC0) model of a
Siemens Force; the first and last stand in for Br40 and Bl64, whose measured curves are not public: they are models,
never Siemens data. `SMOOTH` and `LUNG` follow the response ratio measured on a real acquisition reconstructed with a
smooth and an edge-enhancing lung kernel, and are the simulator's default pair.
"""

from dataclasses import dataclass

import numpy as np

_FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the detector's Nyquist frequency


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: `window` weighs the ramp at 0, 1/4, 1/2, 3/4 and 1 times Nyquist."""

    name: str
    window: tuple[float, float, float, float, float]

    def __post_init__(self) -> None:
        if len(self.window) != len(_FRACTIONS):
            raise ValueError(f"kernel {self.name!r} needs {len(_FRACTIONS)} window values, has {len(self.window)}")
        if self.window[0] != 1.0 or min(self.window) < 0:
            raise ValueError(f"kernel {self.name!r} needs a window that starts at 1 and is never negative: {self.window}")

    def response(self, frequency_per_mm: np.ndarray, *, nyquist_per_mm: float) -> np.ndarray:
        """Weight of the ramp at each frequency (cycles/mm, sign ignored); 0 beyond Nyquist.

        The published windows belong to a back-projection with linear interpolation between detector samples. Ours
        interpolates exactly, so that interpolation's sinc² is part of the response.
        """
        fraction = np.abs(frequency_per_mm) / nyquist_per_mm
        from scipy.interpolate import PchipInterpolator  # it takes a third of a second, and every command reads these settings

        mirrored = PchipInterpolator((-_FRACTIONS[1], *_FRACTIONS), (self.window[1], *self.window))  # flat at 0
        window = mirrored(np.minimum(fraction, 1.0))
        return np.where(fraction <= 1.0, window * np.sinc(fraction / 2) ** 2, 0.0)


BR40_LIKE = Kernel("Br40-like", (1.0, 0.815, 0.4564, 0.1636, 0.0))
STANDARD = Kernel("standard", (1.0, 0.9338, 0.7441, 0.4425, 0.0531))
BL64_LIKE = Kernel("Bl64-like", (1.0, 1.0485, 1.17, 1.2202, 0.9201))
SMOOTH = Kernel("smooth", (1.0, 0.5, 0.22, 0.05, 0.0))
LUNG = Kernel("lung", (1.0, 1.5, 2.1, 0.8, 0.0))

KERNELS = {kernel.name: kernel for kernel in (BR40_LIKE, STANDARD, BL64_LIKE, SMOOTH, LUNG)}


@dataclass(frozen=True)
class NoiseReduction:
    """Anisotropic diffusion (`physics.noise_reduction.diffuse`): a simple stand-in for iterative reconstruction, with the same
    signature. No vendor's algorithm is modelled.

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
