"""The IBSI features: what does not change them, shapes of known size, what a small region does not define, and the command."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from radiomics import cShape
from simulated_region import simulated_region
from tiny_run import SPACING_MM, make_volumes, save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.radiomics.config import IBSI_CONFIGURATIONS, FilterConfig, IbsiConfig
from ltdiff.radiomics.ibsi import CLASSES, ONE_SLICE, ONE_VALUE, classes_in_space, extract_ibsi, feature_names, ibsi_ids
from ltdiff.radiomics.ibsi_chain import process_region
from ltdiff.radiomics.mesh import measure_mesh
from ltdiff.radiomics.morphology import Shape
from ltdiff.radiomics.resampling import Resampling

MM = (2.0, 0.8, 0.7)
LOG = FilterConfig(kind="log")


def process(hu, mask, **settings):
    return process_region(hu, mask, spacing_mm=MM, config=IbsiConfig(**({"lowest_hu": None} | settings)))


@pytest.fixture(scope="module")
def region():
    return simulated_region(1)


def test_names_and_ids():
    names = feature_names()
    assert len(names) == len(set(names)) == 482
    assert {name.split("_")[0] for name in names} == set(CLASSES)
    assert all(len(ibsi_ids()[name]) == 4 for name in names)
    assert feature_names(["ivh", "stat_mean"]) == ("stat_mean", *(name for name in names if name.startswith("ivh_")))
    with pytest.raises(ValueError, match="no feature or class of features 'GLCM'; the classes are morph, "):
        feature_names(["GLCM"])


def test_some_features_are_those_of_all(region):
    processed = process(region.hu, region.mask, num_bins=16)
    values, reasons = extract_ibsi(processed)
    assert tuple(values) == feature_names()
    assert not reasons
    some = ["dzm", "cm_contrast_3D_avg", "stat_rms"]
    assert extract_ibsi(processed, only=some)[0] == {name: values[name] for name in feature_names(some)}


def test_what_surrounds_a_region_counts_for_its_local_intensities_alone(region):
    grown = [np.pad(array, [(4, 9), (30, 20), (25, 15)]) for array in (region.hu, region.mask)]
    first, second = (extract_ibsi(process(*arrays))[0] for arrays in ((region.hu, region.mask), grown))
    first, second = ({k: v for k, v in values.items() if not k.startswith("loc_")} for values in (first, second))
    assert second == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("settings", [{"spacing_mm": 1.1}, {"spacing_mm": 1.1, "interpolation": "cubic"}, {"lowest_hu": -500}])
def test_hu_of_another_offset_have_the_same_textures(region, settings):
    moved = settings | ({"lowest_hu": settings["lowest_hu"] + 40} if "lowest_hu" in settings else {})
    only = ["cm", "rlm", "szm", "dzm", "ngt", "ngl", "stat_var"]
    hu = np.rint(region.hu)
    values = extract_ibsi(process(hu, region.mask, **settings), only=only)[0]
    other = extract_ibsi(process(hu + 40, region.mask, **moved), only=only)[0]
    assert other == pytest.approx(values, rel=1e-6, nan_ok=True)


def test_a_region_of_one_slice(region):
    one = int(region.mask.any(axis=(1, 2)).argmax())
    values, reasons = extract_ibsi(process(region.hu[[one]], region.mask[[one]]))
    assert reasons == {name: ONE_SLICE for name in values if "_3D" in name or name == "morph_vol_dens_aee"}
    assert values["cm_contrast_2D_comb"] == pytest.approx(values["cm_contrast_2_5D_comb"])
    assert values["morph_volume"] < values["morph_vol_approx"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 5), (2, 2, 2)])
def test_small_and_constant_regions(shape):
    mask = np.zeros((7, 9, 9), dtype=bool)
    mask[tuple(slice(2, 2 + n) for n in shape)] = True
    for settings in ({}, {"num_bins": 8}, {"spacing_mm": 0.5}):
        values, reasons = extract_ibsi(process(np.full(mask.shape, 40.0), mask, **settings))
        assert reasons.keys() == {name for name, value in values.items() if math.isnan(value)}
        assert set(reasons.values()) <= {ONE_SLICE, ONE_VALUE}
        assert values["stat_mean"] == 40
        assert all(math.isfinite(value) for name, value in values.items() if name not in reasons)


def test_a_ball_has_the_features_of_a_ball():
    z, y, x = np.indices((41, 101, 115)) - np.array([20, 50, 57])[:, None, None, None]
    mask = (z * MM[0]) ** 2 + (y * MM[1]) ** 2 + (x * MM[2]) ** 2 <= 35**2
    values, _ = extract_ibsi(process(mask * 1.0 + x / 100, mask), only=["morph"])
    volume = 4 / 3 * math.pi * 35**3
    assert values["morph_volume"] == pytest.approx(volume, rel=0.01)
    assert values["morph_vol_approx"] == pytest.approx(volume, rel=0.01)
    assert values["morph_diam"] == pytest.approx(70, rel=0.03)
    for axis in ("maj", "min", "least"):
        assert values[f"morph_pca_{axis}_axis"] == pytest.approx(70 * math.sqrt(4 / 5), rel=0.01)
    assert values["morph_vol_dens_aabb"] == pytest.approx(math.pi / 6, rel=0.03)
    assert values["morph_vol_dens_aee"] == pytest.approx((5 / 4) ** 1.5, rel=0.02)
    assert 0.95 < values["morph_vol_dens_conv_hull"] <= 1
    assert values["morph_moran_i"] > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_volume_and_area_are_those_of_pyradiomics(seed):
    """Of a rough region the volumes differ: PyRadiomics' mesh has holes, and its volume depends on where the region lies."""
    rough = np.pad(simulated_region(seed).mask, 1)
    z, y, x = np.indices((13, 20, 20)) - np.array([6, 9, 9])[:, None, None, None]
    smooth = (2 * z) ** 2 + y**2 + x**2 <= (4 + seed) ** 2
    for mask, tolerance in ((rough, 0.01), (smooth, 1e-9)):
        area, volume, _ = cShape.calculate_coefficients(mask.astype(np.intc), np.array(MM))
        ours = measure_mesh(mask, MM)
        assert ours == pytest.approx((volume, area), rel=tolerance)
        assert ours[1] == pytest.approx(area, rel=1e-9)
        assert measure_mesh(np.pad(mask, [(0, 3), (5, 1), (2, 9)]), MM) == pytest.approx(ours, rel=1e-9)


