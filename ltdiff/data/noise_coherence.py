"""Do two series show one set of raw data? Their noise tells: two scans of one patient share the anatomy and never the noise.

In the quietest windows of the body an image is mostly noise. Two reconstructions of the same raw data pass the same noise through
two filters: their coherence is near 1 at every frequency, whatever the kernels are. That of two scans, or of a scan beside itself
moved, falls to 0 where the noise exceeds the anatomy. Noise reduction also lowers it, and takes power away besides: how much it
has left is seen beside the power that the gain of the edges, in the loudest windows, leads to expect.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltdiff.data.manifest import evenly_spaced
from ltdiff.dicom.scan import Scan
from ltdiff.physics.spectrum import half_overlapping_windows, hann_taper, radial_frequency

NUM_SLICES = 8
"""Spread over the scan: half a second of decoding."""
WINDOW_MM, MIN_WINDOW_PX = 24.0, 16
RING_PER_MM = 0.04
BAND_PER_MM, NYQUIST_SHARE = (0.08, 0.48), 0.9
"""Below are anatomy and cupping; above is what soft kernels hardly pass."""
NOISE_PER_MM = 0.24
"""From here on, or in the last ring of large pixels, the quietest windows of two scans have little in common."""
SOFT_HU, BODY_HU = (-200.0, 200.0), (-950.0, 2000.0)
"""Mean of a window: muscle, organs and fat have little texture of their own; where they are too few, all but air."""
QUIET_SHARE, LOUD_SHARE, MIN_WINDOWS = 0.05, 0.3, 24
MIN_POWER_HU2 = 8 / 12
"""Of a pixel: eight times that of rounding to whole HU."""
KEPT_NOISE = 0.5
"""Share of the expected power from which on noise counts as not reduced."""
LARGEST_OF_TWO, LEAST_OF_ONE = 0.4, 0.5
"""Coherence: with the noise kept, two scans have less than the one; with NOISE_PER_MM and above, one scan has the other."""

TINY = np.finfo(np.float64).tiny

PHASE_PER_MM, LARGEST_MOVE_MM = (0.06, 0.16), 0.6
"""Two reconstructions lie within 0.05 mm, or half a pixel. Of a move of 1 mm 0.7 are found; one of 3 mm is half a turn."""

Image = NDArray[np.float32]
Spectra = NDArray[np.complex128]


class Verdict(Enum):
    """Whether two series show the same raw data."""

    ONE = "one set of raw data"
    TWO = "two scans"
    UNKNOWN = "too little noise to tell"


class NoiseComparison(NamedTuple):
    """A verdict, and the sentence that explains it."""

    verdict: Verdict
    reason: str


def compare_noise(source: Scan, target: Scan) -> NoiseComparison:
    """Compare the noise of two scans with the same slices.

    Raises:
        ValueError: a slice cannot be read; the sentence names its file.
    """
    indices = evenly_spaced(source.num_slices, at_most=NUM_SLICES)
    return compare_slices(((source.read_slice(i), target.read_slice(i)) for i in indices), source.spacing_mm)


def compare_slices(slices_hu: Iterable[tuple[Image, Image]], spacing_mm: tuple[float, float]) -> NoiseComparison:
    """Compare the noise of pairs of slices (Y, X) in HU."""
    mean, spectra, frequencies = _spectra(slices_hu, spacing_mm)
    quiet, loud = _quietest_and_loudest(mean, spectra)
    if not len(quiet):
        return NoiseComparison(Verdict.UNKNOWN, "they show too little of a body to compare their noise")
    moved_mm = _displacement_mm(spectra[:, loud], frequencies)
    if moved_mm > LARGEST_MOVE_MM:
        return NoiseComparison(Verdict.TWO, f"one shows the body {moved_mm:.1f} mm beside where the other shows it")
    rings = _rings(spectra[:, quiet], spectra[:, loud], np.hypot(*frequencies))
    kept = [ring.coherence for ring in rings if ring.keeps_noise]
    if kept and min(kept) < LARGEST_OF_TWO:
        return NoiseComparison(
            Verdict.TWO, f"the coherence of their noise is {min(kept):.2f}, that of one set of raw data is above {LARGEST_OF_TWO}"
        )
    noisy = [ring.coherence for ring in rings if ring.frequency_per_mm >= min(NOISE_PER_MM, rings[-1].frequency_per_mm)]
    largest = max(noisy, default=0.0)
    if largest >= LEAST_OF_ONE:
        return NoiseComparison(Verdict.ONE, f"the coherence of their noise is {largest:.2f}")
    return NoiseComparison(Verdict.UNKNOWN, "they have too little noise to compare")


class _Ring(NamedTuple):
    """Frequencies from `frequency_per_mm` on: the coherence of the quietest windows, and whether both images keep their noise."""

    frequency_per_mm: float
    coherence: float
    keeps_noise: bool


def _rings(quiet: Spectra, loud: Spectra, frequency: NDArray[np.float64]) -> list[_Ring]:
    """Coherence: Re Σ A B* / √(Σ |A|² Σ |B|²) over windows and frequencies; the real part, for a shift turns the phase."""
    rings = []
    for low in np.arange(*BAND_PER_MM, RING_PER_MM):
        in_ring = (frequency >= low) & (frequency < low + RING_PER_MM)
        if in_ring.any():
            a, b = quiet[..., in_ring]
            power = (np.abs(a) ** 2).mean(), (np.abs(b) ** 2).mean()
            expected = _gain(*loud[..., in_ring]) ** 2 * power[1]
            keeps_noise = min(power) > MIN_POWER_HU2 and power[0] > KEPT_NOISE * expected
            rings.append(_Ring(low, float((a * b.conj()).real.mean() / max(np.sqrt(power[0] * power[1]), TINY)), keeps_noise))
    return rings


def _spectra(
    slices_hu: Iterable[tuple[Image, Image]], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float64], Spectra, NDArray[np.float64]]:
    """Means (2, N) and spectra (2, N, F) of all windows of source and target; frequencies (2, F) along y and x in cycles/mm."""
    means, spectra, frequencies = [], [], np.empty((2, 0))
    highest_per_mm = min(BAND_PER_MM[1], NYQUIST_SHARE * 0.5 / max(spacing_mm))
    for pair in slices_hu:
        size = tuple(
            min(length, max(MIN_WINDOW_PX, 2 * round(min(WINDOW_MM / mm, length / 4) / 2)))
            for length, mm in zip(pair[0].shape, spacing_mm, strict=True)
        )
        windows = np.stack([half_overlapping_windows(np.asarray(one, np.float64), size) for one in pair])
        mean, taper = windows.mean(axis=(2, 3), keepdims=True), hann_taper(size)
        in_band = radial_frequency(size, spacing_mm) < highest_per_mm
        along = np.meshgrid(*(np.fft.fftfreq(n, mm) for n, mm in zip(size, spacing_mm, strict=True)), indexing="ij")
        frequencies = np.stack([one[in_band] for one in along])
        means.append(mean[..., 0, 0])
        spectra.append((np.fft.fft2((windows - mean) * taper) / np.sqrt((taper**2).sum()))[..., in_band])
    return np.concatenate(means, axis=1), np.concatenate(spectra, axis=1), frequencies


def _quietest_and_loudest(mean: NDArray[np.float64], spectra: Spectra) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of windows with the least power in both images, and of those with the most; none where the body has too few."""
    power = (np.abs(spectra) ** 2).mean(axis=2)
    body, soft = (np.flatnonzero(((mean > low) & (mean < high)).all(axis=0)) for low, high in (BODY_HU, SOFT_HU))
    among = soft if len(soft) >= 2 * MIN_WINDOWS else body
    if len(among) < MIN_WINDOWS:
        return among[:0], body[:0]
    relative = (power / np.maximum(np.median(power[:, among], axis=1, keepdims=True), TINY)).sum(axis=0)
    num_quiet, num_loud = (max(MIN_WINDOWS, round(share * len(of))) for share, of in ((QUIET_SHARE, among), (LOUD_SHARE, body)))
    return among[relative[among].argsort()[:num_quiet]], body[relative[body].argsort()[-num_loud:]]


def _displacement_mm(loud: Spectra, frequencies: NDArray[np.float64]) -> float:
    """How far one image lies beside the other: the slope of the cross spectrum's phase, at frequencies where it cannot wrap."""
    low = (np.hypot(*frequencies) > PHASE_PER_MM[0]) & (np.hypot(*frequencies) < PHASE_PER_MM[1])
    a, b = loud[..., low]
    weight = 1 / np.maximum((np.abs(a) * np.abs(b)).mean(axis=1, keepdims=True), TINY)
    cross = (a * b.conj() * weight).mean(axis=0)
    size = np.sqrt(np.abs(cross))
    design = 2 * np.pi * frequencies[:, low].T * size[:, None]
    return float(np.linalg.norm(np.linalg.lstsq(design, np.angle(cross) * size, rcond=None)[0]))


def _gain(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> float:
    """The factor by which windows (N, F) of the target become those of the source, each window with the same weight."""
    weight = 1 / np.maximum((np.abs(b) ** 2).mean(axis=1, keepdims=True), TINY)
    return float((a * b.conj() * weight).real.mean() / max((np.abs(b) ** 2 * weight).mean(), TINY))
