"""The log, the report and the exit code."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from ltdiff.inference.results import MAX_LOGGED_FILES, SeriesResult, exit_code, log_results, write_report


def test_the_report_gathers_several_runs(tmp_path):
    path = tmp_path / "report.csv"
    write_report(
        [SeriesResult(Path("/a"), "fail", "no memory", num_slices=3), SeriesResult(Path("/b\n"), "skip", "no CT")],
        path,
        root=Path("/a"),
    )
    done = SeriesResult(Path("/a"), "written", output=Path("/out/1.2"), num_slices=3, seconds=1.5, model=Path("/models/one"))
    write_report([done], path, root=Path("/a"))
    table = pd.read_csv(path, keep_default_na=False).set_index("source")
    assert table.loc["/a", ["status", "reason", "output", "model"]].tolist() == ["written", "", "/out/1.2", "/models/one"]
    assert table.index.tolist() == [r"'/b\n'", "/a"]
    assert [one.name for one in tmp_path.iterdir()] == ["report.csv"]


def test_the_report_knows_all_outputs_and_no_failure_that_is_mended(tmp_path):
    """The series failed by its second file; mended, it is named by its first. Another model's output of it is there too."""
    path, root, first = tmp_path / "report.csv", Path("/archive"), Path("/archive/slice_1.dcm")
    write_report([SeriesResult(Path("/archive/slice_2.dcm"), "fail", "is truncated")], path, root=root)
    write_report([SeriesResult(Path("/other/slice_1.dcm"), "fail", "is truncated")], path, root=Path("/other"))
    for name in ("one", "two", "two"):
        made = SeriesResult(first, "written", output=Path("/out") / name, model=Path("/models") / name)
        write_report([made], path, root=root)
    table = pd.read_csv(path, keep_default_na=False)
    assert table[["source", "output"]].to_numpy().tolist() == [
        ["/other/slice_1.dcm", ""],
        ["/archive/slice_1.dcm", "/out/one"],
        ["/archive/slice_1.dcm", "/out/two"],
    ]


def test_a_report_of_an_older_version_is_gone_on_with(tmp_path):
    path = tmp_path / "report.csv"
    path.write_text("source,status,reason,output,num_slices,seconds\n/a,skip,no CT,,0,0.0\n")
    write_report([SeriesResult(Path("/b"), "fail", "no memory", model=Path("/models/one"))], path, root=Path("/b"))
    assert pd.read_csv(path, keep_default_na=False)["model"].tolist() == ["", "/models/one"]


def test_the_log_names_all_series_and_failures_and_the_first_files(caplog):
    caplog.set_level(logging.INFO)
    files = [SeriesResult(Path(f"/{n}.txt"), "skip", f"file {n} is no CT") for n in range(MAX_LOGGED_FILES + 5)]
    series = [SeriesResult(Path("/s"), "skip", "series is derived", num_slices=4)]
    log_results([*files, *series, SeriesResult(Path("/f"), "fail", "it is broken"), SeriesResult(Path("/w"), "written")])
    lines = [record.getMessage() for record in caplog.records]
    assert sum("is no CT" in line for line in lines) == MAX_LOGGED_FILES
    assert lines[-4:] == [
        "skipped: 5 more files, all in the report",
        "skipped: series is derived",
        "failed: it is broken",
        f"1 written, 0 present already, {MAX_LOGGED_FILES + 6} skipped, 1 failed",
    ]


def test_only_failures_make_the_exit_code():
    fine = [SeriesResult(Path("/a"), "skip", "no CT"), SeriesResult(Path("/b"), "written"), SeriesResult(Path("/c"), "present")]
    assert exit_code(fine) == 0
    assert exit_code([*fine, SeriesResult(Path("/d"), "fail", "it is broken")]) == 1


@pytest.mark.parametrize("content", ["source;output\n/a;/out\n", "a,b\n1,2,3\n", b"\xff\xfe\x00s"])
def test_a_report_that_something_else_has_saved_is_set_aside(tmp_path, caplog, content):
    path = tmp_path / "report.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    write_report([SeriesResult(Path("/a"), "skip", "no CT")], path, root=Path("/a"))
    assert pd.read_csv(path)["source"].tolist() == ["/a"]
    assert (tmp_path / "report.csv.old").read_bytes() == before
    assert "report.csv was not as ltdiff had written it, and is report.csv.old now" in caplog.text
