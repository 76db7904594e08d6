"""702 features of intensity, texture and wavelets, as many and of the kinds that studies of kernels and thickness report.

J. Choe et al., Radiology 292 (2019) 365 (two kernels), and S. Park et al., Korean J Radiol 20 (2019) 1431 (slice thickness),
report "702 radiomic features (tumor intensity, texture, and wavelet features)". Their lists were not to be had. 702 is 9 × 78: 78
features of the image and of 8 wavelet bands, in the way that S. B. Lee et al., Invest Radiol 57 (2022) 308, print theirs (18
first order, 68 second order and 688 = 8 × 86 wavelet features). The 78 here are a choice that gives this number: PyRadiomics' 18
of first order, and 60 of texture: 23 of GLCM (MCC came later), 16 of GLRLM, 16 of GLSZM and 5 of NGTDM.

The bands are those of PyRadiomics: one level of the stationary transform with coif1, a letter for x, y and z each. But the image
is mirrored at its edges, where PyRadiomics lets it repeat itself, and the slices of a region are all there is of it in z.
"""

import numpy as np
import pywt

from ltdiff.radiomics import pyradiomics

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
_TEXTURE_CLASSES = ("glcm", "glrlm", "glszm", "ngtdm")
_CLASSES = ("firstorder", *_TEXTURE_CLASSES)
_LEFT_OUT = ("glcm_MCC",)


def feature_names() -> tuple[str, ...]:
    """The keys of `extract_wavelet_set`, in its order: intensity_…, texture_…, wavelet_BAND_…."""
    names = [name for name in pyradiomics.feature_names(_CLASSES) if name not in _LEFT_OUT]
    return tuple(_key(name, band) for band in ("", *BANDS) for name in names)


def extract_wavelet_set(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    """Features of the voxels of `hu` (Z, Y, X) under `mask` (Z, Y, X), with PixelSpacing (y, x).

    NaN where `pyradiomics.extract_features_in_space` has it. Errors as there.
    """
    images = {"": hu.astype(np.float64)} | wavelet_bands(hu)
    features: dict[str, float] = {}
    for band, image in images.items():
        values = pyradiomics.extract_features_in_space(
            image, mask, spacing_mm=spacing_mm, bin_width=pyradiomics.BIN_WIDTH_HU, classes=_CLASSES
        )
        features |= {_key(name, band): value for name, value in values.items() if name not in _LEFT_OUT}
    return features


def wavelet_bands(hu: np.ndarray) -> dict[str, np.ndarray]:
    """The bands of an image (Z, Y, X), each of its shape, by their names."""
    padding = [(MARGIN_PX, MARGIN_PX + size % 2) for size in hu.shape]  # the transform needs even sizes
    padded = np.pad(hu.astype(np.float64), padding, mode="symmetric")
    inside = tuple(slice(MARGIN_PX, MARGIN_PX + size) for size in hu.shape)
    (found,) = pywt.swtn(padded, WAVELET, level=1, axes=(2, 1, 0))
    return {band: found[band.replace("L", "a").replace("H", "d")][inside] for band in BANDS}


def _key(name: str, band: str) -> str:
    if band:
        return f"wavelet_{band}_{name}"
    feature_class, feature = name.split("_", 1)
    return f"texture_{name}" if feature_class in _TEXTURE_CLASSES else f"intensity_{feature}"
