"""Settings of the feature catalogue and of the IBSI features."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ltdiff.radiomics.histogram import INTENSITY_HISTOGRAM, Histogram

_WHERE = {"space": "in space", "plane": "in the plane"}


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


@dataclass(frozen=True)
class FilterConfig:
    """An image filter of IBSI 2, before the features; the defaults are those of IBSI's reference values.

    Args:
        kind: none, mean, Laplacian of Gaussian, Laws' energy, Gabor, separable wavelet or Simoncelli's.
        within: in space, or in the plane of each slice alone.
        size: voxels on a side of the mean's neighbourhood, odd.
        log_sigma_mm: standard deviation of the Laplacian of Gaussian.
        laws_kernels: one of L3 E3 S3 L5 E5 S5 W5 R5 for each axis x, y, z; only the first two are used in the plane.
        laws_distance: voxels on each side that the energy is averaged over.
        gabor_sigma_mm: standard deviation along the wave.
        gabor_wavelength_mm: of the wave.
        gabor_aspect: standard deviation along the wave over that across.
        gabor_angles: directions in half a turn.
        wavelet: name of the separable wavelet: haar, db3, sym4, coif1 or the like.
        wavelet_response: L or H for each axis x, y, z; only the first two are used in the plane.
        level: of either wavelet, from 1 on.
    """

    kind: Literal["none", "mean", "log", "laws", "gabor", "wavelet", "simoncelli"] = "none"
    within: Literal["space", "plane"] = "space"
    size: int = 5
    log_sigma_mm: float = 1.5
    laws_kernels: str = "L5E5E5"
    laws_distance: int = 7
    gabor_sigma_mm: float = 5.0
    gabor_wavelength_mm: float = 2.0
    gabor_aspect: float = 1.5
    gabor_angles: int = 8
    wavelet: str = "db3"
    wavelet_response: str = "LLH"
    level: int = 1

    def __post_init__(self) -> None:
        names = ("size", "log_sigma_mm", "laws_distance", "gabor_sigma_mm", "gabor_wavelength_mm", "gabor_aspect", "gabor_angles")
        for name in (*names, "level"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.size % 2 == 0:
            raise ValueError(f"size must be odd, got {self.size}")
        if not re.fullmatch("([LES][35]|[WR]5){3}", self.laws_kernels):
            raise ValueError(f"laws_kernels must be three of L3 E3 S3 L5 E5 S5 W5 R5, as L5E5E5, got {self.laws_kernels!r}")
        if not re.fullmatch("[LH]{3}", self.wavelet_response):
            raise ValueError(f"wavelet_response must be three of L and H, as LLH, got {self.wavelet_response!r}")
        if not re.fullmatch("haar|(db|sym|coif)([2-9]|1[0-7]?)|db(1[89]|2[0-9]|3[0-8])|sym(18|19|20)", self.wavelet):
            raise ValueError(f"wavelet must be haar, db1 to db38, sym2 to sym20 or coif1 to coif17, got {self.wavelet!r}")


@dataclass(frozen=True)
class IbsiConfig:
    """IBSI's image processing: resampling, resegmentation and grey levels.

    Args:
        spacing_mm: side of the voxels that image and mask are resampled to; null keeps the image's.
        resample: in space, or in the plane of each slice alone.
        interpolation: of the image, between neighbours or by cubic splines; masks are interpolated linearly, inside from 0.5.
        lowest_hu: voxels below are not measured, and bins start here, which IBSI recommends to be the same for all regions; null
            leaves all in, and bins start at the region's minimum.
        highest_hu: voxels above are not measured; null leaves all in.
        outlier_sigma: voxels further from the region's mean, in standard deviations, are not measured; null leaves all in.
        bin_width: HU per grey level, fixed bin size.
        num_bins: number of grey levels between the region's minimum and maximum, fixed bin number, instead of bin_width.
        ivh_bin_width: HU per bin of the intensity-volume histogram.
        ivh_num_bins: number of its bins between the region's minimum and maximum, instead of ivh_bin_width.
        filter: whose response is measured instead of HU, in the voxels whose HU are within the limits; its bins then start at
            the region's minimum.
    """

    spacing_mm: float | None = None
    resample: Literal["space", "plane"] = "space"
    interpolation: Literal["linear", "cubic"] = "linear"
    lowest_hu: float | None = -1024.0
    highest_hu: float | None = None
    outlier_sigma: float | None = None
    bin_width: float = 25.0
    num_bins: int | None = None
    ivh_bin_width: float = 1.0
    ivh_num_bins: int | None = None
    filter: FilterConfig = FilterConfig()

    def __post_init__(self) -> None:
        for name in ("spacing_mm", "outlier_sigma", "bin_width", "num_bins", "ivh_bin_width", "ivh_num_bins"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.lowest_hu is not None and self.highest_hu is not None and not self.lowest_hu < self.highest_hu:
            raise ValueError(f"lowest_hu must be below highest_hu, got {self.lowest_hu:g} and {self.highest_hu:g}")

    @property
    def first_bin(self) -> float | None:
        """Where bins of fixed size start; None for the region's minimum."""
        return self.lowest_hu if self.filter.kind == "none" else None

    @property
    def discretisation(self) -> str:
        """The processing, as it is written into every table."""
        start = "the region's minimum" if self.first_bin is None else f"{self.first_bin:g} HU"
        bins = f"fixed bins of {self.bin_width:g} HU from {start}" if self.num_bins is None else f"{self.num_bins} bins"
        grid = "no resampling"
        if self.spacing_mm is not None:
            grid = f"{self.interpolation} interpolation to {self.spacing_mm:g} mm {_WHERE[self.resample]}, in whole HU"
        limits = [] if self.lowest_hu is None else [f"from {self.lowest_hu:g} HU"]
        limits += [f"to {self.highest_hu:g} HU"] if self.highest_hu is not None else []
        limits += [f"within {self.outlier_sigma:g} standard deviations"] if self.outlier_sigma is not None else []
        response = (
            "" if self.filter.kind == "none" else f"; response of the {self.filter.kind} filter {_WHERE[self.filter.within]}"
        )
        return f"{bins}; {grid}; voxels {' and '.join(limits) or 'of all HU'}{response} (IBSI)"


IBSI_CONFIGURATIONS: Mapping[str, IbsiConfig] = {
    "A": IbsiConfig(lowest_hu=-500, highest_hu=400, bin_width=25),
    "B": IbsiConfig(spacing_mm=2, resample="plane", lowest_hu=-500, highest_hu=400, num_bins=32),
    "C": IbsiConfig(spacing_mm=2, lowest_hu=-1000, highest_hu=400, bin_width=25, ivh_bin_width=2.5),
    "D": IbsiConfig(spacing_mm=2, lowest_hu=None, outlier_sigma=3, num_bins=32),
    "E": IbsiConfig(
        spacing_mm=2, interpolation="cubic", lowest_hu=-1000, highest_hu=400, outlier_sigma=3, num_bins=32, ivh_num_bins=1000
    ),
    "digital_phantom": IbsiConfig(lowest_hu=None, bin_width=1),
}
"""The image processing of IBSI's reference values (arXiv:1612.07003, 5): A to E of the CT phantom, and of the digital phantom.

A and B are for features in 2-D, C to E for those in 3-D; all have values of both kinds.
"""
