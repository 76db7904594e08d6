"""The outlines of body and lungs in an axial slice, to a fraction of a pixel, with what lies on both sides of them."""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Spacing = tuple[float, float]

SMOOTHING_MM = 1.2
"""Of the image in which edges are found: noise moves them by less than a tenth of a pixel."""
NUM_NEIGHBOURS = 12
"""Points of an outline, some 8 pixels of its length, through which a parabola is laid."""
MAX_NEIGHBOUR_MM = 8.0
"""Farther points are of another outline, or this one has a gap."""
MAX_RESIDUAL_MM = 0.12
"""Of these points from the parabola (root mean square): more is a fold or a vessel."""
MIN_RADIUS_MM = 12.0
"""Of the parabola."""
MIN_BODY_MM2, MIN_LUNG_MM2 = 2000.0, 500.0
"""Areas from which on something is a body, or a lung."""


class EdgeSides(NamedTuple):
    """The value in HU at which an edge is found, half way between its sides, and the ranges of these."""

    edge_hu: float
    bright_hu: tuple[float, float]
    dark_hu: tuple[float, float]


EdgeKind = Literal["skin", "lung"]
"""Between body and air, or between the wall of the chest and a lung."""
EDGES: dict[EdgeKind, EdgeSides] = {
    "skin": EdgeSides(-500.0, (-250.0, 250.0), (-np.inf, -930.0)),
    "lung": EdgeSides(-450.0, (-200.0, 200.0), (-990.0, -700.0)),
}


@dataclass(frozen=True)
class Outline:
    """Points of an outline (N, 2), (y, x) in mm, with unit normals (N, 2) to the darker side and curvature (N,).

    `valid` (N,) tells those where it is smooth, and where nothing else lies near.
    """

    points_mm: Float
    normals: Float
    curvature_per_mm: Float
    valid: Bool


