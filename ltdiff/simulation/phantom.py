"""A chest phantom: `build_phantom` draws a patient; slices of it are attenuation in HU and exact lesion masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ltdiff.simulation.anatomy import AIR_HU, Anatomy, SliceTexture, draw_anatomy
from ltdiff.simulation.lesions import Lesion, draw_lesions
from ltdiff.simulation.shapes import Grid, coverage
from ltdiff.simulation.texture import Texture
from ltdiff.simulation.vessels import Tubes, accompany, grow_tree, merge

_VESSEL_HU, _BRONCHUS_WALL_HU = 45.0, 20.0
_LESION_TEXTURE_HU = 100.0
_PLANE_MM = 1.7  # organs are averaged over planes at most this far apart
_MARGIN_MM = 12.0  # round the trunk, whose outline is bent
Z_RANGE_MM = (-120.0, 150.0)  # where lungs and vessels are complete
_SHELL_HU, _FOAM_HU, _FRAME_HU, _CLOTH_HU = 60.0, -965.0, -300.0, -500.0
_HALF_WIDTH_MM = 235.0  # of the couch
_SHEET_MM = 0.4  # half of a cloth's thickness
_SHEETS = ((7, 3.5), (5, 8.0), (9, 17.0), (4, 24.0))  # number of folds, and mean distance from the skin in mm
CLOTHES_REACH_MM = 40.0


@dataclass(frozen=True)
class Couch:
    """The surroundings: clothes, and a curved carbon shell with a foam core, `top_y_mm` below the isocentre, on a solid frame.

    Every field of view cuts the couch off, and the cut matters: an image that ends in something bright has power at all
    frequencies in which no kernel shows.
    """

    top_y_mm: float
    curvature_per_mm: float
    depth_mm: float
    frame_half_width_mm: float
    fold_phase: float

    def attenuation(self, grid: Grid) -> np.ndarray:
        """HU above air (size, size) of the couch, read-only."""
        return _couch_attenuation(self, grid)

    def clothes(self, outside_mm: np.ndarray, x: np.ndarray, y: np.ndarray, *, pixel_mm: float) -> np.ndarray:
        """HU above air of folded sheets; `outside_mm` is the distance from the skin, x (columns,), y (rows, 1)."""
        angle = np.arctan2(x, -y)
        total = np.zeros_like(outside_mm)
        for folds, height_mm in _SHEETS:
            waves = np.sin(folds * angle + self.fold_phase) + 0.5 * np.sin((3 * folds + 1) * angle - self.fold_phase)
            total += coverage(_SHEET_MM - np.abs(outside_mm - height_mm * (1 + 0.35 * waves)), pixel_mm)
        return np.where((y < self.top_y_mm - 25) & (outside_mm > 0), np.minimum(total, 1) * (_CLOTH_HU + 1000), 0)


@lru_cache(maxsize=2)
def _couch_attenuation(couch: Couch, grid: Grid) -> np.ndarray:
    x, y = grid.axis_mm, grid.axis_mm[:, None]
    below_mm = y - couch.top_y_mm + couch.curvature_per_mm * x**2
    inside = np.minimum(np.minimum(below_mm, couch.depth_mm - below_mm), _HALF_WIDTH_MM - np.abs(x))
    frame = np.minimum(couch.frame_half_width_mm - np.abs(x), below_mm - couch.depth_mm - 6)
    frame = np.minimum(frame, 240 - np.hypot(x, y))  # the scan field ends at 250
    hu = coverage(inside, grid.pixel_mm) * (_FOAM_HU + 1000)
    for shape, value in ((1.2 - np.abs(inside), _SHELL_HU), (frame, _FRAME_HU)):
        hu += coverage(shape, grid.pixel_mm) * (value + 1000 - hu)
    hu.setflags(write=False)
    return hu


def draw_couch(patient_back_mm: float, rng: np.random.Generator) -> Couch:
    """A couch under a patient whose back is `patient_back_mm` below the isocentre."""
    return Couch(
        top_y_mm=patient_back_mm + rng.uniform(6, 10),
        curvature_per_mm=rng.uniform(5e-4, 9e-4),
        depth_mm=rng.uniform(20, 30),
        frame_half_width_mm=rng.uniform(40, 75),
        fold_phase=rng.uniform(0, 6),
    )


@dataclass(frozen=True)
class LungStructure:
    """Appearance of the lungs: their vessel trees, and the tissue in between.

    Args:
        texture_hu: standard deviation of the tissue in a thin slice.
        gravity_hu_per_mm: how much denser it gets towards the back of a supine patient.
        leaves_per_tree: ends of each vessel tree, a power of two.
        leaf_radius_mm: radius of a vessel at its end.
    """

    texture_hu: float = 64.0
    gravity_hu_per_mm: float = 0.3
    leaves_per_tree: int = 4096
    leaf_radius_mm: float = 0.4


@dataclass(frozen=True)
class Phantom:
    """One patient: organs, vessel and airway trees, textures, couch and lesions."""

    anatomy: Anatomy
    couch: Couch
    vessels: Tubes
    bronchi: Tubes
    lumina: Tubes
    fine: Texture
    coarse: Texture
    lung: LungStructure
    lesions: tuple[Lesion, ...]

    def attenuation(self, grid: Grid, *, z_mm: float, thickness_mm: float) -> np.ndarray:
        """HU (size, size), float32, averaged over a slice of `thickness_mm` round `z_mm`."""
        hu = AIR_HU + self.couch.attenuation(grid)
        rows, columns = self._window(grid, _MARGIN_MM)
        x, y = grid.axis_mm[columns], grid.axis_mm[rows][:, None]
        texture = SliceTexture(
            fine=self.fine.slice(grid, z_mm=z_mm, thickness_mm=thickness_mm)[rows, columns],
            coarse=self.coarse.slice(grid, z_mm=z_mm, thickness_mm=thickness_mm)[rows, columns],
        )
        lung = self._lung(grid, rows, columns, texture, z_mm, thickness_mm)
        num = max(1, int(np.ceil(thickness_mm / _PLANE_MM)))
        planes = z_mm + thickness_mm * ((np.arange(num) + 0.5) / num - 0.5)
        mean = np.zeros_like(lung)
        for z in planes:
            mean += self.anatomy.attenuation(x, y, float(z), texture=texture, lung=lung, pixel_mm=grid.pixel_mm)
        mean /= len(planes)
        hu[rows, columns] += mean - AIR_HU
        self._add_clothes(hu, grid, z_mm)
        self._paint_lesions(hu, grid, texture, (rows, columns), z_mm, thickness_mm)
        return hu

    def lesion_labels(self, grid: Grid, *, z_mm: float, thickness_mm: float) -> np.ndarray:
        """Labels (size, size), uint8: the lesion that fills at least half of the voxel, or 0."""
        labels = np.zeros((grid.size, grid.size), np.uint8)
        for lesion in self._lesions_near(z_mm, thickness_mm):
            filled = lesion.fill(grid, z_mm=z_mm, thickness_mm=thickness_mm) >= 0.5
            labels[lesion.window(grid)][filled] = lesion.label
        return labels

    def _add_clothes(self, hu: np.ndarray, grid: Grid, z_mm: float) -> None:
        rows, columns = self._window(grid, CLOTHES_REACH_MM)
        x, y = grid.axis_mm[columns], grid.axis_mm[rows][:, None]
        outside_mm = -self.anatomy.trunk_distance(x, y, z_mm)
        hu[rows, columns] += self.couch.clothes(outside_mm, x, y, pixel_mm=grid.pixel_mm)

    def _window(self, grid: Grid, margin_mm: float) -> tuple[slice, slice]:
        """Rows and columns of the grid within `margin_mm` of the trunk's bounding box."""
        half_x, half_y = (size + margin_mm for size in (self.anatomy.trunk_x_mm, self.anatomy.trunk_y_mm))
        centre = self.anatomy.centre_y_mm
        return grid.window(centre - half_y, centre + half_y), grid.window(-half_x, half_x)

    def _lung(
        self, grid: Grid, rows: slice, columns: slice, texture: SliceTexture, z_mm: float, thickness_mm: float
    ) -> np.ndarray:
        """HU of lung tissue with vessels and bronchi in the window, as if all of it were lung."""
        behind_mm = grid.axis_mm[rows][:, None] - self.anatomy.centre_y_mm
        tissue = self.anatomy.lung_hu + self.lung.gravity_hu_per_mm * behind_mm
        hu = (tissue + self.lung.texture_hu * texture.fine).astype(np.float32)
        for tubes, value in ((self.vessels, _VESSEL_HU), (self.bronchi, _BRONCHUS_WALL_HU), (self.lumina, AIR_HU)):
            fill = tubes.fill(grid, z_mm=z_mm, thickness_mm=thickness_mm)[rows, columns]
            hu += fill * (value - hu)
        return hu

    def _lesions_near(self, z_mm: float, thickness_mm: float) -> list[Lesion]:
        return [s for s in self.lesions if abs(s.centre_mm[2] - z_mm) < (s.diameter_mm + thickness_mm) / 2]

    def _paint_lesions(
        self, hu: np.ndarray, grid: Grid, texture: SliceTexture, window: tuple[slice, slice], z_mm: float, thickness_mm: float
    ) -> None:
        full = np.zeros_like(hu)
        full[window] = texture.fine
        for lesion in self._lesions_near(z_mm, thickness_mm):
            place = lesion.window(grid)
            fill = lesion.fill(grid, z_mm=z_mm, thickness_mm=thickness_mm)
            value = lesion.hu + (_LESION_TEXTURE_HU * full[place] if lesion.textured else 0)
            hu[place] += fill * (value - hu[place])


