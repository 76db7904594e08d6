"""The edge response of patients' images: what is left of contrast at each frequency, from edges of skin and of lungs.

Pixels beside an outline are pooled by their signed distance from it in steps finer than a pixel: the edge spread function. Its
derivative is the line spread function, and the modulation transfer function (MTF) is that one's Fourier transform over its value
at 0. Two halves of the edges are pooled apart: their cross spectrum has no noise in it.

Anatomy blurs edges, too: skin is a thin bright layer over fat, and the wall of a lung may be inclined in a thick slice. That is
of bodies and not of protocols, so two protocols are compared by the ratio of their responses.
Source: Sanders, Hurwitz, Samei, Med. Phys. 43 (2016) 5330; AAPM TG-233 (2019).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ltdiff.physics.outline import EDGES, Bool, EdgeKind, Float, Outline, Spacing, find_outlines

KINDS: tuple[EdgeKind, ...] = tuple(EDGES)
REACH_MM = 6.0
"""To both sides: as far as the line spread function is looked at."""
FADE_MM = 3.0
"""From here on it fades: what lies there is anatomy."""
CLEAR_MM = np.arange(3.0, REACH_MM + 1.1, 1.0)
"""Distances at which both sides must be what they should be; nearer than the first, the edge's own blur is."""
STEP_MM = 0.1
HALF_MM = 12.0
"""Side of the squares, of the one half or of the other: the noise of two neighbours has little in common."""
AIR_STEP_MM = 0.5
MAX_CLIPPED = 0.1
"""Of the air beside skin, in any step of its distance, this share may have the image's lowest value. Where more has, the stored
range ends there, and cuts off what a sharp kernel makes of the edge."""
MIN_PROFILES = 200
FREQUENCIES_PER_MM = np.round(np.arange(0, 1.001, 0.05), 2)


@dataclass(frozen=True)
class EdgeResponse:
    """MTF (F,) at frequencies (F,), 1 at 0, of so many places of the outlines."""

    kind: EdgeKind
    frequencies_per_mm: Float
    mtf: Float
    num_profiles: int


