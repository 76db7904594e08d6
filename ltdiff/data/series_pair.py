"""Two scans on the same grid: the source that is made like the target."""

from dataclasses import dataclass

from ltdiff.data.same_grid import shared_slices
from ltdiff.dicom.raw_data import is_one_event, raw_data_difference
from ltdiff.dicom.scan import Scan


@dataclass(frozen=True)
class SeriesPair:
    """Two scans on the same grid, slice i of one belongs to slice i of the other: `source` is made like `target`."""

    source: Scan
    target: Scan

    @classmethod
    def of(cls, source: Scan, target: Scan) -> "SeriesPair":
        """Pair two scans on the same grid; slices at an end that only one of them has are left out."""
        return cls(*shared_slices(source, target))

    @property
    def raw_data_difference(self) -> str:
        """What their headers say against one set of raw data; "" if nothing."""
        return raw_data_difference(*self._raw_data)

    @property
    def is_one_event(self) -> bool:
        """Whether their headers name the same acquisition."""
        return is_one_event(*self._raw_data)

    @property
    def _raw_data(self) -> list[list[tuple[str, ...]]]:
        """Of source and target slices; none where one of them is in a volume file."""
        couples = zip(self.source.slices, self.target.slices, strict=True)
        known = [(one.raw_data, other.raw_data) for one, other in couples if one.raw_data and other.raw_data]
        return [[couple[side] for couple in known] for side in (0, 1)]
