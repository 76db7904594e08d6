"""IBSI's 25 morphological features that have reference values: of a region's surface, its axes, hulls and autocorrelation.

Lengths are in mm. The surface is the mesh of marching cubes half way between voxels inside and outside. The oriented bounding box
and the minimum enclosing ellipsoid, which IBSI does not standardise, are left out.
"""

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from ltdiff.radiomics.feature import Feature
from ltdiff.radiomics.mesh import find_vertices, measure_mesh
from ltdiff.radiomics.region import Floats

MAX_CORRELATED = 2**27
"""Voxels of the grid on which autocorrelation is computed: 1 GB for each array."""
_LEGENDRE_TERMS = 20


class Shape:
    """A region: `mask` of its shape, `intensity_mask` of the voxels that are measured (Z, Y, X), the intensities of these (N,).

    `spacing_mm` is (z, y, x).
    """

    def __init__(
        self,
        mask: NDArray[np.bool_],
        *,
        intensity_mask: NDArray[np.bool_],
        values: Floats,
        spacing_mm: tuple[float, float, float],
    ) -> None:
        self.mask, self.intensity_mask, self.values = mask, intensity_mask, values
        self._spacing, self.spacing_mm = spacing_mm, np.array(spacing_mm)

    @cached_property
    def _mesh(self) -> tuple[float, float]:
        return measure_mesh(self.mask, self._spacing)

    @property
    def volume(self) -> float:
        """V, inside the mesh, in mm³."""
        return self._mesh[0]

    @property
    def area(self) -> float:
        """A, of the mesh, in mm²."""
        return self._mesh[1]

    @property
    def sphericity(self) -> float:
        """Area of the ball of that volume, over A."""
        return float((36 * math.pi * self.volume**2) ** (1 / 3) / self.area)

    @cached_property
    def places_mm(self) -> Floats:
        """Centres of the voxels of the shape (N, 3)."""
        return np.argwhere(self.mask) * self.spacing_mm

    @cached_property
    def vertices_mm(self) -> Floats:
        """Vertices of the mesh (V, 3)."""
        return find_vertices(self.mask) * self.spacing_mm

    @cached_property
    def hull(self) -> ConvexHull:
        """Convex hull of the vertices."""
        return ConvexHull(self.vertices_mm)

    @cached_property
    def box_mm(self) -> Floats:
        """Sides of the box along the axes round the mesh (3,)."""
        return np.ptp(self.vertices_mm, axis=0)

    @cached_property
    def axes_mm(self) -> Floats:
        """4 √λ, from the longest to the shortest (3,): λ are the eigenvalues of the covariance of the voxels' centres."""
        centred = self.places_mm - self.places_mm.mean(axis=0)
        eigenvalues = np.linalg.eigvalsh(centred.T @ centred / max(len(centred) - 1, 1))[::-1]
        return 4 * np.sqrt(eigenvalues.clip(0))

    @property
    def shift_mm(self) -> float:
        """Distance between the centres of the shape and of the intensities; NaN where these sum to 0."""
        total = self.values.sum()
        if total == 0:
            return math.nan
        weighted = self.values @ (np.argwhere(self.intensity_mask) * self.spacing_mm) / total
        return float(np.linalg.norm(weighted - self.places_mm.mean(axis=0)))

    @cached_property
    def autocorrelation(self) -> tuple[float, float]:
        """Moran's I and Geary's C with the weights 1 / distance, by Fourier transform.

        NaN where all intensities are alike, and for regions of more than MAX_CORRELATED / 8 voxels in their box.
        """
        (box,) = (tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(self.intensity_mask)),)
        mask = self.intensity_mask[box]
        centred = np.zeros(mask.shape)
        centred[mask] = self.values - self.values.mean()
        n, squares = len(self.values), float((centred**2).sum())
        shape = [fft.next_fast_len(2 * side, real=True) for side in mask.shape]
        if squares == 0 or math.prod(shape) > MAX_CORRELATED:
            return math.nan, math.nan
        lags = [fft.fftfreq(side, 1 / side) * mm for side, mm in zip(shape, self.spacing_mm, strict=True)]
        z, y, x = np.meshgrid(*lags, indexing="ij", sparse=True)
        distance = np.sqrt(z**2 + y**2 + x**2)
        distance[0, 0, 0] = math.inf
        weights = fft.rfftn(1 / distance)

        def sum_neighbours(of: Floats) -> Floats:
            spread: Floats = fft.irfftn(fft.rfftn(of, shape) * weights, shape)[tuple(map(slice, mask.shape))][mask]
            return spread

        of_mask, of_values = sum_neighbours(mask.astype(np.float64)), sum_neighbours(centred)
        values, total = centred[mask], float(of_mask.sum())
        if total == 0:
            return math.nan, math.nan
        alike, squared = float(values @ of_values), float(values**2 @ of_mask)
        return n * alike / (total * squares), (n - 1) * (squared - alike) / (total * squares)