def test_autocorrelation_is_that_of_all_pairs():
    random = np.random.default_rng(5)
    mask = random.random((4, 6, 5)) < 0.6
    values = random.normal(size=mask.sum())
    shape = Shape(mask, intensity_mask=mask, values=values, spacing_mm=MM)
    places = np.argwhere(mask) * MM
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    w = np.divide(1, distance, out=np.zeros_like(distance), where=distance > 0)
    centred, n = values - values.mean(), len(values)
    moran = n * (w * np.outer(centred, centred)).sum() / w.sum() / (centred**2).sum()
    geary = (n - 1) * (w * (values[:, None] - values) ** 2).sum() / (2 * w.sum()) / (centred**2).sum()
    assert shape.autocorrelation == pytest.approx((moran, geary), rel=1e-9)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_box_is_resampled_as_in_the_whole_image(interpolation):
    image = np.random.default_rng(1).normal(size=(40, 45, 50)) * 300
    resampling = Resampling(image.shape, MM, (1.3, 1.1, 0.9))
    whole = resampling.resample(image, tuple(slice(0, n) for n in resampling.new_shape), interpolation=interpolation)
    assert whole.shape == (62, 33, 39)
    box = resampling.new_box((slice(20, 24), slice(20, 25), slice(22, 30)), margin_mm=2)
    np.testing.assert_allclose(resampling.resample(image, box, interpolation=interpolation), whole[box], atol=1e-5)


def test_a_plane_rises_as_before():
    z, y, x = np.indices((20, 21, 22)) * np.reshape(MM, (3, 1, 1, 1))
    resampling = Resampling((20, 21, 22), MM, (1.5, 1.5, 1.5))
    box = (slice(5, 20), slice(4, 8), slice(3, 8))
    for values, axis in ((z, 0), (y, 1), (x, 2)):
        for interpolation in ("linear", "cubic"):
            steps = np.diff(resampling.resample(values, box, interpolation=interpolation), axis=axis)
            np.testing.assert_allclose(steps, 1.5, atol=0.01)


def test_resegmentation():
    hu = np.arange(-50.0, 50).reshape(4, 5, 5)
    mask = np.ones(hu.shape, dtype=bool)
    region = process(hu, mask, lowest_hu=-20, highest_hu=30)
    assert (region.values.min(), region.values.max()) == (-20, 30)
    assert region.shape_mask.all()
    outliers = process(hu, mask, outlier_sigma=1)
    assert abs(outliers.values + 0.5).max() <= hu.std() < abs(outliers.values + 0.5).max() + 1
    with pytest.raises(ValueError, match="No voxel of a region of interest lies within the limits of HU"):
        process(hu, mask, lowest_hu=1000)


@pytest.mark.parametrize(
    ("hu", "mask", "settings", "message"),
    [
        (np.zeros((2, 3, 4)), np.ones((2, 3, 3), bool), {}, "one shape"),
        (np.zeros((2, 3, 4)), np.zeros((2, 3, 4), bool), {}, "is empty"),
        (np.full((2, 3, 4), np.nan), np.ones((2, 3, 4), bool), {}, "not finite"),
        (np.arange(24.0).reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4) == 9, {"spacing_mm": 9}, "Nothing is left"),
    ],
)
def test_regions_that_cannot_be_measured(hu, mask, settings, message):
    with pytest.raises(ValueError, match=message):
        process(hu, mask, **settings)


