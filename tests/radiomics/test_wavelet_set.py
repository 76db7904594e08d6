"""The set of 702: how many of each kind, PyRadiomics' own values, and bands that do not depend on what lies far away."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from tiny_run import save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.data.rois import disc_mask
from ltdiff.radiomics.feature_sets import FEATURE_SETS, THIN
from ltdiff.radiomics.parallel import RegionCut
from ltdiff.radiomics.wavelet_set import BANDS, classes_in_space, extract_wavelet_set, feature_names, wavelet_bands

EVEN = (10, 40, 40)
"""Of even sizes, which PyRadiomics does not pad."""


@pytest.fixture(scope="module")
def hu():
    return np.round(np.random.default_rng(0).normal(-600, 60, EVEN))


@pytest.fixture(scope="module")
def mask():
    """Far enough from all edges that a filter of 6 taps does not see them."""
    mask = np.zeros(EVEN, bool)
    mask[4:6] = disc_mask(EVEN[1:], centre_yx=(19, 21), radius_px=9)
    return mask


def _images(*volumes):
    return [sitk.GetImageFromArray(volume) for volume in volumes]


def test_how_many_there_are():
    """18 of intensity, 60 of texture, and 8 bands of both: 702."""
    names = feature_names()
    assert len(set(names)) == len(names) == 702
    assert Counter(name.split("_", 1)[0] for name in names) == {"intensity": 18, "texture": 60, "wavelet": 624}
    assert Counter(name.split("_")[1] for name in names if name.startswith("wavelet")) == dict.fromkeys(BANDS, 78)
    texture = Counter(name.split("_")[1] for name in names if name.startswith("texture"))
    assert texture == {"glcm": 23, "glrlm": 16, "glszm": 16, "ngtdm": 5}
    assert FEATURE_SETS["wavelet"].features == names


def test_bands_are_those_of_pyradiomics_inside(hu):
    image, everywhere = _images(hu, np.ones(EVEN, np.uint8))
    ours = wavelet_bands(hu, tuple(slice(0, n) for n in EVEN))
    for band, name, _ in imageoperations.getWaveletImage(image, everywhere, wavelet="coif1", level=1):
        theirs = sitk.GetArrayFromImage(band)
        inside = (slice(3, -3),) * 3
        np.testing.assert_allclose(ours[name.removeprefix("wavelet-")][inside], theirs[inside], atol=1e-9)
    assert set(ours) == set(BANDS)


def test_values_are_those_of_pyradiomics(hu, mask):
    """Its own extractor on the whole image, wavelets and all."""
    extractor = RadiomicsFeatureExtractor(binWidth=25, wavelet="coif1")
    extractor.disableAllFeatures()
    for name in ("firstorder", "glcm", "glrlm", "glszm", "ngtdm"):
        extractor.enableFeatureClassByName(name)
    extractor.enableImageTypes(Original={}, Wavelet={})
    theirs = extractor.execute(*_images(hu, mask.astype(np.uint8)))
    ours = extract_wavelet_set(hu, mask, spacing_mm=(1.0, 1.0, 1.0))
    for name, value in ours.items():
        kind, feature = name.split("_", 1)
        key = {"intensity": "original_firstorder_", "texture": "original_", "wavelet": "wavelet-"}[kind] + feature
        assert value == pytest.approx(float(theirs[key]), rel=1e-6, abs=1e-9), name


def test_what_lies_beyond_the_cut_changes_nothing(hu, mask):
    """A worker gets a few pixels round the region; odd sizes are padded."""
    slices = slice(4, 6)
    whole = extract_wavelet_set(hu[slices], mask[slices], spacing_mm=(1.0, 0.7, 0.8))
    cut = RegionCut.of(hu[slices], mask[slices], (0.7, 0.8))
    assert cut.hu.shape[1] < EVEN[1]
    assert FEATURE_SETS["wavelet"].extract(*cut) == pytest.approx(whole)


def test_the_command_measures_the_voxels_of_the_whole_scan(hu, mask, tmp_path, capsys):
    """With the distance of slices, which counts for the total energy."""
    spacing_mm = (2.5, 0.7, 0.8)
    files = [
        str(save_volume(a, tmp_path / name, spacing_mm=spacing_mm)) for a, name in ((hu, "hu.nrrd"), (mask * 1, "mask.nrrd"))
    ]
    arguments = ["radiomics", *files, "--features", "wavelet", "--out", str(tmp_path / "table.parquet")]
    assert run_ltdiff(arguments) == 0
    (row,) = pd.read_parquet(tmp_path / "table.parquet").to_dict("records")
    expected = extract_wavelet_set(hu, mask, spacing_mm=spacing_mm)
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert expected["intensity_TotalEnergy"] == pytest.approx(expected["intensity_Energy"] * np.prod(spacing_mm))
    assert row["discretisation"] == FEATURE_SETS["wavelet"].discretisation
    assert run_ltdiff([*arguments, "--only", "texture,wavelet_HHL_glcm_Contrast"]) == 0
    some = pd.read_parquet(tmp_path / "table.parquet")
    names = [name for name in some if name in expected]
    assert names == [name for name in expected if name.startswith("texture") or name == "wavelet_HHL_glcm_Contrast"]
    assert some[names].iloc[0].to_dict() == pytest.approx({name: row[name] for name in names})
    assert run_ltdiff([*arguments, "--set", "catalogue.bin_width=5"]) != 0
    assert "--set catalogue.bin_width has no effect here" in capsys.readouterr().err


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_names_of_every_set_are_listed(features, capsys):
    assert run_ltdiff(["radiomics", "--list", "--features", features]) == 0
    assert capsys.readouterr().out.splitlines() == list(FEATURE_SETS[features].choose(None))


def test_only_intensities_need_no_regular_grid():
    assert classes_in_space() == {"texture", "wavelet"}
    assert classes_in_space(["intensity"]) == set()


def test_regions_that_define_little_are_nan_and_no_crash(hu):
    line = np.zeros(EVEN, bool)
    line[3, 10, 5:20] = True
    values, reasons = FEATURE_SETS["wavelet"].measure(hu, line, (1.0, 1.0, 1.0), ["intensity", "texture_glcm_Id"])
    assert np.isnan(list(values.values())).all()
    assert reasons == dict.fromkeys(values, THIN)
    mask = np.zeros(EVEN, bool)
    mask[3, 5:20, 5:20] = True
    of_constant = extract_wavelet_set(np.full(EVEN, -1000.0), mask, spacing_mm=(1.0, 1.0, 1.0))
    assert np.isnan(of_constant["intensity_Skewness"])
    assert np.isnan(of_constant["texture_ngtdm_Contrast"])
    assert of_constant["intensity_Mean"] == -1000
