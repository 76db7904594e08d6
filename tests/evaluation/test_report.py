"""The report: every file is there, complete and readable, and what it says is what was scored."""

import json
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from ltdiff.data.rois import disc_mask
from ltdiff.evaluation.error_ratio import largest_shares, remaining_error_ratios
from ltdiff.evaluation.feature_values import FeatureArray
from ltdiff.evaluation.markdown import Section, paired_sections, to_markdown
from ltdiff.evaluation.report import add_section, write_report
from ltdiff.radiomics.pyradiomics import EXTRACTOR_VERSION

OF_REGIONS = {"endpoints.csv", "endpoint_agreement.csv"}
"""Of scans that show lungs, or lesions of a mask."""
FILES = {
    "ccc.csv",
    "feature_ccc.csv",
    "relative_error.csv",
    "image_metrics.csv",
    "noise_power.csv",
    "structures.csv",
    "structure_summary.csv",
    "slice_correlation.csv",
    "content.csv",
    "slices.csv",
    "features.parquet",
    "rois.json",
    "robust_features.csv",
    "reporting.md",
    "summary.json",
    "report.md",
    "ccc.png",
    "slices.png",
    *OF_REGIONS,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory, collect):
    out_dir = tmp_path_factory.mktemp("evaluation") / "new"
    result = collect(facts={"seconds": np.float64(1.5), "method": "x", "bootstrap_seed": 0})
    assert write_report(result, out_dir=out_dir) == out_dir / "report.md"
    return out_dir


def test_files(report):
    assert {path.name for path in report.iterdir()} == FILES  # and nothing temporary


def test_tables_come_back(report, scores):
    pd.testing.assert_frame_equal(pd.read_csv(report / "ccc.csv"), scores.ccc, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(report / "image_metrics.csv"), scores.image_metrics, check_dtype=False)
    features = pd.read_parquet(report / "features.parquet")
    pd.testing.assert_frame_equal(features, scores.features.to_table(), check_dtype=False, check_categorical=False)


def test_rois_can_be_rebuilt(report, rois):
    stored = json.loads((report / "rois.json").read_text())
    assert stored["recipe"]["radius_px"] == [8, 15]
    for description, roi in zip(stored["rois"], rois, strict=True):
        assert (description["roi_set"], description["slice_index"]) == (roi.roi_set, roi.slice_index)
        if roi.roi_set == "random":
            y, x, radius = (int(part[1:]) for part in description["label"].split("_"))
            np.testing.assert_array_equal(disc_mask((96, 96), centre_yx=(y, x), radius_px=radius), roi.mask)


def test_summary_merges_the_callers(report):
    summary = json.loads((report / "summary.json").read_text())
    assert summary["seconds"] == 1.5
    assert summary["method"] == "x"
    assert summary["extractor_version"] == EXTRACTOR_VERSION
    assert summary["num_rois"] == {"random": 12, "tumour": 1}


def test_markdown_says_what_was_scored(report, scores):
    text = (report / "report.md").read_text()
    row = scores.ccc.query(
        "method == 'better' and roi_set == 'random' and definition == 'across_rois' and feature_class == 'ngtdm'"
    ).squeeze()
    first, second = text.split("Second definition")
    assert f"{row['ccc_mean']:.3f} ± {row['ccc_sd']:.3f}" in first
    assert "across_rois" in first
    assert "across_features" in second
    assert "Not for diagnostic use" in text
    assert "MAE (HU)" in text
    assert "1 region; a CCC of fewer than 20 says little. They show 1 lesion.\n" in text


def test_lesion_sections_that_were_too_small_are_counted(tmp_path, collect):
    write_report(collect(num_cross_sections=4), out_dir=tmp_path)
    _, section = (tmp_path / "report.md").read_text().split("### tumour", maxsplit=1)
    assert "They show 1 lesion. 3 of 4 cross-sections are left out: fewer than 16 pixels" in section.split("###")[0]


def test_neighbouring_slices_are_compared_where_there_are_any(tmp_path, collect, volumes):
    images, target, _ = volumes
    brighter = {name: volume + 640 for name, volume in images.items()}
    write_report(collect(images=brighter, of_scan={"target_hu": target + 640}), out_dir=tmp_path)
    table = pd.read_csv(tmp_path / "slice_correlation.csv")
    assert table["method"].tolist() == ["source", "better"]
    assert table["num_pairs"].tolist() == [1, 1]
    text = (tmp_path / "report.md").read_text()
    assert f"{table['target_correlation'][0]:.3f} from slice to slice of the target (mean of 1)" in text
    content = pd.read_csv(tmp_path / "content.csv")
    assert content["slice_correlation_difference"].tolist() == pytest.approx(table["relative_difference"].tolist())
    two_series = {"target_hu": target + 640, "series": np.array([0, 1])}
    write_report(collect(images=brighter, of_scan=two_series), out_dir=tmp_path)
    assert pd.read_csv(tmp_path / "slice_correlation.csv").empty
    assert "slice to slice" not in (tmp_path / "report.md").read_text()
    assert "slice_correlation_difference" not in pd.read_csv(tmp_path / "content.csv")


