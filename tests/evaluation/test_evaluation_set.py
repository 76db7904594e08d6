"""Scoring methods on the test pairs of a manifest."""

import json

import numpy as np
import pandas as pd
import pytest
from tiny_run import save_volume

from ltdiff.data.pairing import pair_named
from ltdiff.data.rois import HU_RANGES, random_rois
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate
from ltdiff.evaluation.evaluation_set import read_evaluation_set

SHAPE = (10, 96, 96)
CONFIG = EvaluationConfig(num_rois=6, num_workers=1)


class Recorder:
    """A method that changes nothing and remembers what it was given."""

    def __init__(self):
        self.given = {}

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        self.given[first_slice] = hu[0]
        return hu


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Manifest, source and target of ten pairs; the source is a coarser version of the target."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    target = rng.integers(-100, 100, SHAPE).astype(float)
    target[:, :, : SHAPE[2] // 2] -= 550  # lung on the left, soft tissue on the right
    source = np.round(0.5 * target)
    for name, hu in (("source", source), ("target", target)):
        save_volume(hu, folder / f"{name}.mha")
    return pair_named(folder / "source.mha", folder / "target.mha", split="z:0.7").manifest, source, target


@pytest.fixture(scope="module")
def evaluated(volumes, tmp_path_factory):
    recorder, out = Recorder(), tmp_path_factory.mktemp("report")
    scored = read_evaluation_set(volumes[0], config=CONFIG)
    evaluation = evaluate(scored, methods={"same": recorder}, out=out, facts={"extra": 1})
    return recorder, evaluation.paired.scores, out


def test_a_method_is_given_the_source_of_the_test_slices_and_nothing_else(volumes, evaluated):
    assert sorted(evaluated[0].given) == [7, 8, 9]
    for number, hu in evaluated[0].given.items():
        assert np.array_equal(hu, volumes[1][number])


def test_a_method_that_does_nothing_scores_as_the_source(evaluated):
    table = evaluated[1].ccc
    columns = ["roi_set", "feature_class", "definition", "ccc_mean"]
    same, source = (table.loc[table["method"] == name, columns].reset_index(drop=True) for name in ("same", "source"))
    pd.testing.assert_frame_equal(same, source)


def test_the_summary_says_what_was_scored(evaluated):
    summary = json.loads((evaluated[2] / "summary.json").read_text())
    assert summary["split"] == {"spec": "z:0.7", "scored": "test", "num_pairs": 3}
    assert summary["extra"] == 1
    assert len(summary["data_fingerprint"]) == 64
    assert summary["seconds_per_slice"]["same"] > 0


class Halver:
    """A method that changes features."""

    def harmonize(self, features):
        return features / 2


def test_methods_that_change_features_and_the_remaining_error_are_in_the_report(volumes, tmp_path):
    scores = evaluate(
        read_evaluation_set(volumes[0], config=CONFIG),
        methods={"same": Recorder()},
        harmonizers={"half": Halver()},
        out=tmp_path,
        facts={},
        compared="same",
    ).paired.scores
    assert list(scores.ccc["method"].unique()) == ["source", "same", "half"]
    assert list(scores.image_metrics["method"]) == ["source", "same"]
    ratios = pd.read_csv(tmp_path / "remaining_error.csv")
    assert set(ratios["other"]) == {"source", "half"}
    assert (ratios.loc[ratios["other"] == "source", "ratio"] == 1).all()


def test_slices_know_their_series_and_their_place(volumes, tmp_path):
    """Of two patients, the first of one does not follow the last of the other."""
    for name, hu in (("source", volumes[1]), ("target", volumes[2])):
        save_volume(hu[::-1], tmp_path / f"{name}.mha")
    other = pair_named(tmp_path / "source.mha", tmp_path / "target.mha", split="z:0.7").manifest
    manifest = pd.concat([volumes[0], other], ignore_index=True)
    scored = read_evaluation_set(manifest, config=CONFIG)
    assert [scan().series.tolist() for scan in scored.scans] == [[0, 0, 0], [1, 1, 1]]
    assert [scan().slice_numbers.tolist() for scan in scored.scans] == [[7, 8, 9], [7, 8, 9]]
    evaluate(scored, methods={}, facts={}, out=tmp_path)
    assert pd.read_csv(tmp_path / "slice_correlation.csv")["num_pairs"].tolist() == [4]
    places = pd.read_csv(tmp_path / "slices.csv").set_index("slice_index")
    rows = manifest[(manifest["split"] == "test") & (manifest["role"] == "source")]
    assert places.index.tolist() == list(range(6))
    assert places["slice_number"].tolist() == [7, 8, 9, 7, 8, 9]
    assert set(zip(places["series_uid"], places["z_mm"], strict=True)) == set(zip(rows["series_uid"], rows["z_mm"], strict=True))


def test_lesion_cross_sections_are_counted_whatever_their_size(volumes, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[7:9, 40:50, 40:50] = 1
    labels[7, 60, 60] = 2
    mask = save_volume(labels, tmp_path / "mask.mha")
    scored = read_evaluation_set(volumes[0], config=CONFIG, mask=mask)
    assert scored.num_cross_sections == scored.facts["num_lesion_cross_sections"] == 3
    assert [region.roi_set for region in scored.lesions] == ["tumour", "tumour"]
    assert (scored.shown.roi_set, scored.shown.slice_index) == ("tumour", 0)
    evaluate(scored, methods={}, facts={}, out=tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "They show 1 lesion. 1 of 3 cross-sections are left out" in report


def test_a_mask_that_shows_nothing_in_the_scored_slices_is_spoken_of(volumes, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 40:50, 40:50] = 1
    scored = read_evaluation_set(volumes[0], config=CONFIG, mask=save_volume(labels, tmp_path / "mask.mha"))
    evaluate(scored, methods={}, facts={}, out=tmp_path)
    assert "The mask shows no region in the scored slices" in (tmp_path / "report.md").read_text()
    evaluate(read_evaluation_set(volumes[0], config=CONFIG), methods={}, facts={}, out=tmp_path)
    assert "The mask shows" not in (tmp_path / "report.md").read_text()


def test_series_of_another_size_cost_themselves(volumes, tmp_path, caplog):
    manifest = volumes[0]
    for name in ("source", "target"):
        save_volume(np.full((4, 40, 48), 20.0 if name == "source" else 30.0), tmp_path / f"{name}.mha")
    small = pair_named(tmp_path / "source.mha", tmp_path / "target.mha").manifest
    both = pd.concat([manifest, small], ignore_index=True)
    scored = read_evaluation_set(both, config=CONFIG)
    assert len(scored.places) == len(read_evaluation_set(manifest, config=CONFIG).places)
    assert [scan().source_hu.shape for scan in scored.scans] == [(3, *SHAPE[1:])]
    assert "left out are 2 series of other sizes (40 x 48)" in caplog.text


def test_a_split_without_pairs_is_refused(volumes):
    manifest = volumes[0].assign(split="train")
    with pytest.raises(ValueError, match="no pair in its split 'test'"):
        read_evaluation_set(manifest, config=CONFIG)


def test_regions_depend_on_the_target_and_the_seed_alone(volumes, tmp_path):
    """They are those of `random_rois` on all scored slices at once; lesions come last."""
    target = volumes[2][7:].astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[8, 40:50, 40:50] = 1
    mask = save_volume(labels, tmp_path / "mask.mha")
    (scan,) = read_evaluation_set(volumes[0], config=CONFIG, mask=mask).scans
    expected = random_rois(target, num_rois=6)
    for hu_range in HU_RANGES:
        expected += random_rois(target, num_rois=6, hu_range=hu_range)
    found = scan().scored
    assert [(roi.roi_set, roi.slice_index, roi.label) for roi in found[:-1]] == [
        (roi.roi_set, roi.slice_index, roi.label) for roi in expected
    ]
    assert {"random", "hu_-800_-300", "hu_-100_250"} <= {roi.roi_set for roi in found}
    assert (found[-1].roi_set, found[-1].slice_index) == ("tumour", 1)


def test_the_catalogue_is_scored_in_regions_of_several_slices(volumes, tmp_path):
    config = EvaluationConfig(num_rois=3, num_workers=1, features="catalogue")
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:, 40:50, 40:50] = 1
    save_volume(labels, tmp_path / "mask.nii.gz")
    scored = read_evaluation_set(volumes[0], config=config, mask=tmp_path / "mask.nii.gz")
    depths = {(roi.roi_set, len(roi.volume_mask)) for roi in scored.scans[0]().scored}
    assert {depth for roi_set, depth in depths if roi_set == "random"} <= {2, 3}  # there are three slices
    assert depths >= {("tumour", 2), ("whole_slice", 1)}
    scores = evaluate(scored, methods={}, facts={}, out=tmp_path / "report").paired.scores
    assert scores.ccc["feature_class"].nunique() == 8
    assert len(scores.features.features) > 1000
    assert set(scores.ccc["method"]) == {"source"}
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## As in the paper" in text
    assert "0.86 ± 0.11" in text
    groups = pd.read_csv(tmp_path / "report" / "group_ccc.csv")
    assert set(groups["group"]) == {"GOH", "GLCM", "GLRLM", "ID", "IH", "NID"}
    regions = json.loads((tmp_path / "report" / "rois.json").read_text())["rois"]
    assert {region["num_slices"] for region in regions} >= {1, 2}
    facts = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert facts["feature_set"] == "catalogue"
    assert "ltdiff catalogue" in facts["extractor"]


def test_the_ibsi_features_are_scored_in_the_same_regions(volumes, tmp_path):
    config = EvaluationConfig(num_rois=2, num_workers=1, features="ibsi")
    scored = read_evaluation_set(volumes[0], config=config)
    assert {len(roi.volume_mask) for roi in scored.scans[0]().scored} > {1}
    scores = evaluate(scored, methods={}, facts={}, out=tmp_path / "report").paired.scores
    assert set(scores.ccc["feature_class"]) == {"stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngt", "ngl"}
    assert len(scores.features.features) == 455
    facts = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert (facts["feature_set"], facts["extractor"]) == ("ibsi", "ltdiff ibsi")
