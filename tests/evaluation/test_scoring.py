"""Scoring: the tables hold what their names say, and the known picture of a real pair."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from scored_scans import make_scan, score_volume

from ltdiff.data.rois import Roi, mask_rois, random_rois
from ltdiff.data.volume_files import read_mask
from ltdiff.evaluation.concordance import ccc_across_features, ccc_across_rois
from ltdiff.evaluation.scored_scan import ScanImages
from ltdiff.evaluation.scoring import REPRODUCIBLE_CCC, SOURCE, TARGET, Expectation, reproducible_shares, score
from ltdiff.model.residual_noise import fit_residual_noise
from ltdiff.radiomics.pyradiomics import FEATURE_CLASSES, extract_features, feature_names

COLUMNS = [
    "method",
    "roi_set",
    "feature_set",
    "feature_class",
    "definition",
    "ccc_mean",
    "ccc_sd",
    "ci_low",
    "ci_high",
    "num_features",
    "num_rois",
]


def values(scores, method: str, roi_set: str, feature_class: str) -> np.ndarray:
    """From the long table, (rois, features)."""
    features = scores.features.to_table()
    rows = features.query("method == @method and roi_set == @roi_set and feature_class == @feature_class")
    names = rows["feature"].unique()
    return rows.pivot(index="roi_index", columns="feature", values="value")[names].to_numpy()


def test_ccc_table(scores):
    assert list(scores.ccc.columns) == COLUMNS
    assert len(scores.ccc) == 2 * 2 * len(FEATURE_CLASSES) * 2  # methods, roi_sets, classes, definitions
    assert set(scores.ccc["feature_set"]) == {"pyradiomics"}
    for row in scores.ccc.query("roi_set == 'random'").itertuples():
        concordance = {"across_rois": ccc_across_rois, "across_features": ccc_across_features}[row.definition]
        expected = concordance(
            values(scores, row.method, row.roi_set, row.feature_class), values(scores, TARGET, row.roi_set, row.feature_class)
        )
        found = [row.ccc_mean, row.ccc_sd, row.ci_low, row.ci_high]
        assert found == pytest.approx([expected.mean, expected.sd, expected.ci_low, expected.ci_high], abs=1e-12)
        assert (row.num_features, row.num_rois) == (expected.num_features, expected.num_rois)


def test_better_images_score_better(scores):
    for definition in ("across_rois", "across_features"):
        table = scores.ccc[(scores.ccc["roi_set"] == "random") & (scores.ccc["definition"] == definition)]
        means = table.pivot(index="feature_class", columns="method", values="ccc_mean")
        assert (means["better"] > means["source"]).all()
    errors = scores.relative_error.pivot(index=["roi_set", "feature_class"], columns="method", values="relative_error_median")
    assert (errors["better"] < errors["source"]).all()


def test_feature_table(scores, volumes, rois):
    images, _, _ = volumes
    features = scores.features.to_table()
    assert len(features) == 3 * len(rois) * len(feature_names())
    assert (features["feature_class"].astype(str) + "_" + features["feature"].astype(str)).unique().tolist() == feature_names()
    row = features.query("method == 'source' and roi_index == 3 and feature == 'JointEntropy'").squeeze()
    image_hu = images["source"][rois[3].slice_index]
    assert row["value"] == extract_features(image_hu[None], rois[3].mask[None], spacing_mm=(1, 0.8, 0.7))["glcm_JointEntropy"]
    assert (row["feature_class"], row["label"], row["slice_index"]) == ("glcm", rois[3].label, rois[3].slice_index)


def test_relative_error(scores):
    row = scores.relative_error.query("method == 'source' and roi_set == 'random' and feature_class == 'ngtdm'")
    source, target = (values(scores, method, "random", "ngtdm") for method in ("source", TARGET))
    assert row["relative_error_median"].item() == pytest.approx(np.median(np.abs(source / target - 1)))


class _Nothing:
    """A harmonizer that leaves features as they are."""

    def harmonize(self, features):
        return features


class _Perfect:
    """A harmonizer that knows the target's features, and remembers what it was given."""

    def __init__(self, target_hu, rois):
        rows = [extract_features(target_hu[[roi.slice_index]], roi.mask[None], spacing_mm=(1, 0.8, 0.7)) for roi in rois]
        self.target = pd.DataFrame(rows)

    def harmonize(self, features):
        self.given = features
        return self.target


