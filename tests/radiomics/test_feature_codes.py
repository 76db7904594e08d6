"""What features are called outside of a table: each has a term of its own, and the unit that it scales with."""

import numpy as np
import pytest

from ltdiff.dicom.coded_terms import UNITS, feature_term, method_term
from ltdiff.radiomics import catalogue, ibsi, pyradiomics, wavelet_set
from ltdiff.radiomics.config import CatalogueConfig, FilterConfig, IbsiConfig
from ltdiff.radiomics.feature_codes import feature_codes
from ltdiff.radiomics.feature_sets import CATALOGUE, FEATURE_SETS, IBSI, PYRADIOMICS, WAVELET, ibsi_set
from ltdiff.radiomics.histogram import Histogram
from ltdiff.radiomics.ibsi_chain import process_region
from ltdiff.radiomics.pyradiomics_tags import TAGS, ibsi_columns
from ltdiff.radiomics.region import cut_region

POWERS = {
    "mm": (1, 0),
    "mm2": (2, 0),
    "mm3": (3, 0),
    "/mm": (-1, 0),
    "HU": (0, 1),
    "HU2": (0, 2),
    "HU.mm3": (3, 1),
    "HU2.mm3": (3, 2),
}
"""Unit → power of a length and of an intensity."""


@pytest.mark.parametrize("feature_set", FEATURE_SETS.values(), ids=FEATURE_SETS)
def test_no_two_columns_have_one_name_and_method(feature_set):
    codes = feature_codes(feature_set)
    assert tuple(codes) == feature_set.choose(None)
    terms = {
        (feature_term(column, code.ibsi).value, method_term(code.method).value if code.method else "")
        for column, code in codes.items()
    }
    assert len(terms) == len(codes)
    assert {code.unit for code in codes.values()} <= UNITS.keys()


def test_codes_are_those_of_ibsi():
    codes = feature_codes(IBSI)
    assert codes["cm_joint_max_3D_comb"] == ("GYBY", "IAZD", "1")
    assert codes["szm_sze_2D"][1] == "8QNN"
    assert codes["stat_mean"] == ("Q4LE", "", "HU")
    assert codes["ivh_v10"] == ("BC2M", "ivh_v10", "1")  # v90 has the same id
    assert feature_codes(CATALOGUE)["GLCM3D_sum_1_Contrast"] == ("ACUI", "GLCM3D_sum_1_Contrast", "1")
    assert feature_codes(CATALOGUE)["ID_GlobalMean"] == ("Q4LE", "", "HU")
    assert feature_codes(PYRADIOMICS)["glcm_Contrast"] == ("ACUI", "JJUI", "1")
    assert feature_codes(PYRADIOMICS)["firstorder_Kurtosis"] == ("", "", "1")  # IBSI's is the excess
    of_wavelets = feature_codes(WAVELET)
    assert of_wavelets["texture_glcm_Contrast"] == ("ACUI", "ITBB", "1")
    assert of_wavelets["intensity_Mean"] == ("Q4LE", "", "HU")
    assert of_wavelets["wavelet_HLL_glcm_Contrast"] == ("ACUI", "wavelet_HLL_glcm_Contrast", "1")


def region() -> tuple[np.ndarray, np.ndarray]:
    hu = np.random.default_rng(3).integers(-90, 300, (5, 9, 11)).astype(np.float32)
    mask = np.zeros(hu.shape, bool)
    mask[1:4, 2:7, 2:9] = True
    mask[2, 1, 3:5] = True
    return hu, mask


def measure_ibsi(length: float, intensity: float) -> dict[str, float]:
    """Of the region in voxels `length` and values `intensity` times as large."""
    hu, mask = region()
    config = IbsiConfig(lowest_hu=None, num_bins=16, ivh_bin_width=2.0 * intensity)
    spacing_mm = (2.0 * length, 1.0 * length, 1.0 * length)
    only = [name for name in ibsi.CLASSES if name != "loc"]  # its ball has a size in mm
    return ibsi.extract_ibsi(process_region(hu * intensity, mask, spacing_mm=spacing_mm, config=config), only=only)[0]


