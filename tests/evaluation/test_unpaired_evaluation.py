"""Evaluating without pairs: one table of before, after and floor; what a method is given, and what a report holds."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from bodies import SPACING_MM, make_bodies
from tiny_run import one_thread, save_tiny_model, save_volume, write_pairs, write_unpaired  # noqa: F401

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate, evaluate_model, main_tables, read_scored_sets
from ltdiff.evaluation.unpaired_set import read_unpaired_set
from ltdiff.inference.config import InferenceConfig

CONFIG = EvaluationConfig(num_rois=8, num_workers=1)
SOFT, SHARP = {"blur_px": 1.3, "noise_hu": 12.0, "noise_px": 1.2}, {"blur_px": 0.8, "noise_hu": 40.0, "noise_px": 0.7}
NUM_SLICES = 3
SOURCE_SEEDS, TARGET_SEEDS = (1, 2), (3, 4)
SPACINGS_MM = (5.0, *SPACING_MM)
FILES = {
    "unpaired.csv",
    "unpaired_structures.csv",
    "unpaired_curves.csv",
    "unpaired_endpoints.csv",
    "unpaired_endpoint_groups.csv",
    "unpaired_slices.csv",
    "unpaired_features.parquet",
    "unpaired.png",
    "unpaired_slices.png",
    "summary.json",
    "report.md",
}


class Oracle:
    """A method that knows the same bodies by the target's protocol; it remembers how often it was asked."""

    def __init__(self):
        self.known = {}
        self.asked = 0
        for seed in SOURCE_SEEDS:
            pairs = zip(make_bodies(NUM_SLICES, seed=seed, **SOFT), make_bodies(NUM_SLICES, seed=seed, **SHARP), strict=True)
            self.known |= {self.digest(soft): sharp for soft, sharp in pairs}

    @staticmethod
    def digest(plane):
        return hash(plane.astype(np.int16).tobytes())

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        self.asked += 1
        return np.stack([self.known[self.digest(plane)] for plane in hu])


