"""Radiomic features by PyRadiomics (the only import of it), in the plane or in space; the triangles of its marching cubes.

Every value equals that of PyRadiomics' `RadiomicsFeatureExtractor` with the same settings; calling the feature
classes directly saves a third of the time, which for a 2-D region is nearly all overhead.
"""

import importlib.metadata
import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import SimpleITK as sitk
from radiomics import cShape, firstorder, glcm, glrlm, glszm, ngtdm

from ltdiff.radiomics.region import find_box
from ltdiff.radiomics.resampling import Spacing

EXTRACTOR = "PyRadiomics (pyradiomics-bhklab)"
EXTRACTOR_VERSION = importlib.metadata.version("pyradiomics-bhklab")
BIN_WIDTH_HU = 25.0
DISCRETISATION = (
    f"fixed bins of {BIN_WIDTH_HU:g} HU that start at a multiple of the width (PyRadiomics; IBSI's fixed bin size starts them "
    "at the region's minimum); 2-D in the axial plane (force2D), no resampling, no normalisation; matrices symmetric, "
    "distance 1 pixel, mean over the 4 directions"
)
FEATURE_CLASSES = ("firstorder", "glcm", "glrlm", "ngtdm")
CUBE_CORNERS = tuple(product((0, 1), repeat=3))
"""(z, y, x) of corner k of a cube, which is bit k of its pattern."""
MAX_NUM_BINS = 2000  # a matrix has this number squared times 4 directions: 128 MB

_CALCULATORS = {
    "firstorder": firstorder.RadiomicsFirstOrder,
    "glcm": glcm.RadiomicsGLCM,
    "glrlm": glrlm.RadiomicsGLRLM,
    "glszm": glszm.RadiomicsGLSZM,
    "ngtdm": ngtdm.RadiomicsNGTDM,
}
# 0/0 in a region of one value or one grey level: PyRadiomics puts 0, 1 or 10⁶ there, which would rule every mean.
_UNDEFINED_FOR_ONE_VALUE = ("firstorder_Skewness", "firstorder_Kurtosis")
_UNDEFINED_FOR_ONE_LEVEL = (
    "glcm_Correlation",
    "glcm_Imc1",
    "glcm_MCC",
    "ngtdm_Busyness",
    "ngtdm_Coarseness",
    "ngtdm_Contrast",
    "ngtdm_Strength",
)


def extract_features(
    image: np.ndarray,
    mask: np.ndarray,
    *,
    spacing_mm: Spacing,
    bin_width: float = BIN_WIDTH_HU,
    classes: Sequence[str] = FEATURE_CLASSES,
    in_plane: bool = True,
) -> dict[str, float]:
    """Features of the voxels of `image` (Z, Y, X), HU or a filter's response, under `mask` (Z, Y, X), keyed "class_Feature".

    `spacing_mm` is (between slices, rows, columns), `bin_width` in HU. Matrices have 4 directions in the plane, each counted over
    all slices, or with `in_plane=False` 13 in space. Only the box round the region is read.
    NaN stands for what a region does not define: everything for one that `is_thin` (PyRadiomics refuses it); skewness and
    kurtosis of a constant; correlation, IMC1, MCC and NGTDM coarseness, contrast, busyness and strength of a single grey level.
    ValueError for an empty mask, for values that are not finite and for a range of more than MAX_NUM_BINS bins.
    """
    box = find_box(mask)
    values_hu, inside = image[box].astype(np.float64), mask[box].astype(bool)
    check_range(values_hu[inside], bin_width)
    if is_thin(inside):
        return dict.fromkeys(feature_names(classes), float("nan"))
    volume, label = _as_volume(values_hu, spacing_mm), _as_volume(inside.astype(np.uint8), spacing_mm)
    # One remark per region about symmetric matrices, and a traceback where a feature becomes NaN, help nobody.
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    features: dict[str, float] = {}
    for name in classes:
        # label, force2D and force2Ddimension (slices along the first array axis) as the full extractor passes them
        calculator = _CALCULATORS[name](volume, label, binWidth=bin_width, force2D=in_plane, force2Ddimension=0, label=1)
        features |= {f"{name}_{feature}": float(value) for feature, value in calculator.execute().items()}
    return without_undefined(features, values_hu[inside], bin_width)


def is_thin(mask: np.ndarray) -> bool:
    """Return True if the region of a mask (Z, Y, X) is a single pixel high or wide."""
    return min(part.stop - part.start for part in find_box(mask)[1:]) < 2


def feature_names(classes: Sequence[str] = FEATURE_CLASSES) -> list[str]:
    """The keys of `extract_features`, in its order."""
    return [
        f"{name}_{feature}"
        for name in classes
        for feature, deprecated in _CALCULATORS[name].getFeatureNames().items()
        if not deprecated
    ]


@lru_cache(maxsize=16)
def measure_cubes(spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the cube of each pattern adds to a mesh of voxels of (z, y, x) mm, read off PyRadiomics' compiled code.

    Area in mm² (256,), volume in mm³ (256,), and volume for each voxel by which the cube lies away from the origin along z, y, x
    (256, 3). A cube that is moved by a voxel has one before it, with the corners of their common face.
    """
    area, volume = np.zeros((2, 256))
    by_place = np.zeros((256, 3))
    spacing = np.array(spacing_mm, np.float64)
    cubes = [np.reshape([pattern >> k & 1 for k in range(8)], (2, 2, 2)).astype(np.intc) for pattern in range(256)]
    for pattern, cube in enumerate(cubes):
        area[pattern], volume[pattern], _ = cShape.calculate_coefficients(cube, spacing)
    for (pattern, cube), axis in product(enumerate(cubes), range(3)):
        face = cube.take([0], axis)
        _, before, _ = cShape.calculate_coefficients(np.concatenate([face, face], axis), spacing)
        _, both, _ = cShape.calculate_coefficients(np.concatenate([face, cube], axis), spacing)
        by_place[pattern, axis] = both - before - volume[pattern]
    return area, volume, by_place


def check_range(values_hu: np.ndarray, bin_width: float) -> None:
    """ValueError for values (N,) that are not finite, or of a range of more than MAX_NUM_BINS bins."""
    if not np.isfinite(values_hu).all():
        raise ValueError("A region of interest holds values that are not finite.")
    if np.ptp(values_hu) > bin_width * MAX_NUM_BINS:
        raise ValueError(
            f"A region of interest spans {values_hu.min():g} … {values_hu.max():g} HU, "
            f"more than {MAX_NUM_BINS} bins of {bin_width:g} HU."
        )


def _as_volume(voxels: np.ndarray, spacing_mm: Spacing) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing_mm[::-1])
    return image


def without_undefined(features: dict[str, float], values_hu: np.ndarray, bin_width: float) -> dict[str, float]:
    """The features, with NaN in the place of 0/0 in a region whose values (N,), or their grey levels, are all alike."""
    undefined: tuple[str, ...] = ()
    if np.ptp(values_hu) == 0:
        undefined += _UNDEFINED_FOR_ONE_VALUE
    if np.floor(values_hu.min() / bin_width) == np.floor(values_hu.max() / bin_width):
        undefined += _UNDEFINED_FOR_ONE_LEVEL
    return {name: float("nan") if name in undefined else value for name, value in features.items()}
