"""Scans of all kinds, for networks that shall know more than one scanner: kernels, doses, thicknesses, pixels at random.

Each scan is one simulated patient with a scanner setting of its own. Pretrained weights are trained on these (jobs/pretrain).
"""

from dataclasses import dataclass

import numpy as np

from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.kernels import BL64_LIKE, BR40_LIKE, LUNG, SMOOTH, Kernel, NoiseReduction
from ltdiff.simulation.phantom import build_phantom
from ltdiff.simulation.reconstruction import read_slab, reconstruct_pair

SOFT_KERNELS, SHARP_KERNELS = (SMOOTH, BR40_LIKE), (LUNG, BL64_LIKE)
MIN_SHARPNESS_STEP = 0.2
"""Smallest difference of two kernels, as a share of the way from soft to sharp; closer ones need no standardizing."""
WINDOW_JITTER = 0.12
"""Standard deviation, in log response, of a kernel off the line from soft to sharp."""
SMALLEST_RESPONSE = 0.02
"""Some windows are 0 at Nyquist, where a logarithm has no value."""
SOFTER_SHARE = 0.25
"""Share of the scans whose source has the sharper kernel."""
ITERATIVE_SHARE = 0.2
"""Share of the scans whose source is noise-reduced."""
DOSES = (0.03, 0.5)
THICKNESSES_MM = (0.6, 5.0)
FOV_MM = (240.0, 460.0)
Z_MM = (-80.0, 110.0)


@dataclass(frozen=True)
class ScanOfSlices:
    """Separate slices (N, Y, X) of one patient with two kernels, whole HU as float32; PixelSpacing (y, x)."""

    source_hu: np.ndarray
    target_hu: np.ndarray
    spacing_mm: tuple[float, float]
    config: SimulationConfig


def scan_continuum(number: int, *, num_slices: int, seed: int) -> ScanOfSlices:
    """Scan number `number` of the continuum: its settings, patient and noise are functions of (seed, number)."""
    rng = np.random.default_rng([seed, number])
    config = draw_config(rng)
    z_mm = np.sort(rng.uniform(*Z_MM, num_slices))
    phantom = build_phantom(
        int(rng.integers(2**31)), z_range_mm=(float(z_mm[0]), float(z_mm[-1])), num_lesions=config.num_lesions
    )
    thickness_mm, dose = config.thickness_mm(0), config.dose(0)
    readings = (read_slab(phantom, config, 0, z_mm=float(z), rng=rng) for z in z_mm)
    sinograms = (config.scanner.to_line_integrals(r, thickness_mm=thickness_mm, dose=dose) for r in readings)
    pairs = np.stack([reconstruct_pair(sinogram, config) for sinogram in sinograms]).astype(np.float32)
    pixel_mm = config.fov_mm / config.matrix
    return ScanOfSlices(pairs[:, 0], pairs[:, 1], (pixel_mm, pixel_mm), config)


def draw_config(rng: np.random.Generator) -> SimulationConfig:
    """Settings of one scan: two kernels, dose, thickness (both log-uniform), field of view, noise reduction."""
    source, target = _draw_kernels(rng)
    iterative = None
    if rng.random() < ITERATIVE_SHARE:
        iterative = NoiseReduction(num_iterations=int(rng.integers(2, 7)), edge_hu=float(rng.uniform(20, 60)))
    return SimulationConfig(
        num_patients=1,
        num_slices=1,
        fov_mm=float(rng.uniform(*FOV_MM)),
        slice_thicknesses_mm=(_log_uniform(rng, *THICKNESSES_MM),),
        doses=(_log_uniform(rng, *DOSES),),
        source_kernel=source.name,
        target_kernel=target.name,
        custom_kernels=(source, target),
        iterative=iterative,
        num_lesions=int(rng.integers(0, 9)),
    )


def _draw_kernels(rng: np.random.Generator) -> tuple[Kernel, Kernel]:
    """Source and target, between one of the soft and one of the sharp kernels."""
    soft, sharp = SOFT_KERNELS[rng.integers(len(SOFT_KERNELS))], SHARP_KERNELS[rng.integers(len(SHARP_KERNELS))]
    while True:
        low, high = np.sort(rng.uniform(0, 1, 2))
        if high - low >= MIN_SHARPNESS_STEP:
            break
    source, target = (high, low) if rng.random() < SOFTER_SHARE else (low, high)
    return _blend("source", soft, sharp, source, rng), _blend("target", soft, sharp, target, rng)


def _blend(name: str, soft: Kernel, sharp: Kernel, sharpness: float, rng: np.random.Generator) -> Kernel:
    """A window between two others in log response, and a little off that line."""
    low, high = (np.log(np.maximum(kernel.window[1:], SMALLEST_RESPONSE)) for kernel in (soft, sharp))
    values = np.exp(low + sharpness * (high - low) + WINDOW_JITTER * rng.standard_normal(len(low)))
    quarter, half, three_quarters, nyquist = map(float, values)
    return Kernel(name, (1.0, quarter, half, three_quarters, nyquist))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
