"""ComBat on features: a known location and scale is found, and what it cannot know is left alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import make_volumes, write_pairs

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.methods import training_regions
from ltdiff.methods.combat import ComBat
from ltdiff.radiomics.feature_sets import CATALOGUE
from ltdiff.radiomics.pyradiomics import feature_names
from ltdiff.system.folder_claim import claim
from ltdiff.training.run import RUN_FILE

NUM_ROIS = 12
NAMES = ["firstorder_Mean", "glcm_Contrast", "ngtdm_Busyness"]
LOCATION, SPREAD = np.array([-600.0, 40.0, 0.2]), np.array([100.0, 8.0, 0.05])
SHIFT, SCALE = np.array([30.0, -15.0, 0.05]), np.array([0.5, 1.7, 1.2])


def _source_features(num_rois=60, seed=1):
    values = LOCATION + SPREAD * np.random.default_rng(seed).standard_normal((num_rois, len(NAMES)))
    return pd.DataFrame(values, columns=NAMES)


def _to_target(features):
    """What the other kernel makes of them."""
    return LOCATION + SCALE * (features[NAMES] - LOCATION) + SHIFT


@pytest.fixture
def fit(tmp_path, manifest):
    """fit(source, target) → ComBat fitted on features that were extracted before."""

    def make(source, target):
        claim(tmp_path / RUN_FILE, {"method": "ComBat", "data_fingerprint": data_fingerprint(manifest)})
        features = pd.concat([source.assign(batch="source"), target.assign(batch="target")], ignore_index=True)
        features.to_parquet(tmp_path / "pyradiomics.parquet")
        method = ComBat()
        method.fit(manifest, folder=tmp_path)
        return method

    return make


@pytest.fixture
def fitted(fit):
    features = _source_features(num_rois=300, seed=0)
    return fit(features, _to_target(features))


def test_a_known_location_and_scale_is_found(fitted):
    new = _source_features()
    error = (fitted.harmonize(new) - _to_target(new)) / (SCALE * SPREAD)
    assert error.abs().to_numpy().max() < 0.1
    assert ((new - _to_target(new)) / (SCALE * SPREAD)).abs().to_numpy().mean() > 0.3  # there was something to be done


def test_features_are_known_by_their_names(fitted):
    new = _source_features()
    reordered = fitted.harmonize(new[NAMES[::-1]])
    assert list(reordered.columns) == NAMES[::-1]
    pd.testing.assert_frame_equal(reordered[NAMES], fitted.harmonize(new))


def test_a_nan_stays_and_changes_nothing_else(fitted):
    new = _source_features()
    given = new.copy()
    given.loc[[3, 7], "ngtdm_Busyness"] = np.nan
    before = given.copy()
    expected = fitted.harmonize(new)
    expected.loc[[3, 7], "ngtdm_Busyness"] = np.nan
    pd.testing.assert_frame_equal(fitted.harmonize(given), expected)
    pd.testing.assert_frame_equal(given, before)


def test_a_feature_that_cannot_be_fitted_is_left_alone(fit):
    """One is the same everywhere, another is not defined in many training regions."""
    training = _source_features(num_rois=300, seed=0)
    target = _to_target(training)
    training, target = (one.assign(constant=5.0, undefined=training["glcm_Contrast"]) for one in (training, target))
    training.loc[:40, "undefined"] = np.nan
    new = _source_features().assign(constant=6.0, undefined=np.nan)
    result = fit(training, target).harmonize(new)
    pd.testing.assert_frame_equal(result[["constant", "undefined"]], new[["constant", "undefined"]])
    error = (result[NAMES] - _to_target(new)) / (SCALE * SPREAD)
    assert error.abs().to_numpy().max() < 0.1


def test_a_feature_that_is_nan_in_a_few_training_regions_is_fitted(fit):
    training = _source_features(num_rois=300, seed=0)
    target = _to_target(training)
    training.loc[:10, "glcm_Contrast"] = np.nan
    new = _source_features()
    error = (fit(training, target).harmonize(new) - _to_target(new)) / (SCALE * SPREAD)
    assert error.abs().to_numpy().max() < 0.2


# --- features of images -----------------------------------------------------------------------------------------------


@pytest.fixture
def extracted(tmp_path, monkeypatch):
    """(method, folder, manifest's path) of a fit on images."""
    monkeypatch.setattr(training_regions, "NUM_ROIS", NUM_ROIS)
    path = write_pairs(tmp_path / "data")
    method = ComBat()
    method.fit(read_manifest(path), folder=tmp_path / "combat")
    return method, tmp_path / "combat", path


def test_source_and_target_are_measured_in_the_same_training_regions(extracted, tmp_path):
    _, folder, _ = extracted
    features = pd.read_parquet(folder / "pyradiomics.parquet")
    assert features["batch"].tolist() == ["source", "target"] * NUM_ROIS
    assert list(features.columns) == ["batch", *feature_names()]
    contrast = features.groupby("batch")["glcm_Contrast"].mean()
    assert contrast["target"] > 2 * contrast["source"]  # which is the target blurred
    source, target = make_volumes()
    source[4:], target[4:] = -300, -300  # the slices of validation and test
    ComBat().fit(read_manifest(write_pairs(tmp_path / "other", volumes=(source, target))), folder=tmp_path / "again")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "again" / "pyradiomics.parquet"), features)