def test_harmonizers_change_the_features_of_the_source(scores, volumes, rois):
    images, target, _ = volumes
    perfect = _Perfect(target, rois)
    harmonizers = {"nothing": _Nothing(), "perfect": perfect}
    ordered = {"better": images["better"], "source": images["source"]}
    result = score_volume(ordered, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois, harmonizers=harmonizers)
    assert list(result.ccc["method"].unique()) == ["better", "source", "nothing", "perfect"]
    columns = ["roi_set", "feature_class", "definition", "ccc_mean", "ci_low", "num_rois"]
    of = {name: table[columns].reset_index(drop=True) for name, table in result.ccc.groupby("method")}
    pd.testing.assert_frame_equal(of["nothing"], of["source"])
    assert of["perfect"]["ccc_mean"].dropna().to_numpy() == pytest.approx(1)  # one region alone has no CCC across them
    assert list(perfect.given.columns) == feature_names()
    row = result.features.to_table().query("method == 'source' and roi_index == 3 and feature == 'JointEntropy'").squeeze()
    assert perfect.given.loc[3, "glcm_JointEntropy"] == row["value"]
    assert list(result.image_metrics["method"]) == ["better", "source"]  # there are no images of the others
    before = scores.ccc.query("method == 'better'")[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(of["better"], before)


class _Sampling:
    """Noise round the source."""

    def __init__(self, noise):
        self.noise = noise

    def samples(self, slices_hu, spacings_mm, *, numbers, num, num_workers=1):
        for seed in range(num):
            yield [self.noise.draw(hu, seed=seed, number=number) for hu, number in zip(slices_hu, numbers, strict=True)]


def test_the_expectation_is_the_mean_of_the_features_of_samples(volumes, rois):
    images, target, _ = volumes
    residuals = [images["better"][:1], target[:1]]
    noise = fit_residual_noise([residuals[0][0]], [residuals[1][0]], range_hu=(-1024.0, 3071.0))
    expectation, numbers = Expectation(_Sampling(noise)), range(7, 7 + len(target))
    spacings_mm = np.full((len(target), 2), 0.7)
    drawn = expectation.samples(images["better"], spacings_mm, numbers, num_workers=2)
    samples = {f"sample {k}": one for k, one in enumerate(drawn)}
    assert len(samples) == Expectation.NUM_SAMPLES
    given = {SOURCE: images["better"], "better": images["better"], **samples}
    result = score_volume(given, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois[:4], expectations={"expected": expectation})
    table = result.features.to_table().pivot_table(
        index=["roi_index", "feature_class", "feature"], columns="method", values="value", observed=True
    )
    np.testing.assert_allclose(table["expected"], table[list(samples)].mean(axis=1), rtol=1e-9)
    assert "expected" in set(result.ccc["method"])
    assert "expected" not in set(result.image_metrics["method"])


def test_identical_images_are_perfect(volumes, rois):
    _, target, _ = volumes
    scores = score_volume({"copy": target}, target_hu=target, spacing_mm=(1, 1), rois=rois[:4])
    assert scores.ccc["ccc_mean"].to_numpy() == pytest.approx(1)
    assert (scores.relative_error["relative_error_median"] == 0).all()
    assert scores.image_metrics.squeeze().to_dict() == {
        "method": "copy",
        "mae_hu": 0,
        "rmse_hu": 0,
        "bias_hu": 0,
        "psnr_db": np.inf,
        "ssim": pytest.approx(1),
    }


def test_several_processes_give_the_same(scores, volumes, rois):
    images, target, _ = volumes
    parallel = score_volume(images, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois, num_workers=2)
    np.testing.assert_array_equal(parallel.features.values, scores.features.values)
    pd.testing.assert_frame_equal(parallel.ccc, scores.ccc, check_exact=True)


def test_scans_after_each_other_give_what_one_of_all_slices_does(scores, volumes, rois):
    """Regions have one order, whatever scan they are in; a scan without any is there too."""
    images, target, _ = volumes
    ordered = [(rank, roi) for rank, roi in enumerate(rois)]
    parts = []
    for first, slices in ((0, slice(0, 1)), (1, slice(1, 2)), (2, slice(1, 2))):
        chosen = [(rank, replace(roi, slice_index=0)) for rank, roi in ordered if roi.slice_index == first]
        of_scan = {"rois": [roi for _, roi in chosen], "ranks": [rank for rank, _ in chosen], "first": first}
        scan = make_scan(images["source"][slices], target[slices], spacing_mm=(0.8, 0.7), **of_scan)
        parts.append(ScanImages(scan, {name: volume[slices] for name, volume in images.items()}))
    both = score(parts[:2])
    np.testing.assert_array_equal(both.features.values, scores.features.values)
    assert both.features.rois == scores.features.rois
    pd.testing.assert_frame_equal(both.ccc, scores.ccc, check_exact=True)
    pd.testing.assert_frame_equal(both.image_metrics, scores.image_metrics)
    np.testing.assert_array_equal(score(parts).features.values, scores.features.values)


def test_spacing_per_slice(volumes, rois):
    images, target, _ = volumes
    spacings_mm = np.array([[1.0, 1.0], [2.0, 3.0]])
    scores = score_volume({"source": images["source"]}, target_hu=target, spacing_mm=spacings_mm, rois=rois[:6])
    wide = (
        scores.features.to_table()
        .query("method == 'target' and feature_class == 'firstorder'")
        .pivot(index=["roi_index", "slice_index"], columns="feature", values="value")
    )
    area_mm2 = np.array([1.0, 6.0])[wide.index.get_level_values("slice_index")]
    np.testing.assert_allclose(wide["TotalEnergy"], wide["Energy"] * area_mm2)


def test_reproducible_shares():
    table = pd.DataFrame({"method": "m", "roi_set": "random", "feature_class": "glcm", "ccc": [0.84, 0.86, 0.95, np.nan]})
    shares = reproducible_shares(table).squeeze()
    assert [shares[f"ccc_from_{least:.2f}"] for least in REPRODUCIBLE_CCC] == pytest.approx([2 / 3, 1 / 3])


def test_bad_input_is_named(volumes, rois):
    images, target, _ = volumes
    with pytest.raises(ValueError, match="images of broken hold values that are not finite"):
        score_volume({"broken": np.where(target > 0, np.nan, target)}, target_hu=target, spacing_mm=(1, 1), rois=rois)
    with pytest.raises(AssertionError, match="different shapes"):
        score_volume({"short": target[:1]}, target_hu=target, spacing_mm=(1, 1), rois=rois)
    with pytest.raises(AssertionError, match="target"):
        score_volume({"target": target}, target_hu=target, spacing_mm=(1, 1), rois=rois)
    with pytest.raises(AssertionError, match="no regions"):
        score_volume(images, target_hu=target, spacing_mm=(1, 1), rois=[])
    elsewhere = Roi("nodule", 0, np.ones((8, 8), bool), "a")
    with pytest.raises(AssertionError, match="nodule region a of slice 0"):
        score_volume(images, target_hu=target, spacing_mm=(1, 1), rois=[elsewhere])


def read_series(folder: Path) -> np.ndarray:
    slices = sorted((pydicom.dcmread(path) for path in folder.rglob("*.dcm")), key=lambda s: s.ImagePositionPatient[2])
    return np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])