class Halver:
    """A method that changes features."""

    def harmonize(self, features):
        return features / 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two patients with a soft kernel, and two others with a sharp one."""
    sources = [make_bodies(NUM_SLICES, seed=seed, **SOFT) for seed in SOURCE_SEEDS]
    targets = [make_bodies(NUM_SLICES, seed=seed, **SHARP) for seed in TARGET_SEEDS]
    folder = tmp_path_factory.mktemp("unpaired")
    return read_manifest(write_unpaired(folder, sources=sources, targets=targets, spacing_mm=SPACINGS_MM))


@pytest.fixture(scope="module")
def evaluated(manifest, tmp_path_factory):
    """(the method, what was measured, the folder of the report)"""
    oracle, out = Oracle(), tmp_path_factory.mktemp("report")
    sets = read_scored_sets(manifest, config=CONFIG)
    evaluation = evaluate(*sets, methods={"oracle": oracle}, harmonizers={"half": Halver()}, out=out, facts={"extra": 1})
    return oracle, evaluation, out


@pytest.fixture(scope="module")
def table(evaluated):
    return evaluated[1].unpaired.tables["unpaired"].set_index("method")


def test_regions_are_alike_on_source_and_on_either_half_of_the_target(manifest):
    scored = read_unpaired_set(manifest, config=CONFIG)
    of_source = Counter(roi.roi_set for roi in scored.source_rois)
    of_halves = [Counter(roi.roi_set for roi in scored.target_rois if scored.halves[roi.slice_index] == half) for half in (0, 1)]
    assert of_halves == [of_source, of_source]
    assert max(of_source.values()) == CONFIG.num_rois
    for roi in scored.target_rois:
        hu = scored.target.hu[roi.slice_index][roi.mask].mean()
        low, high = map(float, roi.roi_set.removeprefix("hu_").rsplit("_", 1))
        assert low <= hu <= high


def test_the_table_has_a_row_before_one_for_every_method_and_the_floor(evaluated, table):
    assert evaluated[1].paired is None
    assert list(table.index) == ["source", "oracle", "half", "target"]
    assert table["frd"].notna().all()


def test_a_method_that_makes_the_target_s_images_comes_down_to_the_floor(table):
    assert table["frd"]["oracle"] < table["frd"]["source"] - 1
    assert table["frd"]["oracle"] < table["frd"]["target"] + 1
    assert table["auc"]["source"] > 0.9
    assert table["auc"]["oracle"] < table["auc"]["source"]
    assert table["noise_difference"]["source"] < -0.5
    assert abs(table["noise_difference"]["oracle"]) < 0.1
    assert table["nps_difference"]["oracle"] < table["nps_difference"]["source"]
    assert table["mtf_difference_skin"]["oracle"] < 0.5 * table["mtf_difference_skin"]["source"]


def test_what_makes_no_image_is_judged_by_its_features_alone(table):
    assert table.loc["half", ["noise_difference", "nps_difference", "content_bias_hu"]].isna().all()
    assert table.loc[["source", "target"], "content_bias_hu"].isna().all()
    assert abs(table["content_bias_hu"]["oracle"]) < 2


def test_every_slice_of_the_source_is_standardized_once_and_for_the_end_points(evaluated):
    assert evaluated[0].asked == 2 * NUM_SLICES * len(SOURCE_SEEDS)


def test_end_points_are_those_of_groups(evaluated):
    """The method makes the target's images of the source's patients; noise of the sharp kernel counts as emphysema."""
    _, evaluation, out = evaluated
    groups = evaluation.unpaired.tables["unpaired_endpoint_groups"].set_index(["endpoint", "method"])
    assert set(groups["num_scans"]) == {2}
    medians = groups["median"].unstack()
    assert list(medians) == ["oracle", "source", "target"]
    assert medians.loc["laa_950_percent", "source"] < 0.5 * medians.loc["laa_950_percent", "oracle"]
    assert medians.loc["perc15_hu", "oracle"] == pytest.approx(medians.loc["perc15_hu", "target"], abs=10)
    assert medians.loc["volume_ml", "oracle"] == medians.loc["volume_ml", "source"] != medians.loc["volume_ml", "target"]
    text = (out / "report.md").read_text()
    assert "In the lungs of 2 patients of the source and of 2 patients of the target" in text
    assert "those of 3 slices spread through the lungs" in text
    assert "| target's patients |" in text


def test_the_report_has_every_file(evaluated):
    out = evaluated[2]
    assert {path.name for path in out.iterdir()} == FILES
    text = (out / "report.md").read_text()
    assert "6 slices of 2 patients and 6 slices of 2 patients" in text
    assert "| target (floor) |" in text
    assert "Not for diagnostic use" in text
    assert "CCC" not in text
    summary = json.loads((out / "summary.json").read_text())
    assert summary["unpaired"]["source"] == {"num_patients": 2, "num_series": 2, "num_slices": 6, "num_groups": 2}
    assert summary["split"]["scored"] == "test"
    assert summary["extra"] == 1
    assert summary["seconds_per_slice"].keys() == {"oracle"}
    pd.testing.assert_frame_equal(pd.read_csv(out / "unpaired.csv"), evaluated[1].unpaired.tables["unpaired"], check_dtype=False)
    features = pd.read_parquet(out / "unpaired_features.parquet")
    assert set(features["method"]) == {"source", "oracle", "half", "target"}
    assert "glcm_Contrast" in features
    assert not set(pd.read_csv(out / "unpaired_slices.csv")) & {"patient", "path"}


def test_the_main_table_is_printed(evaluated):
    printed = main_tables(evaluated[1])
    assert printed.startswith("Without pairs:")
    assert all(f"| {name} " in printed for name in ("source", "oracle", "half", "target (floor)"))


def test_one_patient_on_a_side_is_cut_into_blocks(manifest):
    one = manifest[manifest["patient"].isin(("source 0", "target 0"))].reset_index(drop=True)
    scored = read_unpaired_set(one, config=CONFIG)
    assert scored.halves.tolist() == [0, 1, 0]
    assert scored.facts["unpaired"]["target"]["num_groups"] == NUM_SLICES


def test_a_single_slice_on_a_side_has_no_floor(manifest, tmp_path):
    single = manifest[(manifest["role"] == "source") | (manifest.index == manifest.index[-1])].reset_index(drop=True)
    evaluation = evaluate(*read_scored_sets(single, config=CONFIG), methods={}, out=tmp_path, facts={})
    table = evaluation.unpaired.tables["unpaired"]
    assert list(table["method"]) == ["source"]
    assert table["auc"].isna().all()
    assert table["frd"].notna().all()
    assert "| – " in main_tables(evaluation)


def test_lesions_of_a_mask_are_looked_for_in_the_source(manifest, tmp_path):
    one = manifest[(manifest["patient"] == "source 0") | (manifest["role"] == "target")].reset_index(drop=True)
    labels = np.zeros((NUM_SLICES, 256, 256), np.uint8)
    labels[1, 120:130, 120:130] = 1
    mask = save_volume(labels, tmp_path / "mask.nrrd", spacing_mm=SPACINGS_MM)
    scored = read_unpaired_set(one, config=CONFIG, mask=mask)
    assert [(roi.roi_set, roi.slice_index) for roi in scored.lesions] == [("tumour", 1)]
    assert scored.shown is scored.lesions[0]


def test_sides_without_content_in_common_are_refused(tmp_path):
    lung, soft = (np.full((2, 64, 64), level, np.float32) for level in (-850, 40))
    manifest = read_manifest(write_unpaired(tmp_path, sources=[lung], targets=[soft]))
    with pytest.raises(ValueError, match="source and target of split 'test' have no content in common"):
        read_unpaired_set(manifest, config=CONFIG)


def test_lungs_are_not_given_without_pairs(manifest, tmp_path):
    sentence = r"lungs\.nrrd: lungs are given for pairs, and the manifest has none in its split 'test'"
    with pytest.raises(ValueError, match=sentence):
        read_scored_sets(manifest, config=CONFIG, lung_mask=tmp_path / "lungs.nrrd")


def test_end_points_are_not_measured_in_vain(tmp_path):
    """Not where there is no report, nor where it has pairs alone."""
    lung, soft = (np.full((2, 64, 64), level, np.float32) for level in (-850, 40))
    path = write_unpaired(tmp_path, sources=[lung], targets=[soft])
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    in_vain = {"endpoints": lambda: pytest.fail("they were measured"), "out": tmp_path / "report"}
    with pytest.raises(ValueError, match="no content in common"):
        evaluate_model(path, model=model, config=CONFIG, inference=InferenceConfig(), **in_vain)
    pairs = read_manifest(write_pairs(tmp_path / "pairs")).query("split == 'test'")
    evaluate(*read_scored_sets(pairs, config=EvaluationConfig(num_rois=1, num_workers=1)), methods={}, facts={}, **in_vain)


def test_pixels_of_other_sizes_are_spoken_of(manifest, caplog):
    coarse = manifest.assign(spacing_y_mm=manifest["spacing_y_mm"].where(manifest["role"] == "source", 1.0))
    coarse["spacing_x_mm"] = coarse["spacing_y_mm"]
    read_unpaired_set(coarse, config=CONFIG)
    assert "pixels of the source have 0.80 mm and those of the target 1.00 mm" in caplog.text


def test_a_split_with_pairs_and_without_gives_both(manifest, tmp_path):
    volumes = (make_bodies(2, seed=5, **SOFT), make_bodies(2, seed=5, **SHARP))
    pairs = read_manifest(write_pairs(tmp_path / "pairs", volumes=volumes)).assign(split="test")
    few = EvaluationConfig(num_rois=3, num_workers=1)
    both = pd.concat([manifest, pairs], ignore_index=True)
    evaluation = evaluate(*read_scored_sets(both, config=few), methods={}, out=tmp_path / "out", facts={})
    assert evaluation.paired.scores.ccc["method"].unique().tolist() == ["source"]
    assert evaluation.unpaired.facts["unpaired"]["source"]["num_slices"] == 8  # those of the pairs among them
    assert {"ccc.csv", "unpaired.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("## Concordance") < text.index("## Without pairs")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["split"]["num_pairs"] == 2
    assert main_tables(evaluation).startswith("CCC, random regions")
    evaluate(*read_scored_sets(pairs, config=few), methods={}, out=tmp_path / "out", facts={})
    assert not any(path.name.startswith("unpaired") for path in (tmp_path / "out").iterdir())
    assert "Without pairs" not in (tmp_path / "out" / "report.md").read_text()


def test_the_catalogue_is_measured_through_slices_that_follow_each_other_in_one_half(manifest):
    one = manifest[manifest["patient"].isin(("source 0", "target 0"))].reset_index(drop=True)
    config = EvaluationConfig(num_rois=2, num_workers=1, features="catalogue")
    scored = read_unpaired_set(one, config=config)
    assert {len(roi.volume_mask) for roi in scored.source_rois} <= {2, 3}
    assert {len(roi.volume_mask) for roi in scored.target_rois} == {1}  # of three slices every second is in the other half


def test_so_many_slices_are_looked_at_as_are_asked_for(manifest):
    scored = read_unpaired_set(manifest, config=EvaluationConfig(num_rois=2, num_workers=1, num_slices=3))
    assert (len(scored.source.hu), len(scored.target.hu)) == (3, 3)


def test_a_model_is_set_against_its_linear_match(manifest, tmp_path):
    few = manifest[(manifest["patient"].isin(("source 0", "target 0"))) & (manifest["slice_index"] < 2)]
    write_manifest(few, tmp_path / "unpaired.parquet")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    config = EvaluationConfig(num_rois=2, num_workers=1)
    printed = evaluate_model(
        tmp_path / "unpaired.parquet", model=model, out=tmp_path / "report", config=config, inference=InferenceConfig()
    )
    table = pd.read_csv(tmp_path / "report" / "unpaired.csv")
    assert list(table["method"]) == ["source", "linear", "ltdiff", "target"]
    assert "| ltdiff " in printed
    assert "model_weights_sha256" in json.loads((tmp_path / "report" / "summary.json").read_text())