def test_the_catalogue_is_harmonized_through_as_many_slices_as_it_is_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(training_regions, "NUM_ROIS", NUM_ROIS)
    path, folder = write_pairs(tmp_path / "data"), tmp_path / "combat"
    method = ComBat(CATALOGUE)
    method.fit(read_manifest(path), folder=folder)
    features = pd.read_parquet(folder / "catalogue.parquet")
    assert list(features.columns) == ["batch", *CATALOGUE.features]
    assert features["GLCM3D_sum_1_Contrast"].notna().all()  # which a single slice does not have
    source, target = (features[features["batch"] == name].drop(columns="batch") for name in ("source", "target"))
    assert len(method.columns) > 1000
    before, after = (
        ((one[method.columns].mean() - target[method.columns].mean()) / target[method.columns].std()).abs().mean()
        for one in (source, method.harmonize(source))
    )
    assert after < 0.3 * before
    ComBat().fit(read_manifest(path), folder=folder)  # the other features beside them
    assert {one.name for one in folder.iterdir()} == {"catalogue.parquet", "pyradiomics.parquet", "run.json"}


def test_pairs_of_two_sizes_and_one_that_cannot_be_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(training_regions, "NUM_ROIS", NUM_ROIS)
    small, large = (read_manifest(write_pairs(tmp_path / str(n), volumes=make_volumes(size=n))) for n in (48, 64))
    for column in ("pair_id", "series_uid"):
        large[column] += "_large"
    Path(small["path"].iloc[0]).write_text("broken")
    method = ComBat()
    method.fit(pd.concat([small, large], ignore_index=True), folder=tmp_path / "combat")
    features = pd.read_parquet(tmp_path / "combat" / "pyradiomics.parquet")
    assert len(features) == 2 * 2 * 4  # two discs in source and target of each of the second's four pairs
    assert "left out of ComBat" in caplog.text


def test_the_source_s_features_become_the_target_s(extracted):
    method, folder, _ = extracted
    features = pd.read_parquet(folder / "pyradiomics.parquet")
    source, target = (features[features["batch"] == name].drop(columns="batch") for name in ("source", "target"))
    fitted = method.columns
    assert set(fitted) > {"glcm_Contrast", "firstorder_Entropy", "glrlm_RunEntropy", "ngtdm_Strength"}

    def difference(values):
        return ((values[fitted].mean() - target[fitted].mean()) / target[fitted].std()).abs().mean()

    assert difference(method.harmonize(source)) < 0.2 * difference(source)


def test_features_are_extracted_once(extracted):
    method, folder, path = extracted
    manifest = read_manifest(path)
    for volume in path.parent.glob("*.nrrd"):
        volume.unlink()
    again = ComBat()
    again.fit(manifest, folder=folder)
    features = pd.read_parquet(folder / "pyradiomics.parquet").drop(columns="batch")
    pd.testing.assert_frame_equal(again.harmonize(features), method.harmonize(features))
    assert {one.name for one in folder.iterdir()} == {"pyradiomics.parquet", "run.json"}


def test_features_of_other_data_are_refused(extracted):
    _, folder, path = extracted
    manifest = read_manifest(path)
    with pytest.raises(ValueError, match=r"holds work with other settings or data \(data_fingerprint was "):
        ComBat().fit(manifest[manifest["slice_index"] > 0], folder=folder)
