"""CovBat: location, scale and covariance of features become the target's."""

import numpy as np
import pandas as pd
import pytest
from bodies import make_bodies
from tiny_run import one_thread, write_unpaired  # noqa: F401

from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.methods import training_regions
from ltdiff.methods.combat import ComBat
from ltdiff.methods.covbat import CovBat
from ltdiff.methods.protocol import FitError
from ltdiff.radiomics.pyradiomics import feature_names
from ltdiff.system.folder_claim import claim
from ltdiff.training.run import RUN_FILE

NAMES = ["firstorder_Mean", "glcm_Contrast", "ngtdm_Busyness", "ngtdm_Coarseness"]
SCALES = np.array([100.0, 8.0, 1e4, 1e-6])
LOCATION = np.array([-600.0, 40.0, 3e4, 1e-5])


def _features(*, correlation, seed, num_rois=600, shift=0.0, scale=1.0):
    """Normal features of very different scales, correlated with each other."""
    covariance = np.full((len(NAMES), len(NAMES)), correlation) + (1 - correlation) * np.eye(len(NAMES))
    values = np.random.default_rng(seed).multivariate_normal(np.zeros(len(NAMES)), covariance, num_rois)
    return pd.DataFrame(LOCATION + SCALES * (scale * values + shift), columns=NAMES)


def _fit(kind, folder, source, target, manifest):
    claim(folder / RUN_FILE, {"method": kind.__name__, "data_fingerprint": data_fingerprint(manifest)})
    features = pd.concat([source.assign(batch="source"), target.assign(batch="target")], ignore_index=True)
    features.to_parquet(folder / "pyradiomics.parquet")
    method = kind()
    method.fit(manifest, folder=folder)
    return method


@pytest.fixture
def harmonized(tmp_path, manifest):
    """New source features, harmonized by ComBat and by CovBat, and target features of other regions."""
    source = _features(correlation=0.0, seed=0, shift=2.0, scale=1.5)
    target = _features(correlation=0.8, seed=1)
    new = _features(correlation=0.0, seed=2, shift=2.0, scale=1.5)
    made = {kind: _fit(kind, tmp_path / kind.__name__, source, target, manifest).harmonize(new) for kind in (ComBat, CovBat)}
    return made[ComBat], made[CovBat], _features(correlation=0.8, seed=3)


def test_location_and_scale_are_the_target_s(harmonized):
    *made, target = harmonized
    for features in made:
        difference = (features.mean() - target.mean()) / target.std()
        assert difference.abs().max() < 0.25
        assert (features.std() / target.std()).between(0.85, 1.15).all()


def test_covbat_brings_the_covariances_nearer(harmonized):
    combat, covbat, target = harmonized
    wanted = target.corr().to_numpy()
    assert np.abs(combat.corr().to_numpy() - wanted).max() > 0.5
    assert np.abs(covbat.corr().to_numpy() - wanted).max() < 0.25


def test_what_the_training_regions_do_not_span_is_kept(tmp_path, manifest):
    """Fewer regions than features: a feature's value of a new region does not get lost."""
    source, target = (_features(correlation=0.0, seed=seed, num_rois=2) for seed in (0, 1))
    method = _fit(CovBat, tmp_path / "covbat", source, target, manifest)
    new = _features(correlation=0.0, seed=2, num_rois=5)
    moved = new.add([0.0, 0.0, 0.0, 5 * SCALES[3]])
    change = method.harmonize(moved) - method.harmonize(new)
    assert np.abs(change.to_numpy() / SCALES).sum(axis=1).min() > 1


def test_both_are_fitted_to_slices_without_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(training_regions, "NUM_ROIS", 40)
    sources = [make_bodies(3, seed=seed, blur_px=1.3, noise_hu=12) for seed in (1, 2)]
    targets = [make_bodies(3, seed=seed, blur_px=0.8, noise_hu=40) for seed in (3, 4)]
    manifest = read_manifest(write_unpaired(tmp_path / "data", sources=sources, targets=targets, split="train"))
    for kind in (ComBat, CovBat):
        folder = tmp_path / kind.__name__
        method = kind()
        method.fit(manifest, folder=folder)
        features = pd.read_parquet(folder / "pyradiomics.parquet")
        counts = features["batch"].value_counts()
        assert counts["source"] == counts["target"]
        assert list(features.columns) == ["batch", *feature_names()]
        source, target = (features[features["batch"] == name].drop(columns="batch") for name in ("source", "target"))
        names = method.columns
        before, after = (
            ((one[names].mean() - target[names].mean()) / target[names].std()).abs().mean()
            for one in (source, method.harmonize(source))
        )
        assert after < 0.3 * before


def test_a_manifest_without_a_target_is_said_to_be_one(tmp_path, manifest):
    alone = manifest[manifest["role"] == "source"].assign(pair_id=None)
    with pytest.raises(FitError, match="ComBat has no region to learn from: the manifest has no target slice"):
        ComBat().fit(alone, folder=tmp_path / "combat")
