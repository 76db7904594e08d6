"""Features: PyRadiomics 3.0.1's own values, the IBSI reference values, worked examples, and regions that define little."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from ltdiff.data.rois import disc_mask
from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.radiomics.pyradiomics import FEATURE_CLASSES, MAX_NUM_BINS, extract_features, feature_names

GOLDEN = json.loads((Path(__file__).parent / "pyradiomics_3_0_1.json").read_text())

# The digital phantom of the Image Biomarker Standardisation Initiative; 0 is outside the region.
IBSI_PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
# Reference values of the IBSI manual for the digital phantom, "2D, by slice, averaged" (A. Zwanenburg et al.,
# Radiology 295 (2020) 328; arXiv:1612.07003), printed with three digits.
IBSI_TEXTURE = {
    "glcm_MaximumProbability": 0.519,
    "glcm_JointAverage": 2.14,
    "glcm_SumSquares": 2.69,  # joint variance
    "glcm_JointEntropy": 2.05,
    "glcm_DifferenceAverage": 1.42,  # and dissimilarity
    "glcm_DifferenceVariance": 2.9,
    "glcm_DifferenceEntropy": 1.4,
    "glcm_SumAverage": 4.28,
    "glcm_SumEntropy": 1.6,
    "glcm_JointEnergy": 0.368,  # angular second moment
    "glcm_Contrast": 5.28,
    "glcm_Id": 0.678,
    "glcm_Idn": 0.851,
    "glcm_Idm": 0.619,
    "glcm_Idmn": 0.899,
    "glcm_InverseVariance": 0.0567,
    "glcm_Correlation": -0.0121,
    "glcm_Autocorrelation": 5.09,
    "glcm_ClusterTendency": 5.47,  # and sum variance
    "glcm_ClusterShade": 7.0,
    "glcm_ClusterProminence": 79.1,
    "glcm_Imc1": -0.155,
    "glcm_Imc2": 0.487,
    "glrlm_ShortRunEmphasis": 0.641,
    "glrlm_LongRunEmphasis": 3.78,
    "glrlm_LowGrayLevelRunEmphasis": 0.604,
    "glrlm_HighGrayLevelRunEmphasis": 9.82,
    "glrlm_ShortRunLowGrayLevelEmphasis": 0.294,
    "glrlm_ShortRunHighGrayLevelEmphasis": 8.57,
    "glrlm_LongRunLowGrayLevelEmphasis": 3.14,
    "glrlm_LongRunHighGrayLevelEmphasis": 17.4,
    "glrlm_GrayLevelNonUniformity": 5.2,
    "glrlm_GrayLevelNonUniformityNormalized": 0.46,
    "glrlm_RunLengthNonUniformity": 6.12,
    "glrlm_RunLengthNonUniformityNormalized": 0.492,
    "glrlm_RunPercentage": 0.627,
    "glrlm_GrayLevelVariance": 3.35,
    "glrlm_RunVariance": 0.761,
    "glrlm_RunEntropy": 2.17,
    "ngtdm_Coarseness": 0.121,
    "ngtdm_Contrast": 0.925,
    "ngtdm_Busyness": 2.99,
    "ngtdm_Complexity": 10.4,
    "ngtdm_Strength": 2.88,
}
# The same for intensity statistics, of all 74 voxels at once.
IBSI_STATISTICS = {
    "firstorder_Mean": 2.15,
    "firstorder_Variance": 3.05,
    "firstorder_Skewness": 1.08,
    "firstorder_Median": 1.0,
    "firstorder_Minimum": 1.0,
    "firstorder_10Percentile": 1.0,
    "firstorder_90Percentile": 4.0,
    "firstorder_Maximum": 6.0,
    "firstorder_InterquartileRange": 3.0,
    "firstorder_Range": 5.0,
    "firstorder_MeanAbsoluteDeviation": 1.55,
    "firstorder_RobustMeanAbsoluteDeviation": 1.11,
    "firstorder_Energy": 567.0,
    "firstorder_RootMeanSquared": 2.77,
    "firstorder_Entropy": 1.27,
    "firstorder_Uniformity": 0.512,
}


def extract_plane(image_hu, mask, *, spacing_mm, **settings):
    """Of one slice."""
    return extract_features(image_hu[None], mask[None], spacing_mm=(1, *spacing_mm), **settings)


def textured_disc(radius: int = 11, size: int = 41) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = disc_mask((size, size), centre_yx=(20, 17), radius_px=radius)
    return rng.normal(-700, 80, (size, size)), mask


def full_extractor(
    image_hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float], *, between_slices_mm: float = 1.0
) -> dict[str, float]:
    """Of an image (Z, Y, X)."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(binWidth=25, force2D=True, additionalInfo=False)
    extractor.disableAllFeatures()
    for name in FEATURE_CLASSES:
        extractor.enableFeatureClassByName(name)
    volumes = [sitk.GetImageFromArray(volume) for volume in (image_hu.astype(float), mask.astype(np.uint8))]
    for volume in volumes:
        volume.SetSpacing((spacing_mm[1], spacing_mm[0], between_slices_mm))
    return {name.removeprefix("original_"): float(value) for name, value in extractor.execute(*volumes).items()}


