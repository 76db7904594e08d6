"""The catalogue: its columns, and regions that are odd."""

import re
from collections import Counter

import numpy as np
import pytest
from simulated_region import simulated_region

from ltdiff.radiomics.catalogue import extract_catalogue, feature_names
from ltdiff.radiomics.config import CatalogueConfig
from ltdiff.radiomics.region import cut_region


def test_the_numbers_of_the_catalogue():
    names = feature_names()
    assert len(names) == len(set(names)) == 1401 + 49
    assert Counter(name.split("_")[0] for name in names) == {
        "GLCM25D": 330,
        "GLCM3D": 924,
        "GLRLM25D": 33,
        "ID": 55,
        "IH": 49,
        "NID25D": 5,
        "NID3D": 5,
        "GOH": 49,
    }
    assert all(re.fullmatch(r"[A-Z0-9]+(_[a-z0-9+-]+_\d|_[a-z0-9]+)?_[A-Za-z0-9.]+", name) for name in names)


def extract(hu: np.ndarray, mask: np.ndarray, **options):
    return extract_catalogue(cut_region(hu, mask, spacing_mm=(0.7, 0.7)), **options)


def test_regions_that_define_little_say_why():
    rng = np.random.default_rng(0)
    hu, mask = rng.normal(0, 100, (5, 20, 20)).round(), np.zeros((5, 20, 20), bool)
    mask[2, 3, 0] = True  # one voxel, at the border
    values, reasons = extract(hu, mask)
    assert values["ID_GlobalMean"] == hu[2, 3, 0]
    assert values["GLRLM25D_sum_RunPercentage"] == 1
    assert reasons["ID_GlobalVariance"] == reasons["ID_Skewness"] == "all voxels of the region are alike to this feature"
    assert reasons["GLCM3D_sum_1_Energy"] == reasons["NID3D_Coarseness"] == "the region lies in one slice"
    assert reasons["NID25D_Coarseness"] == "no voxel of the region has a neighbour in it"
    mask[2] = True  # a whole slice
    values, reasons = extract(hu, mask)
    assert {name.split("_")[0] for name in reasons} == {"GLCM3D", "NID3D"}
    mask[:] = True  # too thin for an offset of 7 across the slices
    values, reasons = extract(hu, mask)
    assert set(reasons.values()) == {"the region holds no two voxels at this direction and offset"}
    assert {tuple(name.split("_")[::2]) for name in reasons} == {("GLCM3D", "7")}
    assert "GLCM3D_sum_7_Energy" in reasons
    assert "GLCM3D_z0y0x+1_7_Energy" in values.keys() - reasons.keys()


def test_a_constant_region():
    values, reasons = extract(np.full((8, 12, 12), 40), np.ones((8, 12, 12), bool))
    assert values["GLCM3D_sum_7_Energy"] == values["GLCM25D_0_1_MaxProbability"] == 1
    assert values["ID_LocalEntropyMax"] == values["ID_GlobalEntropy"] == values["NID3D_Complexity"] == 0
    assert values["GLRLM25D_0_LongRunEmphasis"] == 144
    undefined = {name.rsplit("_", 1)[1] for name in reasons if not name.startswith("GOH")}
    assert undefined == {
        *("Correlation", "InformationMeasureCorr1"),
        *("Skewness", "Kurtosis"),
        *("Coarseness", "Busyness", "TextureStrength"),
    }
    assert {reason for name, reason in reasons.items() if name.startswith("GOH")} == {
        "the image does not rise anywhere in the region"
    }


def test_thousands_of_grey_levels():
    rng = np.random.default_rng(0)
    hu = rng.permutation(5000 * 4)[: 20 * 20 * 25].reshape(25, 20, 20) % 5000
    values, reasons = extract(hu, np.ones(hu.shape, bool), config=CatalogueConfig(bin_width=1))
    assert values["ID_Range"] > 4900
    assert not reasons


def test_a_voxel_without_neighbours_is_left_out_of_the_differences():
    """As PyRadiomics' documentation and IBSI have it; its code counts such a voxel."""
    region = simulated_region(0)
    mask = region.mask.copy()
    assert not mask[0].any() or not mask[0, :3, :3].any()
    mask[0, 0, 0] = True
    lone, _ = extract(region.hu, mask, only=["NID25D"])
    assert lone == extract(region.hu, region.mask, only=["NID25D"])[0]


@pytest.mark.parametrize(
    ("hu", "mask", "message"),
    [
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool), "is empty"),
        (np.zeros((2, 3, 3)), np.ones((2, 3, 4), bool), "one shape"),
        (np.full((2, 3, 3), np.nan), np.ones((2, 3, 3), bool), "not finite"),
        (np.linspace(0, 1e9, 18).reshape(2, 3, 3), np.ones((2, 3, 3), bool), "bins of 25 HU"),
    ],
)
def test_what_cannot_be_measured_is_refused(hu, mask, message):
    with pytest.raises(ValueError, match=message):
        extract(hu, mask)


def test_values_outside_the_region_do_not_matter():
    """The gradients across its edge apart, and those do not spread what is not finite."""
    region = simulated_region(7)
    hole = np.where(region.mask, region.hu, np.nan)
    inside = [name for name in feature_names() if not name.startswith("GOH")]
    values, reasons = extract(region.hu, region.mask, only=inside)
    assert extract(hole, region.mask, only=inside)[0] == pytest.approx(values, nan_ok=True)
    assert not {name for name in reasons if not name.startswith("GLCM3D")}
    assert np.isfinite(list(extract(hole, region.mask, only=["GOH"])[0].values())).all()


def test_some_features_are_those_of_all_in_the_same_order():
    region = simulated_region(0)
    everything, reasons = extract_catalogue(region)
    assert tuple(everything) == feature_names()
    some = ["NID3D", "ID_LocalStdMax", "ID_Percentile05", "GLCM3D_sum_4_Energy", "GLCM25D_90_1_Contrast"]
    values, some_reasons = extract_catalogue(region, only=some)
    assert tuple(values) == feature_names(some)
    assert tuple(values)[:2] == ("GLCM25D_90_1_Contrast", "GLCM3D_sum_4_Energy")
    assert len(values) == 4 + 5
    assert values == pytest.approx({name: everything[name] for name in values}, nan_ok=True)
    assert some_reasons == {name: reason for name, reason in reasons.items() if name in values}


def test_an_unknown_class():
    with pytest.raises(ValueError, match="no feature or class of features 'SHAPE'"):
        extract(np.zeros((1, 4, 4)), np.ones((1, 4, 4), bool), only=["SHAPE"])
