"""A standardizer for slices of a manifest that looks at the noise of each slice's series, as whole series are standardized."""

import logging

import pandas as pd
from typing_extensions import override

from ltdiff.data.manifest import in_plane_spacing_mm, read_hu
from ltdiff.inference.method import Method, Slices
from ltdiff.inference.standardizer import Standardizer

logger = logging.getLogger(__name__)


class SeriesMethod(Method):
    """A standardizer, and for each series of a manifest the one that is for it."""

    def __init__(self, standardizer: Standardizer, manifest: pd.DataFrame) -> None:
        self.standardizer = standardizer
        slices = manifest[manifest["role"] == "source"].drop_duplicates(["series_uid", "path", "slice_index"])
        self._slices = slices.sort_values("z_mm")
        self._known: dict[str, Standardizer] = {}

    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        return self.standardizer.standardize(hu, spacing_mm, first_slice=first_slice)

    def for_series(self, series_uid: str) -> Standardizer:
        """The standardizer for a source series; where its slices cannot be read, that of its protocol."""
        if series_uid not in self._known:
            of_series = self._slices[self._slices["series_uid"] == series_uid]
            rows = [{str(key): value for key, value in row.items()} for row in of_series.to_dict("records")]
            spacing_mm = in_plane_spacing_mm(rows[0])
            found = self.standardizer
            try:
                found = found.for_series(lambda number: read_hu(rows[number]), num_slices=len(rows), spacing_mm=spacing_mm)
            except ValueError as error:
                logger.warning("the noise of a series is taken for that of its protocol: %s", error)
            self._known[series_uid] = found
        return self._known[series_uid]
