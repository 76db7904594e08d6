"""Settings of the feature catalogue."""

from dataclasses import dataclass

from ltdiff.radiomics.histogram import INTENSITY_HISTOGRAM, Histogram


@dataclass(frozen=True)
class CatalogueConfig:
    """Discretisation of HU.

    Args:
        bin_width: HU per grey level of GLCM, GLRLM, NID, entropy and uniformity.
        histogram: bins of IH, in HU. IBEX's example for CT, −150 … 1000 in bins of 10, flattens every region of lung.
    """

    bin_width: float = 25.0
    histogram: Histogram = INTENSITY_HISTOGRAM

    def __post_init__(self) -> None:
        if not self.bin_width > 0:
            raise ValueError(f"bin_width must be above 0, got {self.bin_width}")

    @property
    def discretisation(self) -> str:
        """The convention, as it is written into every table."""
        h = self.histogram
        return (
            f"fixed bins of {self.bin_width:g} HU that start at a multiple of their width (PyRadiomics; IBSI's fixed bin size "
            f"starts them at the region's minimum); histogram {h.low:g} … {h.high:g} HU in bins of {h.width:g}; no resampling, "
            "no normalisation; matrices symmetric"
        )