def test_values_of_pyradiomics_3_0_1():
    features = extract_plane(np.array(GOLDEN["image_hu"]), np.array(GOLDEN["mask"]), spacing_mm=tuple(GOLDEN["spacing_mm"]))
    assert features == pytest.approx(GOLDEN["features"], rel=1e-9)


def test_equal_to_the_full_extractor():
    image_hu, mask = textured_disc()
    expected = full_extractor(image_hu[None], mask[None], (0.7, 0.9))
    assert extract_plane(image_hu, mask, spacing_mm=(0.7, 0.9)) == pytest.approx(expected, rel=1e-9)


def test_a_region_of_several_slices_is_measured_in_the_plane():
    """The matrices of all slices together, as PyRadiomics' force2D has them."""
    image_hu, mask = textured_disc()
    volume, region = np.stack([image_hu, image_hu[::-1], image_hu.T]), np.stack([mask, mask & (image_hu > -750), mask])
    expected = full_extractor(volume, region, (0.7, 0.9), between_slices_mm=2.0)
    values = extract_features(volume, region, spacing_mm=(2.0, 0.7, 0.9))
    assert values == pytest.approx(expected, rel=1e-9)
    assert PYRADIOMICS.measure(volume, region, (2.0, 0.7, 0.9), ["glcm"])[0] == {n: values[n] for n in feature_names(["glcm"])}


def test_ibsi_texture_values():
    slices = [extract_plane(plane, plane > 0, spacing_mm=(2, 2), bin_width=1) for plane in IBSI_PHANTOM]
    means = {name: np.mean([features[name] for features in slices]) for name in IBSI_TEXTURE}
    assert means == pytest.approx(IBSI_TEXTURE, rel=5e-3)


def test_ibsi_intensity_statistics():
    plane = IBSI_PHANTOM.reshape(-1, 5)
    features = extract_plane(plane, plane > 0, spacing_mm=(2, 2), bin_width=1, classes=["firstorder"])
    assert {name: features[name] for name in IBSI_STATISTICS} == pytest.approx(IBSI_STATISTICS, rel=5e-3)
    assert features["firstorder_Kurtosis"] - 3 == pytest.approx(-0.355, rel=5e-3)  # IBSI's is excess kurtosis


def test_ngtdm_worked_example():
    """The 4 × 4 image of PyRadiomics' documentation: s = (13.35, 2, 3.03, 10.075) at levels 1, 2, 3, 5.

    Its table prints 2.63 for level 3, its own sum below the table 3.03.
    """
    image = np.array([[1, 2, 5, 2], [3, 5, 1, 3], [1, 3, 5, 5], [3, 1, 1, 1]])
    levels, probability = np.array([1, 2, 3, 5]), np.array([6, 2, 4, 4]) / 16
    differences = np.array([13.35, 2.0, 3.03, 10.075])
    p_i, p_j, i, j = probability[:, None], probability[None], levels[:, None], levels[None]
    expected = {
        "ngtdm_Coarseness": 1 / (probability @ differences),
        "ngtdm_Contrast": (p_i * p_j * (i - j) ** 2).sum() / (4 * 3) * differences.sum() / 16,
        "ngtdm_Busyness": (probability @ differences) / np.abs(i * p_i - j * p_j).sum(),
        "ngtdm_Strength": ((p_i + p_j) * (i - j) ** 2).sum() / differences.sum(),
    }
    features = extract_plane(image, np.ones((4, 4)), spacing_mm=(1, 1), bin_width=1, classes=["ngtdm"])
    assert {name: features[name] for name in expected} == pytest.approx(expected, rel=1e-3)