def test_source_against_target_of_a_real_pair(real_data):
    """Lung-PET-CT-Dx A0001, soft against sharp kernel: class means over three drawings of the 100 discs.

    One drawing does not do: over seeds 0 … 9 the standard deviation is .013 / .030 / .021 / .031, and only half of
    them lie within 0.05 of the known values, themselves one drawing, in all four classes.
    """
    folder = real_data / "lung-pet-ct-dx-a0001"
    source_hu, target_hu = (read_series(folder / kernel)[45:] for kernel in ("soft_B", "sharp_L"))
    drawings = [replace(roi, roi_set=f"random_{seed}") for seed in range(3) for roi in random_rois(target_hu, seed=seed)]
    scores = score_volume({"source": source_hu}, target_hu=target_hu, spacing_mm=(0.842, 0.842), rois=drawings)
    primary = scores.ccc[scores.ccc["definition"] == "across_rois"].groupby("feature_class")["ccc_mean"].mean()
    known = {"firstorder": 0.807, "glcm": 0.353, "glrlm": 0.374, "ngtdm": 0.303}
    assert primary.to_dict() == pytest.approx(known, abs=0.05)
    assert scores.image_metrics["mae_hu"].item() == pytest.approx(48.6, abs=1)


def test_tumour_of_a_real_pair_has_rois(real_data):
    labels = read_mask(real_data / "lung-pet-ct-dx-a0001" / "tumour_mask.nii.gz")
    assert [roi.slice_index for roi in mask_rois(labels)] == list(range(41, 52))
