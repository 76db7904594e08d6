"""The regions of a DICOM series and what was measured in them, as DICOM: a Segmentation and a Measurement Report of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdiff.data.masks import find_segmentation
from ltdiff.dicom.measurement_report import Algorithm, FeatureCode, write_measurement_report
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.segmentation_reference import SegmentationReference
from ltdiff.dicom.series import Series
from ltdiff.dicom.write_segmentation import write_regions
from ltdiff.system.text import printable


class RegionReport:
    """Gathers the regions of a mask while they are measured, and writes them with their values."""

    def __init__(self, scan: Scan, mask: Path) -> None:
        """`mask` is what `read_named_masks` reads for the scan.

        Raises:
            ValueError: the scan is no DICOM series, and so belongs to no study; the mask cannot be read, or is of another one.
        """
        if not isinstance(scan, Series):
            raise ValueError(f"{printable(scan.path)}: a DICOM report needs an image that is a DICOM series")
        self._series = scan
        path = find_segmentation(mask, scan)
        self._existing = None if path is None else SegmentationReference.read(path, scan)
        self._names: list[str] = []
        self._layers: list[NDArray[np.uint16]] = []

    def add(self, name: str, voxels: NDArray[np.bool_]) -> None:
        """Take up a region (Z, Y, X)."""
        self._names.append(name)
        if self._existing is not None:
            return
        layer = next((layer for layer in self._layers if not layer[voxels].any()), None)
        if layer is None:  # it overlaps with others in all of them
            layer = np.zeros(voxels.shape, np.uint16)
            self._layers.append(layer)
        layer[voxels] = len(self._names)

    def write(
        self,
        values: Mapping[str, Mapping[str, float]],
        *,
        feature_codes: Mapping[str, FeatureCode],
        algorithm: tuple[str, str],
        parameters: tuple[str, ...],
        folder: Path,
    ) -> list[Path]:
        """Write the report, and the segmentation that it refers to where the mask is none of the same study; their files.

        `values` has the columns of each region by its name, `algorithm` is what measured them, by name and version, and
        `parameters` are sentences on how.

        Raises:
            ValueError: the series is no longer what it was.
        """
        written = []
        reference = self._existing
        if reference is None:
            written.append(write_regions(self._series, self._names, self._layers, folder=folder))
            reference = SegmentationReference.read(written[0], self._series)
            assert reference is not None
            names = dict(enumerate(self._names, 1))
        else:
            names = reference.names
        numbers = {name: number for number, name in names.items()}
        written.append(
            write_measurement_report(
                self._series,
                {numbers[name]: row for name, row in values.items()},
                feature_codes=feature_codes,
                segmentation=reference,
                algorithm=Algorithm(*algorithm, parameters),
                folder=folder,
            )
        )
        return written