def test_end_points_are_there_where_there_are_lungs(tmp_path, collect, volumes):
    result = collect(of_scan={"lungs": np.ones((2, 96, 96), bool)}, facts={"lungs": "found in the target by thresholds"})
    (tmp_path / "risk_scores.csv").touch()  # of an earlier report
    write_report(result, out_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    agreed = pd.read_csv(tmp_path / "endpoint_agreement.csv").query("region == 'lungs'").set_index(["method", "endpoint"])
    source, target = volumes[0]["source"], volumes[1]
    bias = 100 * ((source < -950).mean() - (target < -950).mean())
    assert agreed.loc[("source", "laa_950_percent"), "bias"] == pytest.approx(bias)
    section = (tmp_path / "report.md").read_text().split("## Clinical end points")[1].split("\n## ")[0]
    assert "lungs found in the target by thresholds" in section
    assert f" {bias:.2f} |" in section
    assert "Clinical end points" not in to_markdown(paired_sections(collect(of_scan={"labels": None})))


def test_a_section_is_added_later(tmp_path):
    (tmp_path / "report.md").write_text("# Evaluation\n")
    table = pd.DataFrame({"year": ["1"], "score": ["0.25"]})
    add_section(tmp_path, Section("## Risk scores", "A note.", table), {"risk_scores": table})
    rows = "| year   | score   |\n|:-------|:--------|\n| 1      | 0.25    |\n"
    assert (tmp_path / "report.md").read_text() == f"# Evaluation\n\n## Risk scores\n\nA note.\n\n{rows}"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "risk_scores.csv", dtype=str), table)


def test_the_remaining_error_is_set_against_the_others(tmp_path, scores, collect):
    result = collect(compared="better")
    write_report(result, out_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"remaining_error.csv"}
    table = pd.read_csv(tmp_path / "remaining_error.csv")
    expected = remaining_error_ratios(scores.features, method="better", seed=scores.seed)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    row = table.query("roi_set == 'random' and feature_class == 'glcm'").squeeze()
    _, section = (tmp_path / "report.md").read_text().split("## Remaining error")
    section = section.split("\n## ")[0]
    assert f"| {row['ratio']:.2f} (–) " in section  # two slices
    assert "which needs 5 of them" in section
    wide = replace(result, tables=result.tables | {"remaining_error": table.assign(ci_low=0.111, ci_high=0.999)})
    assert f"| {row['ratio']:.2f} (0.11–1.00) " in to_markdown(paired_sections(wide))
    assert "of better, divided by" in section
    assert "| source" in section


def test_a_reader_is_told_where_one_region_decides(scores, rois, collect):
    result = collect(compared="better")
    assert "One region decides" not in to_markdown(paired_sections(result))
    features = scores.features
    values = features.values.copy()
    wrong = values[features.methods.index("better"), 3]
    wrong[:] = 100 * wrong + 1
    many = FeatureArray(
        np.concatenate([values, values[:, :1].repeat(20, axis=1)], axis=1),
        features.methods,
        features.rois + features.rois[:1] * 20,
        features.feature_set,
    )
    outliers = largest_shares(many).query("method == 'better'")
    text = to_markdown(paired_sections(replace(result, scores=replace(scores, features=many), outliers=outliers)))
    assert f"**One region decides:** {rois[3].label} of slice {rois[3].slice_index} alone holds 100% of the squared error" in text


def test_a_report_that_compares_nothing_has_no_remaining_error(report):
    assert "Remaining error" not in (report / "report.md").read_text()


def test_a_report_without_any_structure_and_over_an_older_one(tmp_path, collect, volumes, rois):
    """No lesion, vessel or airway; what an earlier report in the folder had and this one has not is gone."""
    images, target, _ = volumes
    flat = {name: np.zeros_like(volume) + 500 for name, volume in images.items()}
    for name in ("remaining_error.csv", "noise_power.png", *OF_REGIONS):
        (tmp_path / name).write_text("old")
    nothing = {"target_hu": np.zeros_like(target) + 500, "labels": None}
    result = collect(images=flat, of_scan=nothing, shown=rois[0], lesions=[], num_cross_sections=None)
    write_report(result, out_dir=tmp_path)
    assert pd.read_csv(tmp_path / "structure_summary.csv").empty
    assert "vessels and airways" not in (tmp_path / "report.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == FILES - OF_REGIONS


def test_undefined_values_are_dashes(scores, collect):
    result = collect(scores=replace(scores, ccc=scores.ccc.assign(ccc_mean=np.nan, ccc_sd=np.nan)))
    assert "| – " in to_markdown(paired_sections(result))


def test_pictures_are_small_and_not_blank(report):
    for name in ("ccc.png", "slices.png"):
        assert (report / name).stat().st_size < 1_000_000
        assert matplotlib.image.imread(report / name)[..., :3].std() > 0.05


def test_writing_again_replaces(report, scores, collect):
    (report / "ccc.csv").write_text("old")
    write_report(collect(), out_dir=report)
    assert len(pd.read_csv(report / "ccc.csv")) == len(scores.ccc)
    assert {path.name for path in report.iterdir()} == FILES


def test_a_failed_write_leaves_the_old_file(tmp_path, collect, monkeypatch):
    result = collect()
    (tmp_path / "noise_power.csv").write_text("old")

    def fail_half_way(self, path, **_):
        path.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail_half_way)
    with pytest.raises(OSError, match="No space"):
        write_report(result, out_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["noise_power.csv"]
    assert (tmp_path / "noise_power.csv").read_text() == "old"
