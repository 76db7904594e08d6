"""702 features of intensity, texture and wavelets, as many and of the kinds that studies of kernels and thickness report.

J. Choe et al., Radiology 292 (2019) 365 (two kernels), and S. Park et al., Korean J Radiol 20 (2019) 1431 (slice thickness),
report "702 radiomic features (tumor intensity, texture, and wavelet features)". Their lists were not to be had. 702 is 9 × 78: 78
features of the image and of 8 wavelet bands, in the way that S. B. Lee et al., Invest Radiol 57 (2022) 308, print theirs (18
first order, 68 second order and 688 = 8 × 86 wavelet features). The 78 here are a choice that gives this number: PyRadiomics' 18
of first order, and 60 of texture: 23 of GLCM (MCC came later), 16 of GLRLM, 16 of GLSZM and 5 of NGTDM.

The bands are those of PyRadiomics: one level of the stationary transform with coif1, a letter for x, y and z each. But the image
is mirrored at its edges, where PyRadiomics lets it repeat itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pywt

from ltdiff import __version__
from ltdiff.radiomics import pyradiomics, pyradiomics_tags, space_features
from ltdiff.radiomics.feature import choose_columns
from ltdiff.radiomics.pyradiomics_tags import ibsi_columns
from ltdiff.radiomics.region import Box, find_box
from ltdiff.radiomics.resampling import Spacing
from ltdiff.radiomics.space_features import extract_features_in_space

EXTRACTOR = "ltdiff wavelet"
EXTRACTOR_VERSION = __version__
WAVELET = "coif1"
MARGIN_PX = 6
"""Round a region, more pixels than the 6 taps of the filters reach; a set that reads fewer of them is the same."""
BANDS = ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL")
DISCRETISATION = (
    f"fixed bins of {pyradiomics.BIN_WIDTH_HU:g} HU that start at a multiple of the width, in the image and in each wavelet "
    f"band; in "
    "space, no resampling, no normalisation; matrices symmetric, distance 1 voxel, mean over the 13 directions"
)
IMAGE_TYPES = f"Original images, and the 8 bands of one level of a stationary wavelet transform in space ({WAVELET})."
INTENSITY, TEXTURE, BAND = "intensity", "texture", "wavelet"


class _Column(NamedTuple):
    """A feature: its class here, the band, "" for the image itself, and PyRadiomics' name."""

    kind: str
    band: str
    name: str


def _columns() -> Iterator[tuple[str, _Column]]:
    for band in ("", *BANDS):
        for name in space_features.feature_names():
            feature_class, feature = name.split("_", 1)
            if band:
                yield f"{BAND}_{band}_{name}", _Column(BAND, band, name)
            elif feature_class == "firstorder":
                yield f"{INTENSITY}_{feature}", _Column(INTENSITY, band, name)
            else:
                yield f"{TEXTURE}_{name}", _Column(TEXTURE, band, name)


_COLUMNS: Mapping[str, _Column] = dict(_columns())


def feature_names(only: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns intensity_…, texture_…, wavelet_BAND_…, or `only` those of some of these classes and single features.

    Raises:
        ValueError: a name that is neither.
    """
    return choose_columns({column: about.kind for column, about in _COLUMNS.items()}, only)


def classes_in_space(only: Sequence[str] | None = None) -> set[str]:
    """The classes with features among `feature_names(only)` that compare voxels of different slices."""
    return {_COLUMNS[column].kind for column in feature_names(only)} - {INTENSITY}


def ibsi_codes() -> tuple[dict[str, str], dict[str, str]]:
    """Column → IBSI id, and column → IBSI id of the aggregation; of a band the column itself, as several share the id."""
    columns = ibsi_columns({about.name for about in _COLUMNS.values()}, within="3D")
    ids, aggregations = pyradiomics_tags.ibsi_codes(
        {column: columns[about.name] for column, about in _COLUMNS.items() if about.name in columns}
    )
    return ids, {**aggregations, **{column: column for column in ids if _COLUMNS[column].band}}


def extract_wavelet_set(
    hu: np.ndarray, mask: np.ndarray, *, spacing_mm: Spacing, only: Sequence[str] | None = None
) -> dict[str, float]:
    """Features of the voxels of `hu` (Z, Y, X) under `mask` (Z, Y, X), by column, in the order of `feature_names(only)`.

    NaN and errors as those of `pyradiomics.extract_features`.
    """
    names = feature_names(only)
    box = find_box(mask)
    wanted = [_COLUMNS[column] for column in names]
    images = {"": hu[box].astype(np.float64)}
    if any(about.band for about in wanted):
        images |= wavelet_bands(hu, box)
    found: dict[tuple[str, str], float] = {}
    for band in dict.fromkeys(about.band for about in wanted):
        classes = dict.fromkeys(about.name.split("_")[0] for about in wanted if about.band == band)
        values = extract_features_in_space(
            images[band], mask[box], spacing_mm=spacing_mm, bin_width=pyradiomics.BIN_WIDTH_HU, classes=tuple(classes)
        )
        found |= {(band, name): value for name, value in values.items()}
    return {column: found[_COLUMNS[column].band, _COLUMNS[column].name] for column in names}


def wavelet_bands(hu: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    """The bands of an image (Z, Y, X) in a box of it, by their names; the image is mirrored at its edges."""
    sides = list(zip(box, hu.shape, strict=True))
    around = tuple(slice(max(0, part.start - MARGIN_PX), part.stop + MARGIN_PX) for part in box)
    missing = [(max(0, MARGIN_PX - part.start), max(0, part.stop + MARGIN_PX - size)) for part, size in sides]
    odd = [(0, (part.stop - part.start) % 2) for part in box]  # the transform needs even sizes
    padded = np.pad(np.pad(hu[around].astype(np.float64), missing, mode="symmetric"), odd, mode="edge")
    inside = tuple(slice(MARGIN_PX, MARGIN_PX + part.stop - part.start) for part in box)
    (found,) = pywt.swtn(padded, WAVELET, level=1, axes=(2, 1, 0))
    return {band: found[band.replace("L", "a").replace("H", "d")][inside] for band in BANDS}
