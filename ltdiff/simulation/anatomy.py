"""A patient's chest without vessels, lesions and table: sizes drawn at random, organs as signed distances.

Modelled on a multipurpose chest phantom: trunk with skin, fat and muscle, rib cage, spine and sternum, lungs between the
cage, the mediastinum (heart, aorta, great vessels, trachea) and the domes of the diaphragm. z = 0 is in the middle of the
heart. All lengths are in mm and all values in HU.
"""

from dataclasses import dataclass

import numpy as np

from ltdiff.simulation.shapes import Coordinate, Ellipsoid, coverage, rounded_box_distance, smooth_step, union

AIR_HU = -1000.0
_RIB_PERIOD_MM, _RIB_DESCENT_MM = 28.0, 80.0
_VERTEBRA_PERIOD_MM, _DISC_MM = 26.0, 6.0
_SCAPULA_Z_MM = 25.0  # from here up
_NUM_BENDS = 4


@dataclass(frozen=True)
class SliceTexture:
    """Random fields (rows, columns) of unit variance that give tissues their texture: `fine` and `coarse`."""

    fine: np.ndarray
    coarse: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """One patient's sizes in mm and densities in HU; `bends` (2, _NUM_BENDS, 5) make the outlines irregular."""

    trunk_x_mm: float
    trunk_y_mm: float
    centre_y_mm: float
    fat_mm: float
    wall_mm: float
    lung_hu: float
    soft_tissue_hu: float
    marrow_hu: float
    rib_phase_mm: float
    heart: Ellipsoid
    vessels: Ellipsoid
    liver: Ellipsoid
    spleen: Ellipsoid
    aorta: Ellipsoid
    trachea: Ellipsoid
    bends: np.ndarray

    @property
    def cage_x_mm(self) -> float:
        """Half the width of the cavity inside the ribs at its widest."""
        return self.trunk_x_mm - self.fat_mm - self.wall_mm

    @property
    def cage_y_mm(self) -> float:
        """Half the depth of the cavity inside the ribs."""
        return self.trunk_y_mm - 0.7 * self.fat_mm - self.wall_mm

    @property
    def spine_y_mm(self) -> float:
        """Centre of the vertebral bodies."""
        return self.centre_y_mm + self.cage_y_mm - 16

    def bend(self, x: Coordinate, y: Coordinate, z: Coordinate) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in the regular template that all shapes below are written in."""
        moved = []
        for terms in self.bends:
            shift: Coordinate = 0.0
            for amplitude, fx, fy, fz, phase in terms:
                shift = shift + amplitude * np.sin(fx * x + phase) * np.cos(fy * y + fz * z + 2 * phase)
            moved.append(shift)
        return np.asarray(x + moved[0]), np.asarray(y + moved[1])

    def lung_distance(self, x: Coordinate, y: Coordinate, z: Coordinate) -> np.ndarray:
        """Distance to the nearest lung's surface, positive inside."""
        bx, by = self.bend(x, y, z)
        return self._lungs(bx, by, z, self._cage(bx, by, z))

    def trunk_distance(self, x: Coordinate, y: Coordinate, z: Coordinate) -> np.ndarray:
        """Distance to the skin, positive inside."""
        bx, by = self.bend(x, y, z)
        return self._trunk(bx, by)

    def attenuation(
        self, x: np.ndarray, y: np.ndarray, z: float, *, texture: SliceTexture, lung: np.ndarray, pixel_mm: float
    ) -> np.ndarray:
        """HU (rows, columns) of the plane z for coordinates x (columns,) and y (rows, 1); `lung` fills the lungs."""
        bx, by = self.bend(x, y, z)
        canvas = _Canvas(np.full(bx.shape, AIR_HU, np.float32), pixel_mm)
        cage = self._cage(bx, by, z)
        self._paint_wall(canvas, bx, by, cage, texture)
        self._paint_mediastinum(canvas, bx, by, z, cage, texture)
        canvas.paint(self._lungs(bx, by, z, cage), lung)
        self._paint_airway(canvas, bx, by, z)
        self._paint_ribs(canvas, bx, by, z, cage, texture)
        self._paint_spine(canvas, bx, by, z, texture)
        return canvas.hu

    def _trunk(self, bx: np.ndarray, by: np.ndarray) -> np.ndarray:
        return rounded_box_distance(bx, by - self.centre_y_mm, self.trunk_x_mm, self.trunk_y_mm)

    def _cage(self, bx: np.ndarray, by: np.ndarray, z: Coordinate) -> np.ndarray:
        """Distance to the inner surface of the rib cage, which narrows towards the neck."""
        narrowing = 1 - 0.45 * smooth_step(np.asarray(z, np.float32), 5, 130)
        dy = by - self.centre_y_mm - 12 * (1 - narrowing)
        return rounded_box_distance(bx, dy, self.cage_x_mm * narrowing, self.cage_y_mm * (0.4 + 0.6 * narrowing))

    def _lungs(self, bx: np.ndarray, by: np.ndarray, z: Coordinate, cage: np.ndarray) -> np.ndarray:
        centre = Ellipsoid((0.0, self.centre_y_mm, 0.0), 13, 1.15 * self.cage_y_mm).distance(bx, by, z)
        spine = Ellipsoid((0.0, self.spine_y_mm + 6, 0.0), 27, 27).distance(bx, by, z)
        middle = union(centre, spine, blend_mm=12)
        for organ in (self.heart, self.vessels, self.aorta):
            middle = union(middle, organ.distance(bx, by, z) + 3, blend_mm=10)
        for organ in (self.liver, self.spleen):
            middle = union(middle, organ.distance(bx, by, z), blend_mm=6)
        return np.minimum(cage, -middle)

    def _paint_wall(self, canvas: "_Canvas", bx: np.ndarray, by: np.ndarray, cage: np.ndarray, texture: SliceTexture) -> None:
        trunk = self._trunk(bx, by)
        canvas.paint(trunk, 10.0)  # skin
        canvas.paint(trunk - 2, -105 + 10 * texture.fine)
        inner = rounded_box_distance(
            bx, by - self.centre_y_mm, self.trunk_x_mm - self.fat_mm, self.trunk_y_mm - 0.7 * self.fat_mm
        )
        muscle = self.soft_tissue_hu + 11 * texture.fine - 60 * smooth_step(texture.coarse, 0.4, 1.7)
        canvas.paint(inner + 3 * texture.coarse, muscle)
        for depth_mm in (14, 23):  # fat between the layers of muscle
            canvas.paint(1.5 + 1.4 * texture.coarse - np.abs(cage + depth_mm + 3 * texture.coarse), -85.0)
        canvas.paint(cage + 3, self.soft_tissue_hu - 5)  # pleura

    def _paint_mediastinum(
        self, canvas: "_Canvas", bx: np.ndarray, by: np.ndarray, z: float, cage: np.ndarray, texture: SliceTexture
    ) -> None:
        nodes = smooth_step(texture.coarse, -0.4, 0.85)
        canvas.paint(cage, -95 + 125 * nodes + 8 * texture.fine)
        canvas.paint(np.minimum(self.liver.distance(bx, by, z), cage), 62 + 10 * texture.fine + 6 * texture.coarse)
        canvas.paint(np.minimum(self.spleen.distance(bx, by, z), cage), 48 + 10 * texture.fine)
        heart = self.heart.distance(bx, by, z)
        canvas.paint(np.minimum(heart, cage - 3), 52 + 8 * texture.fine)
        canvas.paint(np.minimum(heart - 9 - 4 * texture.coarse, cage - 3), 40 + 7 * texture.fine)  # blood
        canvas.paint(self.vessels.distance(bx, by, z) - 6 + 7 * texture.coarse, 42 + 7 * texture.fine)
        canvas.paint(self.aorta.distance(bx, by, z) - 1, 44 + 7 * texture.fine)

    def _paint_airway(self, canvas: "_Canvas", bx: np.ndarray, by: np.ndarray, z: float) -> None:
        if z > 35:  # above the carina
            trachea = self.trachea.distance(bx, by, z)
            canvas.paint(trachea + 1.5, 40.0)
            canvas.paint(trachea, AIR_HU)

    def _paint_ribs(
        self, canvas: "_Canvas", bx: np.ndarray, by: np.ndarray, z: float, cage: np.ndarray, texture: SliceTexture
    ) -> None:
        angle = np.abs(np.arctan2(bx, by - self.centre_y_mm))  # 0 at the back, π at the front
        height = z - self.rib_phase_mm + _RIB_DESCENT_MM * (1 - np.cos(angle)) / 2 + 3 * np.sign(bx)
        height = (height + _RIB_PERIOD_MM / 2) % _RIB_PERIOD_MM - _RIB_PERIOD_MM / 2
        scaled = np.sqrt(((cage + 7.5) / 4.2) ** 2 + (height / 6.5) ** 2)
        rib = np.where(angle > 0.25, (1 - scaled) * 4.2, -9)
        bony = smooth_step(angle, 2.75, 2.6)  # cartilage towards the front
        canvas.paint(rib, 110 + bony * (500 + 85 * texture.fine))
        canvas.paint(rib - 1.4, 80 + bony * (self.marrow_hu - 60 + 99 * texture.fine))
        sternum = Ellipsoid((0.0, self.centre_y_mm - self.cage_y_mm - 6, 0.0), 17, 6).distance(bx, by, z)
        canvas.paint(sternum, 380 + 71 * texture.fine)
        canvas.paint(sternum - 1.4, self.marrow_hu - 40 + 99 * texture.fine)
        if z > _SCAPULA_Z_MM:
            y = self.centre_y_mm
            scapula = _bar(
                np.abs(bx), by, (0.6 * self.cage_x_mm, y + 0.85 * self.cage_y_mm), (0.95 * self.cage_x_mm, y + 20), 4.0
            )
            scapula = np.minimum(scapula, -cage - 14)
            canvas.paint(scapula, 480 + 85 * texture.fine)
            canvas.paint(scapula - 1.5, self.marrow_hu + 99 * texture.fine)

    def _paint_spine(self, canvas: "_Canvas", bx: np.ndarray, by: np.ndarray, z: float, texture: SliceTexture) -> None:
        y = self.spine_y_mm
        in_disc = (z % _VERTEBRA_PERIOD_MM) < _DISC_MM
        body = Ellipsoid((0.0, y, 0.0), 19, 15).distance(bx, by, z)
        if in_disc:
            canvas.paint(body, 85 + 14 * texture.fine)
        else:
            canvas.paint(body, 480 + 85 * texture.fine)
            canvas.paint(body - 1.6, self.marrow_hu + 156 * texture.fine + 42 * texture.coarse)
            arch = _bar(np.abs(bx), by, (6.0, y + 16), (38.0, y + 24), 5.0)
            arch = np.maximum(arch, _bar(np.abs(bx), by, (11.0, y + 14), (3.0, y + 34), 4.0))
            canvas.paint(arch, 520 + 85 * texture.fine)
            canvas.paint(arch - 1.5, self.marrow_hu + 80 + 156 * texture.fine)
        process = _bar(np.abs(bx), by, (0.0, y + 34), (0.0, y + 46), 3.5)
        canvas.paint(process, 430 + 85 * texture.fine)
        canvas.paint(process - 1.4, self.marrow_hu + 60 + 127 * texture.fine)
        canvas.paint(Ellipsoid((0.0, y + 22, 0.0), 8.5, 7).distance(bx, by, z), 25.0)  # canal


