"""A survey of a small archive: its tables, what it refuses, and what a second run reads."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from ltdiff.dicom import header_table
from ltdiff.dicom.series import find_series
from ltdiff.survey import pixel_survey
from ltdiff.survey.archive_survey import draw_survey, survey_archive
from ltdiff.system.errors import NothingToDoError

FILES = {f"{name}.{kind}" for name in ("protocols", "series", "curves", "standardizable") for kind in ("csv", "parquet")}
FILES |= {"issues.csv", "protocols.png", "noise.png", "curves.png", "pixels.jsonl"}


@pytest.fixture
def archive(tmp_path, write_scan):
    """Two patients with kernels B and L, one of them scanned twice; a thin series, a derived one, and a file that is none."""
    root = tmp_path / "archive"
    for patient in ("Doe^Jane", "Roe^Jim"):
        for kernel in ("B", "L"):
            write_scan(root / patient[:3] / kernel, patient=patient, kernel=kernel)
    write_scan(root / "Doe" / "again", patient="Doe^Jane", kernel="B")
    write_scan(root / "thin", patient="p3", thickness_mm=1.0, kernel="B")
    write_scan(root / "derived", patient="p3", kernel="B", ImageType=["DERIVED", "PRIMARY"])
    (root / "notes.txt").write_text("x")
    return root


def test_the_tables(archive, tmp_path):
    out = tmp_path / "out"
    survey = survey_archive(archive, out=out)
    draw_survey(survey, out)
    protocols = survey.protocols.set_index("kernel")
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == FILES
    thick = survey.protocols[survey.protocols["slice_thickness_mm"] == 2.5].set_index("kernel")
    assert thick.loc["B", ["num_patients", "num_series", "num_slices", "num_derived"]].tolist() == [2, 3, 9, 1]
    assert thick.loc["L", ["num_patients", "num_series", "num_slices", "num_derived"]].tolist() == [2, 2, 6, 0]
    assert set(protocols["exposure_max_mas"]) == {90.0}
    assert survey.protocols["noise_hu"].between(5, 20).all()
    assert thick["mtf50_lung_per_mm"].between(0.1, 0.33).all()
    assert set(survey.curves["quantity"]) == {"nps", "mtf_skin", "mtf_lung"}
    assert len(survey.series) == 7
    assert [issue.action for issue in survey.issues] == ["skip"]
    for name in ("protocols", "series", "curves", "standardizable"):
        assert (
            len(pd.read_parquet(out / f"{name}.parquet")) == len(pd.read_csv(out / f"{name}.csv")) == len(getattr(survey, name))
        )


def test_a_series_of_the_table_is_found_where_it_says(archive, tmp_path):
    survey = survey_archive(archive, out=tmp_path / "out")
    for row in survey.series.to_dict("records"):
        found, _ = find_series(row["folder"])
        (series,) = [one for one in found if one.series_instance_uid == row["series_uid"]]
        assert (series.patient_key, series.num_slices, series.kernel) == (row["patient_key"], row["num_slices"], row["kernel"])


def test_no_name_or_number_of_a_patient_is_written(write_scan, tmp_path):
    write_scan(tmp_path / "a" / "b", patient="Doe^Jane-XQ47", SeriesDescription="Doe^Jane ADMIRE 3", ImageComments="Jane")
    survey_archive(tmp_path / "a", out=tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert not any(word in path.read_bytes() for word in (b"Doe", b"Jane", b"XQ47", b"20200517"))


def test_ways_and_refusals(archive, tmp_path):
    ways = survey_archive(archive, out=tmp_path / "out").standardizable
    assert len(ways) == 3 * 2
    open_ways = ways[ways["possible"]]
    assert {
        tuple(name.split(",")[0] for name in pair) for pair in zip(open_ways["source"], open_ways["target"], strict=True)
    } == {("B", "L"), ("L", "B")}
    assert (open_ways["num_shared_scans"] == 2).all()
    assert open_ways["caution"].str.contains("slices").all()
    refused = ways[~ways["possible"]]["reason"]
    assert refused.str.contains("slices of").all()
    assert (ways["possible"] == (ways["reason"] == "")).all()


def test_a_second_run_reads_what_is_new(archive, tmp_path, write_scan, monkeypatch, settled):
    out = tmp_path / "out"
    first = survey_archive(archive, out=out)
    write_scan(archive / "new", patient="p4", kernel="L")
    read, measured = [], []
    read_header, measure = header_table.read_header, pixel_survey.measure_sample
    monkeypatch.setattr(header_table, "read_header", lambda path: read.append(path) or read_header(path))
    monkeypatch.setattr(pixel_survey, "measure_sample", lambda sample: measured.append(sample) or measure(sample))
    second = survey_archive(archive, out=out)
    assert {path.parent for path in read} == {archive / "new"}
    assert len(measured) == 1
    assert len(second.series) == len(first.series) + 1
    pd.testing.assert_frame_equal(second.curves, survey_archive(archive, out=tmp_path / "other").curves)


def test_a_line_that_was_cut_short_is_done_again(archive, tmp_path):
    out = tmp_path / "out"
    first = survey_archive(archive, out=out)
    content = (out / "pixels.jsonl").read_text()
    (out / "pixels.jsonl").write_text(content[: len(content) // 2])
    pd.testing.assert_frame_equal(survey_archive(archive, out=out).protocols, first.protocols)


def test_files_that_change_are_read_again(archive, tmp_path, write_scan):
    out = tmp_path / "out"
    survey_archive(archive, out=out)
    shutil.rmtree(archive / "thin")
    write_scan(archive / "thin", patient="p3", thickness_mm=1.0, kernel="sharp")
    assert "sharp" in set(survey_archive(archive, out=out).protocols["kernel"])


def test_slices_in_several_folders_are_one_series(tmp_path, write_scan):
    whole = write_scan(tmp_path / "whole", num_slices=4)
    alone = survey_archive(tmp_path / "whole", out=tmp_path / "out").series
    for part in ("a", "b"):
        (tmp_path / "parts" / part).mkdir(parents=True)
    for number, path in enumerate(sorted(whole.iterdir())):
        shutil.copy(path, tmp_path / "parts" / "ab"[number // 2])
    survey = survey_archive(tmp_path / "parts", out=tmp_path / "out_of_parts")
    assert survey.series["folder"].tolist() == [str(tmp_path / "parts")]
    pd.testing.assert_frame_equal(survey.series.drop(columns="folder"), alone.drop(columns="folder"))


def test_a_bad_slice_in_another_folder_fails_its_series(tmp_path, write_scan):
    root = tmp_path / "archive"
    write_scan(root / "a", num_slices=4)
    write_scan(root / "good", patient="p2")
    (root / "b").mkdir()
    last = root / "a" / "slice_0004.dcm"
    (root / "b" / "x").write_bytes(last.read_bytes()[:-500])
    last.unlink()
    survey = survey_archive(root, out=tmp_path / "out")
    assert len(survey.series) == 1
    (issue,) = survey.issues
    assert issue.action == "fail"
    assert "truncated" in issue.reason


def test_values_that_are_no_hu_cost_their_series_alone(tmp_path, write_scan):
    root = tmp_path / "archive"
    write_scan(root / "good")
    write_scan(root / "bad", patient="p2", kernel="L", RescaleIntercept=0)
    survey = survey_archive(root, out=tmp_path / "out")
    (issue,) = [issue for issue in survey.issues if issue.action == "fail"]
    assert "implausible HU" in issue.reason
    assert str(root / "bad") in issue.reason
    assert not survey.standardizable["possible"].any()
    assert survey.standardizable["reason"].str.contains("no HU").all()
    assert np.isnan(survey.protocols.set_index("kernel").loc["L", "noise_hu"])


def test_an_unforeseen_error_costs_its_series_alone(archive, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(pixel_survey, "noise_level_hu", fail)
    survey = survey_archive(archive, out=tmp_path / "out")
    fails = [issue for issue in survey.issues if issue.action == "fail"]
    assert len(fails) == 6
    assert all("does not foresee" in issue.reason and "Doe^" not in issue.reason for issue in fails)


def test_an_unknown_kernel_is_refused(tmp_path, write_scan):
    write_scan(tmp_path / "a" / "1", kernel="")
    write_scan(tmp_path / "a" / "2", patient="p2")
    ways = survey_archive(tmp_path / "a", out=tmp_path / "out").standardizable
    assert ways["reason"].str.contains("does not name the kernel").all()


def test_the_folder_of_the_tables_may_lie_in_the_archive(archive):
    first = survey_archive(archive, out=archive / "out")
    second = survey_archive(archive, out=archive / "out")
    assert [issue.path for issue in second.issues] == [issue.path for issue in first.issues] == [archive / "notes.txt"]


def test_an_archive_without_ct_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("x")
    with pytest.raises(NothingToDoError, match="no original CT series found"):
        survey_archive(tmp_path / "a", out=tmp_path / "out")
    with pytest.raises(ValueError, match="is no folder"):
        survey_archive(tmp_path / "a" / "notes.txt", out=tmp_path / "out")
    with pytest.raises(ValueError, match="num_workers must be at least 1"):
        survey_archive(tmp_path / "a", out=tmp_path / "out", num_workers=0)


def test_a_name_that_is_no_utf8_is_named(tmp_path, write_scan):
    write_scan(tmp_path / "a" / "good")
    os.rename(write_scan(tmp_path / "a" / "bad", patient="p2"), os.fsencode(tmp_path / "a") + b"/\xff")  # noqa: PTH104
    survey = survey_archive(tmp_path / "a", out=tmp_path / "out")
    assert len(survey.series) == 1
    assert ["not UTF-8" in issue.reason for issue in survey.issues] == [True]


def test_kept_results_are_json(archive, tmp_path):
    survey_archive(archive, out=tmp_path / "out")
    lines = (tmp_path / "out" / "pixels.jsonl").read_text().split("\n")
    assert all(len(json.loads(line)) == 2 for line in lines if line)


@pytest.mark.slow
def test_ray_tasks_give_the_same_tables(archive, tmp_path):
    here = survey_archive(archive, out=tmp_path / "here")
    there = survey_archive(archive, out=tmp_path / "there", num_workers=2)
    for name in ("protocols", "series", "curves", "standardizable"):
        pd.testing.assert_frame_equal(getattr(there, name), getattr(here, name))