def measure_catalogue(length: float, intensity: float) -> dict[str, float]:
    hu, mask = region()
    histogram = Histogram(-1000 * intensity, 1000 * intensity, 10 * intensity)
    config = CatalogueConfig(bin_width=25 * intensity, histogram=histogram)
    return catalogue.extract_catalogue(cut_region(hu * intensity, mask, spacing_mm=(length, length)), config=config)[0]


def measure_pyradiomics(length: float, intensity: float) -> dict[str, float]:
    hu, mask = region()
    spacing_mm = (2.0 * length, length, length)
    return pyradiomics.extract_features(hu * intensity, mask, spacing_mm=spacing_mm, bin_width=25 * intensity)


def measure_wavelet_set(length: float, intensity: float) -> dict[str, float]:
    """Its bins are always as wide; the response of a filter has no unit."""
    hu, mask = region()
    only = ["intensity", "texture", "wavelet"] if intensity == 1 else ["intensity"]
    values = wavelet_set.extract_wavelet_set(hu * intensity, mask, spacing_mm=(2.0 * length, length, length), only=only)
    return {column: value for column, value in values.items() if column not in ("intensity_Entropy", "intensity_Uniformity")}


@pytest.mark.parametrize("within", ["2_5D", "3D"])
def test_pyradiomics_features_with_an_ibsi_id_have_the_value_of_ibsi(within):
    hu, mask = region()
    names = [name for name in TAGS if within == "3D" or not name.startswith("glszm")]
    columns = ibsi_columns(names, within=within)
    first = float(hu[mask].min() // 25 * 25)  # where PyRadiomics' first bin starts
    processed = process_region(hu, mask, spacing_mm=(2.0, 1.0, 1.0), config=IbsiConfig(lowest_hu=first))
    expected, _ = ibsi.extract_ibsi(processed, only=[*columns.values()])
    classes = tuple(dict.fromkeys(name.split("_")[0] for name in names))
    values = pyradiomics.extract_features(hu, mask, spacing_mm=(2.0, 1.0, 1.0), classes=classes, in_plane=within == "2_5D")
    assert len(columns) == len(names) == len(values) - 3  # kurtosis, total energy and MCC
    assert {name: values[name] for name in columns} == pytest.approx({n: expected[c] for n, c in columns.items()}, rel=1e-6)


@pytest.mark.parametrize(
    ("measure", "feature_set"),
    [(measure_ibsi, IBSI), (measure_catalogue, CATALOGUE), (measure_pyradiomics, PYRADIOMICS), (measure_wavelet_set, WAVELET)],
)
@pytest.mark.parametrize(("length", "intensity"), [(2.0, 1.0), (1.0, 4.0)])
def test_features_scale_with_their_unit(measure, feature_set, length, intensity):
    codes, values, scaled = feature_codes(feature_set), measure(1.0, 1.0), measure(length, intensity)
    for column in scaled:
        of_length, of_intensity = POWERS.get(codes[column].unit, (0, 0))
        expected = values[column] * length**of_length * intensity**of_intensity
        assert scaled[column] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), column


def test_a_filters_response_is_not_in_hu_and_bins_have_numbers():
    filtered = feature_codes(ibsi_set(IbsiConfig(filter=FilterConfig(kind="log"))))
    assert [filtered[name].unit for name in ("stat_mean", "stat_var", "morph_integ_int", "morph_volume")] == [
        "1",
        "1",
        "mm3",
        "mm3",
    ]
    assert feature_codes(ibsi_set(IbsiConfig(ivh_num_bins=100)))["ivh_i10"].unit == "1"
    assert feature_codes(IBSI)["ivh_i10"].unit == "HU"