def build_phantom(
    seed: int, *, z_range_mm: tuple[float, float], num_lesions: int = 6, lung: LungStructure | None = None
) -> Phantom:
    """Draw a patient from `seed`, with lesions whose centres lie within `z_range_mm`."""
    anatomy_rng, tree_rng, lesion_rng = (np.random.default_rng((seed, stream)) for stream in range(3))
    lung = lung or LungStructure()
    anatomy = draw_anatomy(anatomy_rng)
    arteries, veins = ([_grow(anatomy, lung, side, z, tree_rng) for side in (-1, 1)] for z in (15.0, -15.0))
    return Phantom(
        anatomy=anatomy,
        couch=draw_couch(anatomy.centre_y_mm + anatomy.trunk_y_mm, anatomy_rng),
        vessels=merge(*arteries, *veins),
        bronchi=merge(*(accompany(tree, min_radius_mm=0.9, relative_radius=1.1) for tree in arteries)),
        lumina=merge(*(accompany(tree, min_radius_mm=0.9, relative_radius=0.75) for tree in arteries)),
        fine=Texture(seed=4 * seed, exponent=2.5, min_wavelength_mm=1.0),
        coarse=Texture(seed=4 * seed + 1, exponent=4.0, min_wavelength_mm=8.0),
        lung=lung,
        lesions=tuple(draw_lesions(num_lesions, z_range_mm=z_range_mm, lung_distance=anatomy.lung_distance, rng=lesion_rng)),
    )


def _grow(anatomy: Anatomy, lung: LungStructure, side: int, z_mm: float, rng: np.random.Generator) -> Tubes:
    """A tree from the hilum of one lung (side −1 right, 1 left), `z_mm` high, to points spread evenly in it."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < lung.leaves_per_tree:
        points = rng.uniform((5, -120, Z_RANGE_MM[0] - 10), (150, 120, Z_RANGE_MM[1] + 10), (4 * lung.leaves_per_tree, 3))
        points[:, 0] *= side
        found.append(points[anatomy.lung_distance(*points.T) > 1])
    targets = np.concatenate(found)[: lung.leaves_per_tree]
    hilum = np.array([side * 28.0, anatomy.centre_y_mm + 5, z_mm]) + rng.normal(scale=4, size=3)
    return grow_tree(hilum, targets, leaf_radius_mm=lung.leaf_radius_mm, rng=rng)