def find_outlines(hu: NDArray[Any], spacing_mm: Spacing, *, clear_mm: Float) -> dict[EdgeKind, Outline]:
    """The outlines of a slice (Y, X) in HU; a kind of which there is none is missing.

    A point is valid where both sides are what they should be at distances `clear_mm`, and the darker one is no filler.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [SMOOTHING_MM / mm for mm in spacing_mm])
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    body = _large_areas(smooth > EDGES["skin"].edge_hu, num_pixels=MIN_BODY_MM2 / pixel_mm2, only_largest=True)
    lungs = _large_areas((smooth < EDGES["lung"].edge_hu) & body, num_pixels=MIN_LUNG_MM2 / pixel_mm2)
    areas: dict[EdgeKind, Bool] = {"skin": body, "lung": lungs}
    outlines: dict[EdgeKind, Outline] = {}
    for kind, area in areas.items():
        points = _crossings(smooth, area, EDGES[kind].edge_hu)
        if len(points) > NUM_NEIGHBOURS:
            outline = _smoothed(points, smooth, spacing_mm)
            clear = _is_clear(outline, smooth, spacing_mm, sides=EDGES[kind], clear_mm=clear_mm)
            measured = _is_measured(outline, hu, spacing_mm, clear_mm=clear_mm)
            outlines[kind] = replace(outline, valid=outline.valid & clear & measured)
    return outlines


def _sampled(image: NDArray[Any], points_mm: Float, spacing_mm: Spacing, *, order: int = 1) -> NDArray[Any]:
    """The image (Y, X) at points (…, 2), between pixels or, of order 0, in the nearest; NaN outside of it."""
    places = np.moveaxis(points_mm / spacing_mm, -1, 0)
    return ndimage.map_coordinates(image, places, order=order, mode="constant", cval=np.nan)


def _is_clear(outline: Outline, smooth: NDArray[np.float32], spacing_mm: Spacing, *, sides: EdgeSides, clear_mm: Float) -> Bool:
    """Whether both sides of each point (N,) are what they should be."""
    clear = np.ones(len(outline.valid), bool)
    for distances_mm, (low, high) in ((clear_mm, sides.dark_hu), (-clear_mm, sides.bright_hu)):
        beside = _sampled(smooth, _beside(outline, distances_mm), spacing_mm)
        clear &= ((beside >= low) & (beside <= high)).all(axis=1)  # false of NaN
    return clear


def _is_measured(outline: Outline, hu: NDArray[Any], spacing_mm: Spacing, *, clear_mm: Float) -> Bool:
    """Whether the darker side of each point (N,) has noise: where the field of view ends, one value fills it."""
    beside = _sampled(hu.astype(float), _beside(outline, clear_mm), spacing_mm, order=0)
    measured: Bool = beside.max(axis=1) > beside.min(axis=1)  # false of NaN
    return measured


def _beside(outline: Outline, distances_mm: Float) -> Float:
    """Points (N, K, 2) at distances (K,) from the outline, positive on its darker side."""
    return outline.points_mm[:, None] + distances_mm[:, None] * outline.normals[:, None]


def _large_areas(mask: Bool, *, num_pixels: float, only_largest: bool = False) -> Bool:
    """Connected areas of at least that size, or the largest of them, with what they enclose."""
    labels, num_labels = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=num_labels + 1)
    sizes[0] = 0
    kept = sizes >= num_pixels
    if only_largest:
        kept &= np.arange(len(sizes)) == sizes.argmax()
    filled: Bool = ndimage.binary_fill_holes(kept[labels])
    return filled


def _crossings(smooth: NDArray[np.float32], area: Bool, edge_hu: float) -> Float:
    """Where the value is `edge_hu` between neighbouring pixels of which one is in the area: (N, 2), (y, x) in pixels."""
    found = []
    for axis in (0, 1):
        before: list[slice] = [slice(None), slice(None)]
        behind = list(before)
        before[axis], behind[axis] = slice(None, -1), slice(1, None)
        one, other = smooth[tuple(before)], smooth[tuple(behind)]
        places = np.nonzero((area[tuple(before)] != area[tuple(behind)]) & ((one > edge_hu) != (other > edge_hu)))
        share = (edge_hu - one[places]) / (other[places] - one[places])
        points = np.stack(places, axis=1).astype(float)
        points[:, axis] += share
        found.append(points)
    return np.concatenate(found)


def _smoothed(points_px: Float, smooth: NDArray[np.float32], spacing_mm: Spacing) -> Outline:
    """The outline through crossings (N, 2) in pixels, each moved onto the parabola through its neighbours; valid if it fits."""
    points = points_px * spacing_mm
    gradient = np.asarray(np.gradient(smooth, *spacing_mm))
    slope = np.stack([_sampled(part, points, spacing_mm) for part in gradient], axis=1).astype(float)
    normals = -slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
    tangents = normals[:, ::-1] * (1, -1)
    distance_mm, neighbours = cKDTree(points).query(points, NUM_NEIGHBOURS)
    relative = points[neighbours] - points[:, None]
    along, across = (np.einsum("nkd,nd->nk", relative, axes) for axes in (tangents, normals))
    (offset, tilt, bend), residual_mm = _parabolas(along, across)
    length = np.hypot(1, tilt)
    moved = points + offset[:, None] * normals
    turned = (normals - tilt[:, None] * tangents) / length[:, None]
    curvature = 2 * bend / length**3
    valid = (distance_mm[:, -1] <= MAX_NEIGHBOUR_MM) & (residual_mm <= MAX_RESIDUAL_MM) & (abs(curvature) <= 1 / MIN_RADIUS_MM)
    return Outline(moved, turned, curvature, valid)


def _parabolas(along: Float, across: Float) -> tuple[tuple[Float, Float, Float], Float]:
    """Least squares of across = a + b·along + c·along² in each row (N, K): ((a, b, c), root mean square of the rest)."""
    basis = np.stack([np.ones_like(along), along, along**2], axis=2)
    squares = basis.transpose(0, 2, 1) @ basis + 1e-9 * np.eye(3)  # where neighbours lie in one place
    found = np.linalg.solve(squares, basis.transpose(0, 2, 1) @ across[..., None])
    rest = across - (basis @ found)[..., 0]
    return tuple(found[:, :, 0].T), np.sqrt(np.mean(rest**2, axis=1))