@dataclass
class _Canvas:
    """HU values (rows, columns) that shapes are painted on, one over the other."""

    hu: np.ndarray
    pixel_mm: float

    def paint(self, distance_mm: np.ndarray, value_hu: np.ndarray | float) -> None:
        """Blend `value_hu` in by the share of each pixel that is inside the shape."""
        rows = np.flatnonzero((distance_mm > -self.pixel_mm).any(axis=1))
        if not len(rows):
            return
        band = slice(rows[0], rows[-1] + 1)
        value = value_hu[band] if isinstance(value_hu, np.ndarray) else np.float32(value_hu)
        self.hu[band] += (value - self.hu[band]) * coverage(distance_mm[band], self.pixel_mm)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A new patient."""
    trunk_x_mm = rng.uniform(148, 178)
    trunk_y_mm = trunk_x_mm * rng.uniform(0.7, 0.82)
    fat_mm, wall_mm = rng.uniform(9, 24), rng.uniform(24, 30)
    centre_y_mm = rng.uniform(-8, 8)
    cage_x_mm, cage_y_mm = trunk_x_mm - fat_mm - wall_mm, trunk_y_mm - 0.7 * fat_mm - wall_mm
    size = cage_x_mm / 120
    spine_y_mm = centre_y_mm + cage_y_mm - 16

    def place(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> Ellipsoid:
        cx, cy, cz = (float(v) for v in np.array([x, y, z]) * size + rng.normal(scale=4, size=3))
        radii = [size * r * rng.uniform(0.9, 1.1) for r in (rx, ry, rz)]
        return Ellipsoid((cx, centre_y_mm + cy, cz), *radii)

    return Anatomy(
        trunk_x_mm=trunk_x_mm,
        trunk_y_mm=trunk_y_mm,
        centre_y_mm=centre_y_mm,
        fat_mm=fat_mm,
        wall_mm=wall_mm,
        lung_hu=rng.uniform(-880, -830),
        soft_tissue_hu=rng.uniform(42, 60),
        marrow_hu=rng.uniform(120, 220),
        rib_phase_mm=rng.uniform(0, _RIB_PERIOD_MM),
        heart=place(32, -24, -15, 54, 42, 60),
        vessels=place(4, -18, 45, 33, 34, 40),
        liver=place(-62, -5, -150, 78, 78, 90),
        spleen=place(70, 5, -165, 65, 72, 90),
        aorta=Ellipsoid((22.0, spine_y_mm - 14, 0.0), rng.uniform(11, 14), rng.uniform(11, 14)),
        trachea=Ellipsoid((0.0, spine_y_mm - 32, 0.0), rng.uniform(7, 9), rng.uniform(8, 10)),
        bends=_draw_bends(rng),
    )


def _draw_bends(rng: np.random.Generator) -> np.ndarray:
    """Rows of amplitude in mm, angular frequencies along x, y and z in 1/mm, and phase."""
    shape = (2, _NUM_BENDS)
    wavelength_mm = rng.uniform(70, 260, (*shape, 3))
    amplitude = 0.015 * wavelength_mm.min(axis=2) * rng.uniform(0.5, 1.2, shape)
    return np.concatenate(
        [amplitude[..., None], 2 * np.pi / wavelength_mm, rng.uniform(0, 2 * np.pi, (*shape, 1))], axis=2
    ).astype(np.float32)


def _bar(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius_mm: float) -> np.ndarray:
    """Distance to a bar with round ends."""
    (sx, sy), (ex, ey) = start, end
    along = np.clip(((x - sx) * (ex - sx) + (y - sy) * (ey - sy)) / ((ex - sx) ** 2 + (ey - sy) ** 2), 0, 1)
    return radius_mm - np.hypot(x - sx - along * (ex - sx), y - sy - along * (ey - sy))
