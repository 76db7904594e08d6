"""`ltdiff survey` on the command line: what it prints, and its exit codes."""

from dicom_files import SPACING_MM, edit, identity, phantom_hu

from ltdiff.cli import run_ltdiff
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series


def _write(folder, kernel):
    of_series = identity(series_uid=stable_uid("series", kernel), kernel=kernel)
    return write_ct_series(phantom_hu(), out_dir=folder, identity=of_series, spacing_mm=SPACING_MM)


def test_the_protocols_are_printed(tmp_path, capsys):
    for kernel in ("Br40", "Bl64"):
        _write(tmp_path / "archive" / kernel, kernel)
    (tmp_path / "archive" / "notes.txt").write_text("x")
    assert run_ltdiff(["survey", str(tmp_path / "archive"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "Br40, 2.5 mm, 120 kV, ltdiff pretrained" in printed.out
    assert "2 protocols, 2 series, 10 slices; 2 of 2 ways" in printed.out
    assert (tmp_path / "out" / "standardizable.csv").is_file()


def test_a_series_that_cannot_be_used_is_named_and_fails_the_command(tmp_path, caplog):
    _write(tmp_path / "archive" / "good", "Br40")
    bad = _write(tmp_path / "archive" / "bad", "Bl64")
    edit(bad / "slice_0003.dcm", PixelSpacing="0.7")
    assert run_ltdiff(["survey", str(tmp_path / "archive"), "--out", str(tmp_path / "out")]) == 1
    assert "PixelSpacing" in caplog.text
    assert "PixelSpacing" in (tmp_path / "out" / "issues.csv").read_text()


def test_an_archive_without_ct_is_nothing_to_do(tmp_path, capsys):
    (tmp_path / "archive").mkdir()
    assert run_ltdiff(["survey", str(tmp_path / "archive"), "--out", str(tmp_path / "out")]) == 3
    assert "there is no file" in capsys.readouterr().err
