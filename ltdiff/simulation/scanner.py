"""A CT scanner: attenuation → one noisy sinogram → images with any number of kernels, which share its noise.

Parallel-beam model with the sampling of a published (CC0) model of a Siemens Force: detectors of 1 mm at 1085.6 mm from
the source, which is 0.548 mm at the isocentre 595 mm from it, 1160 views, 3e5 photons per detector and view, and
0.2059/cm for water. The fan itself is not modelled: its rays are taken as already sorted into parallel views over half a
turn, with as many detectors as cover the scan field. Beam hardening, scatter and aliasing are left out.

Projection follows the Fourier slice theorem: the non-uniform Fourier transform (finufft, type 2) of the object at polar
frequencies is the one-dimensional transform of its projections. Filtered back-projection is the way back (type 1).
Images have the isocentre at index size // 2; x grows with the column and y with the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import finufft
import numpy as np
import scipy.fft

from ltdiff.simulation.kernels import Kernel

_MAX_RELATIVE_ERROR = 1e-4  # of the non-uniform Fourier transforms


@dataclass(frozen=True)
class Scanner:
    """Geometry, photons and detector.

    Args:
        num_views: views over half a turn.
        num_detectors: detectors of a row, an even number.
        detector_pitch_mm: their distance, at the isocentre.
        row_thickness_mm: thickness of a detector row, at the isocentre.
        photons: those that reach a detector in one view at dose 1, without a patient.
        electronic_noise_photons: standard deviation of one reading.
        water_attenuation_per_mm: of water, 0 HU.
        scan_field_mm: diameter of what is measured.
    """

    num_views: int = 1160
    num_detectors: int = 960
    detector_pitch_mm: float = 0.548
    row_thickness_mm: float = 0.6
    photons: float = 3e5
    electronic_noise_photons: float = 10.0
    water_attenuation_per_mm: float = 0.02059
    scan_field_mm: float = 500.0

    def __post_init__(self) -> None:
        if self.num_detectors % 2 or self.num_detectors * self.detector_pitch_mm < self.scan_field_mm:
            raise ValueError(
                f"{self.num_detectors} detectors of {self.detector_pitch_mm} mm must be even in number and cover the "
                f"scan field of {self.scan_field_mm} mm"
            )

    @property
    def nyquist_per_mm(self) -> float:
        """Highest frequency that the detectors sample, in cycles/mm."""
        return 0.5 / self.detector_pitch_mm

    def project(self, object_hu: np.ndarray, *, pixel_mm: float) -> np.ndarray:
        """Line integrals of attenuation (num_views, num_detectors) without noise, blurred by the detectors' width.

        `object_hu` (M, M) is a slice in HU, already averaged over its thickness.
        """
        attenuation = self.water_attenuation_per_mm * (1 + object_hu.astype(np.float32) / 1000)
        plan = _plan(self, 2, len(object_hu), pixel_mm)
        spectrum = plan.execute(attenuation.astype(np.complex64)).reshape(self.num_views, -1)
        index = np.arange(spectrum.shape[1])
        aperture = np.sinc(index / self.num_detectors)  # of frequency times pitch
        centring = (-1.0) ** index  # the isocentre is at detector num_detectors // 2
        spectrum *= (pixel_mm**2 / self.detector_pitch_mm * aperture * centring).astype(np.float32)
        return scipy.fft.irfft(spectrum, n=self.num_detectors, axis=1)

    def expose(self, line_integrals: np.ndarray, *, thickness_mm: float, dose: float, rng: np.random.Generator) -> np.ndarray:
        """Noisy line integrals of a slice, whose detector rows are pooled: the noise variance falls with dose and thickness."""
        counts = self.count_photons(line_integrals, thickness_mm=thickness_mm, dose=dose, rng=rng)
        return self.to_line_integrals(counts, thickness_mm=thickness_mm, dose=dose)

    def count_photons(
        self, line_integrals: np.ndarray, *, thickness_mm: float, dose: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Readings, in photons, summed over the detector rows within `thickness_mm`: Poisson and electronic noise.

        The readings of adjacent slabs may be summed again: a thicker slice holds all of them.
        """
        if dose <= 0 or thickness_mm <= 0:
            raise ValueError(f"dose and slice thickness must be positive, not {dose} and {thickness_mm} mm")
        num_rows = thickness_mm / self.row_thickness_mm
        photons = self.photons * dose * num_rows
        counts = rng.poisson(photons * np.exp(-line_integrals)).astype(np.float32)
        noise = rng.standard_normal(counts.shape, dtype=np.float32)
        counts += np.float32(np.sqrt(num_rows) * self.electronic_noise_photons) * noise
        return counts

    def to_line_integrals(self, counts: np.ndarray, *, thickness_mm: float, dose: float) -> np.ndarray:
        """The logarithm of what got through, of readings that are summed over `thickness_mm`."""
        photons = self.photons * dose * (thickness_mm / self.row_thickness_mm)
        return -np.log(np.maximum(counts, 1) / np.float32(photons))

    def reconstruct(self, sinogram: np.ndarray, kernels: Sequence[Kernel], *, matrix: int, fov_mm: float) -> np.ndarray:
        """Images (len(kernels), matrix, matrix) in HU by filtered back-projection, neither rounded nor clipped.

        Two real images are the real and imaginary part of one, so a pair costs one back-projection.
        """
        spectrum = scipy.fft.fft(sinogram.astype(np.float32), n=2 * self.num_detectors, axis=1)
        plan = _plan(self, 1, matrix, fov_mm / matrix)
        weights = [self._filter_weights(kernel) for kernel in kernels]
        images = []
        for i in range(0, len(weights), 2):
            pair = weights[i] + 1j * weights[i + 1] if i + 1 < len(weights) else weights[i]
            image = plan.execute((spectrum * pair.astype(np.complex64)).ravel())
            images += [image.real, image.imag]
        attenuation = np.stack(images[: len(weights)])
        return 1000 * (attenuation / np.float32(self.water_attenuation_per_mm) - 1)

    def inside_scan_field(self, *, matrix: int, fov_mm: float) -> np.ndarray:
        """Mask (matrix, matrix) of the pixels that the scan field covers; scanners pad the others."""
        offset_mm = (np.arange(matrix) - matrix // 2) * fov_mm / matrix
        return np.hypot(offset_mm[:, None], offset_mm) <= self.scan_field_mm / 2

    def _filter_weights(self, kernel: Kernel) -> np.ndarray:
        """Ramp times kernel on the frequencies of the zero-padded projections in FFT order, with all constants."""
        num = 2 * self.num_detectors
        frequency = scipy.fft.fftfreq(num, self.detector_pitch_mm)
        response = kernel.response(frequency, nyquist_per_mm=self.nyquist_per_mm)
        centring = np.exp(2j * np.pi * np.arange(num) * (self.num_detectors // 2) / num)
        return _ramp(num, self.detector_pitch_mm) * response * centring * np.pi / (self.num_views * num)


def _ramp(num: int, pitch_mm: float) -> np.ndarray:
    """|frequency| as the transform of the band-limited ramp sampled in space (Kak & Slaney 1988, eq. 3.61).

    Unlike |frequency| itself it has the small value at 0 that keeps the mean right.
    """
    offset = scipy.fft.fftfreq(num, 1 / num)
    kernel = np.zeros(num)
    odd = offset % 2 == 1
    kernel[odd] = -1 / (np.pi * offset[odd] * pitch_mm) ** 2
    kernel[0] = 1 / (4 * pitch_mm**2)
    return scipy.fft.fft(kernel).real * pitch_mm


@lru_cache(maxsize=4)
def _plan(scanner: Scanner, transform: int, size: int, pixel_mm: float) -> finufft.Plan:
    """Type 2: object (size, size) → frequencies ≥ 0 of its projections, view by view. Type 1: filtered spectra of zero-padded
    projections, in FFT order, view by view → image (size, size).
    """
    if transform == 2:
        frequency = scipy.fft.rfftfreq(scanner.num_detectors, scanner.detector_pitch_mm)
    else:
        frequency = scipy.fft.fftfreq(2 * scanner.num_detectors, scanner.detector_pitch_mm)
    angle = np.arange(scanner.num_views)[:, None] * np.pi / scanner.num_views
    radians = (2 * np.pi * (frequency * pixel_mm)).astype(np.float32)
    sign = -1 if transform == 2 else 1
    plan = finufft.Plan(
        transform, (size, size), eps=_MAX_RELATIVE_ERROR, isign=sign, dtype="complex64", nthreads=1, upsampfac=1.25
    )
    plan.setpts((np.sin(angle) * radians).ravel().astype(np.float32), (np.cos(angle) * radians).ravel().astype(np.float32))
    return plan