class EdgeMeter:
    """Takes axial slices of any pixel size, one after the other, and gives the response of all. Two of them can be merged."""

    def __init__(self) -> None:
        shape = (2, 2 * round(REACH_MM / STEP_MM))
        self.sums = {kind: np.zeros(shape) for kind in KINDS}  # of the two halves, by distance
        self.counts = {kind: np.zeros(shape) for kind in KINDS}
        self.num_profiles = dict.fromkeys(KINDS, 0)
        self.largest_mm = 0.0

    def add(self, hu: NDArray[Any], spacing_mm: Spacing) -> None:
        """Take the edges of a slice (Y, X) in HU; there may be none. `spacing_mm` is (y, x)."""
        clipped = hu <= hu.min()
        for kind, outline in find_outlines(hu, spacing_mm, clear_mm=CLEAR_MM).items():
            places, owners, distance_mm = _pixels_beside(outline, hu.shape, spacing_mm)
            if not distance_mm.size or (kind == "skin" and _share_of_air(clipped[places], distance_mm) > MAX_CLIPPED):
                continue
            halves = (np.floor(outline.points_mm[owners] / HALF_MM).sum(axis=1) % 2).astype(int)
            bins = np.floor(distance_mm / STEP_MM).astype(int) + self.counts[kind].shape[1] // 2
            np.add.at(self.sums[kind], (halves, bins), hu[places])
            np.add.at(self.counts[kind], (halves, bins), 1)
            self.num_profiles[kind] += int(outline.valid.sum())
            self.largest_mm = max(self.largest_mm, *spacing_mm)

    def merge(self, other: "EdgeMeter") -> None:
        """Take all that another one has taken."""
        for kind in KINDS:
            self.sums[kind] += other.sums[kind]
            self.counts[kind] += other.counts[kind]
            self.num_profiles[kind] += other.num_profiles[kind]
        self.largest_mm = max(self.largest_mm, other.largest_mm)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, to go on with elsewhere."""
        of_kinds: dict[str, Any] = {
            kind: {"sums": self.sums[kind].tolist(), "counts": self.counts[kind].tolist(), "num": self.num_profiles[kind]}
            for kind in KINDS
        }
        return {**of_kinds, "largest_mm": self.largest_mm}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        meter = cls()
        for kind in KINDS:
            meter.sums[kind], meter.counts[kind] = (np.array(values[kind][name]) for name in ("sums", "counts"))
            meter.num_profiles[kind] = values[kind]["num"]
        meter.largest_mm = values["largest_mm"]
        return meter

    def response(self, kind: EdgeKind) -> EdgeResponse | None:
        """The response up to the Nyquist frequency of the largest pixels; None where there are fewer than MIN_PROFILES."""
        if self.num_profiles[kind] < MIN_PROFILES or not self.counts[kind].any(axis=1).all():
            return None
        frequencies = FREQUENCIES_PER_MM[: np.searchsorted(FREQUENCIES_PER_MM, 0.5 / self.largest_mm, side="right")]
        one, other = (
            line_transfer(_faded(np.diff(edge_spread(sums, counts))), STEP_MM, frequencies)
            for sums, counts in zip(self.sums[kind], self.counts[kind], strict=True)
        )
        power = np.maximum((one * other.conj()).real, 0)
        return EdgeResponse(kind, frequencies, np.sqrt(power) / step_loss(STEP_MM, frequencies), self.num_profiles[kind])


def edge_response(slices_hu: Iterable[NDArray[Any]], spacing_mm: Spacing, *, kind: EdgeKind | None = None) -> EdgeResponse | None:
    """The response of slices (Y, X) in HU, of edges of this kind, or of skin where it will do; None where there are too few."""
    meter = EdgeMeter()
    for hu in slices_hu:
        meter.add(hu, spacing_mm)
    responses = (meter.response(one) for one in ([kind] if kind else KINDS))
    return next((response for response in responses if response is not None), None)


def edge_spread(sums: NDArray[Any], counts: NDArray[Any]) -> Float:
    """Edge spread function (N,) of sums and numbers of pixels by distance; steps without a pixel are interpolated."""
    steps, filled = np.arange(len(counts)), counts > 0
    return np.interp(steps, steps[filled], sums[filled] / counts[filled])


def line_transfer(line: Float, step_mm: float, frequencies_per_mm: Float) -> NDArray[np.complex128]:
    """Fourier transform (F,) of a line spread function (N,) over its sum, which is its value at 0."""
    distance_mm = (np.arange(len(line)) - (len(line) - 1) / 2) * step_mm
    transform = np.exp(-2j * np.pi * frequencies_per_mm[:, None] * distance_mm) @ line
    return transform / line.sum()


def step_loss(step_mm: float, frequencies_per_mm: Float) -> Float:
    """What averaging over a step of the edge spread function and the difference of two take away from the transform (F,)."""
    return np.sinc(frequencies_per_mm * step_mm) ** 2


def _share_of_air(clipped: Bool, distance_mm: Float) -> float:
    """The largest share of clipped pixels in any step of the distance from the outline, on its darker side."""
    steps = np.floor(np.maximum(distance_mm, 0) / AIR_STEP_MM).astype(int)
    return float((np.bincount(steps, clipped & (distance_mm > 0)) / np.maximum(np.bincount(steps, distance_mm > 0), 1)).max())


def _faded(line: Float) -> Float:
    distance_mm = abs(np.arange(len(line)) - (len(line) - 1) / 2) * STEP_MM
    share = np.clip((distance_mm - FADE_MM) / (REACH_MM - FADE_MM), 0, 1)
    return line * np.cos(np.pi / 2 * share) ** 2


def _pixels_beside(
    outline: Outline, shape: tuple[int, ...], spacing_mm: Spacing
) -> tuple[tuple[NDArray[np.intp], ...], NDArray[np.intp], Float]:
    """Rows and columns of the pixels beside valid points, the number of each one's point, and its distance (mm) from the outline.

    The distance is positive on the darker side.
    """
    near = np.zeros(shape, bool)
    near[tuple(np.rint(outline.points_mm[outline.valid] / spacing_mm).astype(int).T)] = True
    places = np.nonzero(ndimage.maximum_filter(near, [2 * int(np.ceil(REACH_MM / mm)) + 1 for mm in spacing_mm]))
    pixels_mm = np.stack(places, axis=1) * spacing_mm
    nearest_mm, owners = cKDTree(outline.points_mm).query(pixels_mm)
    relative = pixels_mm - outline.points_mm[owners]
    across = np.einsum("nd,nd->n", relative, outline.normals[owners])
    along2 = np.maximum(nearest_mm**2 - across**2, 0)
    distance_mm = across - outline.curvature_per_mm[owners] / 2 * along2
    kept = outline.valid[owners] & (along2 <= max(spacing_mm) ** 2) & (abs(distance_mm) < REACH_MM)
    return tuple(place[kept] for place in places), owners[kept], distance_mm[kept]
