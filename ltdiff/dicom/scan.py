"""A CT scan as the rest of ltdiff sees it: where its slices lie, how it was acquired, and its HU.

A DICOM series is one (dicom/series), and so is a volume file (data/volume_files).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdiff.dicom.hounsfield import Levels

AIR_FILL_HU = -1024.0
"""What padding becomes: nothing was measured there, and air is what lies around a patient."""


@dataclass(frozen=True)
class Volume:
    """A scan in memory. Slices ascend in z; those of a volume file are axial, from anterior to posterior and from right to left.

    `hu` float32 (Z, Y, X); `spacing_mm` (z, y, x); `origin_mm` (x, y, z) of the first voxel and `direction` (3 x 3,
    row-major, columns are the x, y and z axes) in DICOM's patient coordinates; both belong to the array as it is here.
    `stored_orientation` is the axis code of the file that it was read from, so that it can be written back unchanged.
    """

    hu: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    stored_orientation: str = "LPS"

    @property
    def num_slices(self) -> int:
        """Number of axial slices."""
        return self.hu.shape[0]


@dataclass(frozen=True)
class StoredSlice:
    """A decoded slice (Y, X): values as they are stored, where there is no pixel, and HU, AIR_FILL_HU where there is none."""

    stored: NDArray[Any]
    padding: NDArray[np.bool_]
    hu: NDArray[np.float32]
    levels: Levels
    """How many of its pixels are air, soft …"""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What shows, without reading it, that a file is another one than it was."""

    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Of the file as it is now."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice of a scan. A volume file holds all of its slices, which have no UIDs."""

    path: Path
    position_mm: tuple[float, float, float]
    z_mm: float
    """Projection of the position on the slice normal."""
    stamp: FileStamp | None = None
    """Of a slice's own file when its header was read."""
    sop_instance_uid: str = ""
    source_sop_instance_uid: str = ""
    """Of the slice that it was derived from, where it was."""
    index: int = 0
    """Place of the slice in its file."""
    raw_data: tuple[str, ...] = field(default=(), repr=False)
    """What the header says of the raw data (dicom/raw_data), dates among it."""
    rescale: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept of its stored values."""
    digest: int = 0
    """Of all that its header said."""


@dataclass(frozen=True, kw_only=True)
class Scan(ABC):
    """A CT scan. "" and None: its files do not say."""

    series_instance_uid: str
    patient_key: str
    """12 hex digits that stand for the patient."""
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    """Between rows (y), between columns (x), as in PixelSpacing."""
    orientation: tuple[float, ...]
    """ImageOrientationPatient: unit vectors along a row and along a column."""
    slices: tuple[SliceHeader, ...]
    """In ascending z_mm."""
    kernel: str = ""
    """Several are joined with a backslash."""
    manufacturer: str = ""
    scanner_model: str = ""
    noise_reduction: str = ""
    """Iterative or learned reconstruction with its strength, as "ADMIRE 3"."""
    slice_thickness_mm: float | None = None
    frame_of_reference_uid: str = ""
    derived: bool = False
    """Made from other images, by ltdiff or anything else."""
    irregularity: str = ""
    """Why its slices form no regular grid in space: a tilted gantry, varying distances; "" where they do."""

    @property
    def path(self) -> Path:
        """The file, or the first file of the series."""
        return self.slices[0].path

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return len(self.slices)

    @abstractmethod
    def check_values(self) -> str:
        """What makes it likely that the values are no HU, also named in the log; "" where nothing does. Some slices are read.

        Raises:
            ValueError: the values are no HU.
        """

    @abstractmethod
    def read_slice(self, index: int) -> NDArray[np.float32]:
        """Slice `index` in HU (Y, X), air outside the field of view. ValueError naming a file that cannot be read."""

    @abstractmethod
    def read_slices(self) -> Iterator[StoredSlice]:
        """All slices in order. ValueError as `read_slice`, and where the values of one, or of all, are no HU."""

    @abstractmethod
    def make_volume(self, slices_hu: NDArray[np.float32]) -> Volume:
        """Images (Z, Y, X) of all slices as a volume on the grid of this scan. ValueError where that is not regular."""

    @property
    def slice_spacing_mm(self) -> float:
        """Mean distance of neighbouring slices; of a single slice its thickness."""
        if self.num_slices == 1:
            return self.slice_thickness_mm or 1.0
        return (self.slices[-1].z_mm - self.slices[0].z_mm) / (self.num_slices - 1)

    @property
    def slice_depths_mm(self) -> NDArray[np.float64]:
        """How far each slice (Z,) reaches along the normal: half way to its neighbours, alike for all of a regular grid."""
        if not self.irregularity:
            return np.full(self.num_slices, self.slice_spacing_mm)
        steps_mm = np.diff([header.z_mm for header in self.slices])
        return (np.append(steps_mm[0], steps_mm) + np.append(steps_mm, steps_mm[-1])) / 2

    def read_hu(self) -> NDArray[np.float32]:
        """All slices in HU (Z, Y, X). ValueError as `read_slice`."""
        return np.stack([one.hu for one in self.read_slices()])

    def read_volume(self) -> Volume:
        """The whole scan in HU. ValueError as `read_slice` and `make_volume`."""
        return self.make_volume(self.read_hu())
