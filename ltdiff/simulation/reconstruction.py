"""Scanning a phantom: a stack of slices, each reconstructed with two kernels from the same noisy raw data.

The detector reads slabs, one slice spacing thick, once each. A slice pools the readings of the slabs within its thickness, so
overlapping slices share the noise of the slabs that they share. Where slices are adjacent, each is one slab.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft

from ltdiff.physics.noise_reduction import diffuse
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.phantom import Z_RANGE_MM, Phantom, build_phantom
from ltdiff.simulation.shapes import Grid

MIN_HU, MAX_HU = -1024.0, 3071.0
"""Range that a CT series stores; pixels outside the scan field are MIN_HU."""
_MIDDLE_Z_MM = 30.0
_SUPERSAMPLING = 2
"""Object pixels per image pixel, along each axis."""


@dataclass(frozen=True)
class SimulatedScan:
    """One patient's images and lesion labels (Z, Y, X): whole HU as float32, uint8. z ascends from `origin_mm`."""

    phantom: Phantom
    source_hu: np.ndarray
    target_hu: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]  # (z, y, x)
    origin_mm: tuple[float, float, float]  # (x, y, z) of the first voxel's centre


def scan_patient(config: SimulationConfig, patient: int) -> SimulatedScan:
    """Draw patient number `patient` from the configuration's seed and scan it, or scan it again (`repeat`)."""
    thickness_mm, dose = config.thickness_mm(patient), config.dose(patient)
    spacing_mm, num_slabs = config.spacing_mm(patient), config.num_slabs(patient)
    slabs_z_mm = _slab_positions(config.num_slices + num_slabs - 1, spacing_mm)
    z_mm = slabs_z_mm[: config.num_slices] + (num_slabs - 1) / 2 * spacing_mm
    z_range_mm = (float(z_mm[0]), float(z_mm[-1]))
    phantom_seed, noise_seed = np.random.SeedSequence((config.seed, patient)).generate_state(2)
    phantom = build_phantom(int(phantom_seed), z_range_mm=z_range_mm, num_lesions=config.num_lesions, lung=config.lung)
    rng = np.random.default_rng(noise_seed if config.repeat is None else [noise_seed, config.repeat])
    pixel_mm = config.fov_mm / config.matrix
    image_grid = Grid(config.matrix, pixel_mm)
    slabs = (read_slab(phantom, config, patient, z_mm=float(z), rng=rng) for z in slabs_z_mm)
    sinograms = (
        config.scanner.to_line_integrals(counts, thickness_mm=thickness_mm, dose=dose) for counts in _pool(slabs, num_slabs)
    )
    pairs = [reconstruct_pair(sinogram, config) for sinogram in sinograms]
    labels = [phantom.lesion_labels(image_grid, z_mm=float(z), thickness_mm=thickness_mm) for z in z_mm]
    corner_mm = float(image_grid.axis_mm[0])
    return SimulatedScan(
        phantom=phantom,
        source_hu=np.stack([pair[0] for pair in pairs]),
        target_hu=np.stack([pair[1] for pair in pairs]),
        labels=np.stack(labels),
        spacing_mm=(spacing_mm, pixel_mm, pixel_mm),
        origin_mm=(corner_mm, corner_mm, z_range_mm[0]),
    )


def reconstruct_pair(sinogram: np.ndarray, config: SimulationConfig) -> np.ndarray:
    """Source and target image (2, Y, X) of line integrals (num_views, num_detectors): whole HU, as a series stores them."""
    scanner = config.scanner
    images = scanner.reconstruct(sinogram, config.kernels(), matrix=config.matrix, fov_mm=config.fov_mm)
    if config.iterative is not None:
        setting = config.iterative
        images[0] = diffuse(images[0], edge_hu=setting.edge_hu, num_steps=setting.num_iterations)
    images[:, ~scanner.inside_scan_field(matrix=config.matrix, fov_mm=config.fov_mm)] = MIN_HU
    return np.clip(np.rint(images), MIN_HU, MAX_HU)


def read_slab(phantom: Phantom, config: SimulationConfig, patient: int, *, z_mm: float, rng: np.random.Generator) -> np.ndarray:
    """The detector's readings (num_views, num_detectors) of one slab, in photons."""
    scanner, grid, thickness_mm = config.scanner, object_grid(config), config.spacing_mm(patient)
    attenuation = phantom.attenuation(grid, z_mm=z_mm, thickness_mm=thickness_mm)
    line_integrals = scanner.project(attenuation, pixel_mm=grid.pixel_mm)
    return scanner.count_photons(line_integrals, thickness_mm=thickness_mm, dose=config.dose(patient), rng=rng)


def _pool(slabs: Iterable[np.ndarray], num_slabs: int) -> Iterator[np.ndarray]:
    """Readings of each slice: the sum of `num_slabs` slabs, all but one of which it shares with the next slice."""
    latest: deque[np.ndarray] = deque(maxlen=num_slabs)
    for readings in slabs:
        latest.append(readings)
        if len(latest) == num_slabs:
            yield np.sum(latest, axis=0)


def _slab_positions(num_slabs: int, thickness_mm: float) -> np.ndarray:
    """Middles of adjacent slabs, round `_MIDDLE_Z_MM` as far as the phantom reaches."""
    half_mm = num_slabs * thickness_mm / 2
    middle_mm = np.clip(_MIDDLE_Z_MM, Z_RANGE_MM[0] + half_mm, Z_RANGE_MM[1] - half_mm)
    return middle_mm + (np.arange(num_slabs) + 0.5) * thickness_mm - half_mm


def object_grid(config: SimulationConfig, *, supersampling: int = _SUPERSAMPLING) -> Grid:
    """A grid over the scan field with pixels that many times finer than the image's."""
    pixel_mm = config.fov_mm / config.matrix / supersampling
    half = scipy.fft.next_fast_len(int(np.ceil(config.scanner.scan_field_mm / pixel_mm / 2)), real=True)
    return Grid(2 * half, pixel_mm)