def _ellipsoid_volume(x: Shape) -> float:
    return float(math.pi / 6 * np.prod(x.axes_mm))


def _ellipsoid_area(x: Shape) -> float:
    """4π a b Σ_ν (αβ)^ν / (1 − 4ν²) P_ν((α² + β²) / (2αβ)) with α² = 1 − b²/a², β² = 1 − c²/a², a ≥ b ≥ c, ν to 20."""
    a, b, c = x.axes_mm / 2
    alpha, beta = (math.sqrt(1 - (side / a) ** 2) for side in (b, c))
    if alpha * beta == 0:  # a = b, where only the first and highest terms of P_ν are left: an oblate or a ball
        flat = beta
        if flat == 0:
            return float(4 * math.pi * a**2)
        return float(2 * math.pi * a**2 * (1 + (1 - flat**2) / flat * math.atanh(flat)) if flat < 1 else 2 * math.pi * a**2)
    order = np.arange(_LEGENDRE_TERMS + 1)
    terms = (alpha * beta) ** order / (1 - 4 * order**2)
    return float(4 * math.pi * a * b * legendre.legval((alpha**2 + beta**2) / (2 * alpha * beta), terms))


def _box_area(x: Shape) -> float:
    z, y, x_ = x.box_mm
    return float(2 * (z * y + z * x_ + y * x_))


FEATURES: Mapping[str, Feature[Shape]] = {
    "volume": Feature("RNU0", "V, inside the mesh", lambda x: x.volume),
    "vol_approx": Feature("YEKZ", "number of voxels · volume of a voxel", lambda x: len(x.places_mm) * x.spacing_mm.prod()),
    "area_mesh": Feature("C0JK", "A, of the mesh", lambda x: x.area),
    "av": Feature("2PR5", "A / V", lambda x: x.area / x.volume),
    "comp_1": Feature("SKGS", "V / (√π A^1.5)", lambda x: x.volume / (math.sqrt(math.pi) * x.area**1.5)),
    "comp_2": Feature("BQWJ", "36 π V² / A³", lambda x: x.sphericity**3),
    "sph_dispr": Feature("KRCK", "A / (36 π V²)^⅓", lambda x: 1 / x.sphericity),
    "sphericity": Feature("QCFX", "(36 π V²)^⅓ / A", lambda x: x.sphericity),
    "asphericity": Feature("25C7", "(A³ / (36 π V²))^⅓ − 1", lambda x: 1 / x.sphericity - 1),
    "com": Feature("KLMA", "distance between the centres of the shape and of its intensities", lambda x: x.shift_mm),
    "diam": Feature("L0JK", "largest distance of two vertices", lambda x: pdist(x.hull.points[x.hull.vertices]).max()),
    "pca_maj_axis": Feature("TDIC", "4 √λ_1, λ eigenvalues of the covariance of voxel centres", lambda x: x.axes_mm[0]),
    "pca_min_axis": Feature("P9VJ", "4 √λ_2", lambda x: x.axes_mm[1]),
    "pca_least_axis": Feature("7J51", "4 √λ_3", lambda x: x.axes_mm[2]),
    "pca_elongation": Feature("Q3CK", "√(λ_2 / λ_1)", lambda x: _divide(x.axes_mm[1], x.axes_mm[0])),
    "pca_flatness": Feature("N17B", "√(λ_3 / λ_1)", lambda x: _divide(x.axes_mm[2], x.axes_mm[0])),
    "vol_dens_aabb": Feature("PBX1", "V / volume of the box along the axes", lambda x: x.volume / x.box_mm.prod()),
    "area_dens_aabb": Feature("R59B", "A / area of that box", lambda x: x.area / _box_area(x)),
    "vol_dens_aee": Feature(
        "6BDE", "V / volume of the ellipsoid with the axes 4 √λ", lambda x: _divide(x.volume, _ellipsoid_volume(x))
    ),
    "area_dens_aee": Feature("RDD2", "A / area of that ellipsoid", lambda x: _divide(x.area, _ellipsoid_area(x))),
    "vol_dens_conv_hull": Feature("R3ER", "V / volume of the convex hull of the mesh", lambda x: x.volume / x.hull.volume),
    "area_dens_conv_hull": Feature("7T7F", "A / area of that hull", lambda x: x.area / x.hull.area),
    "integ_int": Feature("99N0", "V · mean intensity", lambda x: x.volume * x.values.mean()),
    "moran_i": Feature(
        "N365", "N / Σ w_kl · Σ w_kl (x_k − μ)(x_l − μ) / Σ (x_k − μ)², w = 1 / distance", lambda x: x.autocorrelation[0]
    ),
    "geary_c": Feature("NPT7", "(N − 1) / (2 Σ w_kl) · Σ w_kl (x_k − x_l)² / Σ (x_k − μ)²", lambda x: x.autocorrelation[1]),
}


def _divide(above: float, below: float) -> float:
    """NaN where there is nothing to divide by: a single voxel has no axes."""
    return above / below if below else math.nan