def test_only_the_region_counts():
    image_hu, mask = textured_disc()
    spoilt = np.where(mask, image_hu, np.nan)
    padded = np.pad(spoilt, ((30, 5), (0, 12)), constant_values=1e9)
    expected = extract_plane(image_hu, mask, spacing_mm=(1, 1))
    assert extract_plane(spoilt, mask, spacing_mm=(1, 1)) == expected
    assert extract_plane(padded, np.pad(mask, ((30, 5), (0, 12))), spacing_mm=(1, 1)) == expected


def test_names():
    image_hu, mask = textured_disc()
    assert list(extract_plane(image_hu, mask, spacing_mm=(1, 1))) == feature_names()
    assert len(feature_names()) == 18 + 24 + 16 + 5
    assert all(name.startswith("ngtdm_") for name in feature_names(["ngtdm"]))


def test_bins_start_at_a_multiple_of_the_width():
    """24 and 26 HU share no bin of 25 HU although they are 2 HU apart; 26 and 49 share one."""
    mask = np.ones((2, 2), bool)
    apart, together = np.array([[24, 26], [26, 24]]), np.array([[26, 49], [49, 26]])
    assert extract_plane(apart, mask, spacing_mm=(1, 1))["firstorder_Entropy"] == pytest.approx(1)
    assert extract_plane(together, mask, spacing_mm=(1, 1))["firstorder_Entropy"] == pytest.approx(0, abs=1e-9)


def test_a_constant_region_defines_no_ratio():
    features = extract_plane(np.full((9, 9), -800), np.ones((9, 9), bool), spacing_mm=(1, 1))
    undefined = {name for name, value in features.items() if math.isnan(value)}
    assert undefined == {
        "firstorder_Skewness",
        "firstorder_Kurtosis",
        "glcm_Correlation",
        "glcm_Imc1",
        "glcm_MCC",
        "ngtdm_Busyness",
        "ngtdm_Coarseness",
        "ngtdm_Contrast",
        "ngtdm_Strength",
    }
    assert features["firstorder_Mean"] == -800
    assert features["glcm_Contrast"] == 0


@pytest.mark.parametrize("region", [np.s_[4, 4], np.s_[4, 2:8], np.s_[2:8, 4]], ids=["pixel", "row", "column"])
def test_a_region_without_two_dimensions_defines_nothing(region):
    mask = np.zeros((9, 9), bool)
    mask[region] = True
    features = extract_plane(np.random.default_rng(0).normal(size=(9, 9)), mask, spacing_mm=(1, 1))
    assert list(features) == feature_names()
    assert all(math.isnan(value) for value in features.values())


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_two_pixels_on_a_diagonal_do_not_crash():
    features = extract_plane(np.array([[0, 100], [300, 700]]), np.eye(2, dtype=bool), spacing_mm=(1, 1))
    assert features["firstorder_Mean"] == 350


def test_bad_values_are_refused():
    mask = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="not finite"):
        extract_plane(np.full((4, 4), np.nan), mask, spacing_mm=(1, 1))
    with pytest.raises(ValueError, match=f"{MAX_NUM_BINS} bins"):
        extract_plane(np.linspace(0, 1e6, 16).reshape(4, 4), mask, spacing_mm=(1, 1))
    with pytest.raises(ValueError, match="empty"):
        extract_plane(np.zeros((4, 4)), ~mask, spacing_mm=(1, 1))


def test_pyradiomics_is_quiet(capfd):
    image_hu, mask = textured_disc()
    extract_plane(image_hu, mask, spacing_mm=(1, 1))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
