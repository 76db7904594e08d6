"""`ltdiff find-pairs` on a small index."""

import pytest
from open_index_files import row, spread_rows, write_index

from ltdiff.cli import run_ltdiff


@pytest.fixture
def index(tmp_path):
    return str(write_index(tmp_path / "index", spread_rows()))


def test_a_list_is_written(index, tmp_path, capsys):
    out = tmp_path / "list"
    arguments = ["find-pairs", "--kernels", "B50f, B30f", "--patients", "3", "--out", str(out), "--index", index]
    assert run_ltdiff(arguments) == 0
    assert {path.name for path in out.iterdir()} == {"download.s5cmd", "series.csv", "citation.md"}
    assert f"{out / 'download.s5cmd'}: 6 series of 3 patients, 0.5 GB, CC BY 4.0" in capsys.readouterr().out


def test_fewer_patients_than_asked_for_are_said(index, tmp_path, caplog, capsys):
    assert run_ltdiff(["find-pairs", "--kernels", "B30f,B50f", "--out", str(tmp_path / "list"), "--index", index]) == 0
    assert "only 4 patients have two of these kernels" in caplog.text + capsys.readouterr().err


def test_without_kernels_the_pairs_are_counted(index, capsys):
    assert run_ltdiff(["find-pairs", "--index", index]) == 0
    shown = capsys.readouterr().out
    assert "| B30f       | B50f       | SIEMENS            |       4 |          4 |" in shown
    assert "6 scans of 6 patients have two kernels or more" in shown


@pytest.mark.parametrize("arguments", [["--kernels", "A,B"], ["--out", "list"], ["--patients", "3"]])
def test_options_that_belong_together(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_ltdiff(["find-pairs", *arguments]) == 2
    assert "--kernels and --out belong together, and --patients to them" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_kernels_that_no_scan_has_are_one_sentence(index, tmp_path, capsys):
    out = tmp_path / "list"
    assert run_ltdiff(["find-pairs", "--kernels", "B30f,BONE", "--out", str(out), "--index", index]) == 1
    assert "no scan has two of the kernels 'B30f', 'BONE'" in capsys.readouterr().err
    assert not out.exists()


def test_a_collection_is_named(tmp_path, capsys):
    rows = [row("A1", kernel, collection_id="other") for kernel in ("B30f", "B50f")]
    assert run_ltdiff(["find-pairs", "--collection", "other", "--index", str(write_index(tmp_path, rows))]) == 0
    assert "1 scans of 1 patients" in capsys.readouterr().out