def test_too_many_levels():
    hu = np.arange(24.0).reshape(2, 3, 4) * 10_000
    with pytest.raises(ValueError, match="more than 65536 bins of 1"):
        extract_ibsi(process(hu, hu >= 0, bin_width=1))
    with pytest.raises(ValueError, match=r"reaches from -1024 to 1e\+09, more than 65536 bins of 1"):
        extract_ibsi(process(hu / 1e5, hu >= 0, lowest_hu=-1024, highest_hu=1e9), only=["ivh"])


def test_a_filter_that_reaches_a_value_that_is_not_finite():
    hu = np.zeros((3, 20, 20))
    hu[1, 3, 3] = np.nan
    mask = np.zeros(hu.shape, dtype=bool)
    mask[1, 4:9, 4:9] = True
    assert extract_ibsi(process(hu, mask), only=["stat_mean"])[0] == {"stat_mean": 0}
    with pytest.raises(ValueError, match="or what its filter reaches, holds values that are not finite"):
        process(hu, mask, filter=FilterConfig("log", within="plane"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"spacing_mm": 0}, "spacing_mm must be above 0"), ({"lowest_hu": 5, "highest_hu": 5}, "lowest_hu must be below")],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IbsiConfig(**settings)


def test_only_features_of_voxels_and_planes_need_no_regular_grid():
    assert classes_in_space(["stat", "ih", "ivh"], config=IbsiConfig(spacing_mm=1, resample="plane")) == set()
    assert classes_in_space(["stat", "cm"], config=IbsiConfig()) == {"cm"}
    assert classes_in_space(["stat"], config=IbsiConfig(spacing_mm=1)) == {"stat"}


def test_the_command(tmp_path, capsys):
    hu = make_volumes()[0]
    labels = np.zeros(hu.shape)
    labels[1:4, 10:22, 10:22] = 1
    files = [str(save_volume(hu, tmp_path / "scan.mha")), str(save_volume(labels, tmp_path / "mask.nii.gz"))]
    settings = ["--features", "ibsi", "--set", "ibsi.spacing_mm=1.5", "--set", "ibsi.num_bins=16"]
    assert run_ltdiff(["radiomics", *files, *settings, "--out", str(tmp_path / "table.csv")]) == 0
    (row,) = pd.read_csv(tmp_path / "table.csv").to_dict("records")
    config = IbsiConfig(spacing_mm=1.5, num_bins=16)
    values, _ = extract_ibsi(process_region(np.asarray(hu), labels > 0, spacing_mm=SPACING_MM, config=config))
    assert {name: row[name] for name in feature_names()} == pytest.approx(values, rel=1e-6, nan_ok=True)
    assert row["extractor"] == "ltdiff ibsi"
    assert row["discretisation"] == "16 bins; linear interpolation to 1.5 mm in space, in whole HU; voxels from -1024 HU (IBSI)"
    assert run_ltdiff(["radiomics", "--list", "--features", "ibsi"]) == 0
    assert capsys.readouterr().out.splitlines()[-482:] == list(feature_names())
    assert run_ltdiff(["radiomics", *files, "--features", "ibsi", "--set", "catalogue.bin_width=5"]) != 0
    assert "--set catalogue.bin_width has no effect here" in capsys.readouterr().err


@pytest.mark.parametrize("name", IBSI_CONFIGURATIONS)
def test_the_command_has_the_configurations_of_the_reference_values(name, tmp_path):
    hu = np.random.default_rng(2).normal(0, 200, (4, 12, 12)).round()
    mask = np.zeros(hu.shape, np.uint8)
    mask[1:3, 2:9, 2:9] = 1
    files = [str(save_volume(array, tmp_path / f"{k}.nrrd", spacing_mm=MM)) for k, array in enumerate((hu, mask))]
    arguments = ["radiomics", *files, "--features", "ibsi", "--only", "stat,ih,ivh", "--ibsi_configuration", name]
    for more, changed in (
        ([], {}),
        (["--set", "ibsi.filter.kind=log", "--set", "ibsi.num_bins=8"], {"filter": LOG, "num_bins": 8}),
    ):
        assert run_ltdiff([*arguments, *more, "--out", str(tmp_path / "table.parquet")]) == 0
        (row,) = pd.read_parquet(tmp_path / "table.parquet").to_dict("records")
        config = replace(IBSI_CONFIGURATIONS[name], **changed)
        values, _ = extract_ibsi(process_region(hu, mask > 0, spacing_mm=MM, config=config), only=["stat", "ih", "ivh"])
        assert {column: row[column] for column in values} == pytest.approx(values, rel=1e-6)
        assert row["discretisation"] == config.discretisation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "ibsi", "--ibsi_configuration", "F"], 'Choose from: "A", "B", "C", "D", "E", "digital_phantom"'),
        (["--ibsi_configuration", "A"], "--ibsi_configuration needs --features ibsi"),
        (
            ["--features", "ibsi", "--ibsi_configuration", "A", "--config", "mine.yaml"],
            "'ibsi' of mine.yaml is given by an option, too",
        ),
    ],
)
def test_configurations_that_are_refused(arguments, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("ibsi: {num_bins: 8}")
    assert run_ltdiff(["radiomics", "scan.nrrd", "mask.nrrd", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
