"""`ltdiff harmonize-features`: from a table of two scanners to a harmonized table of new patients."""

import pandas as pd
import pytest
from scanner_tables import FEATURES, error, scanner_table
from small_disk import small_disk

from ltdiff.cli import run_ltdiff
from ltdiff.evaluation import identifiability
from ltdiff.radiomics.feature_table import MARK

MODEL = "harmonization.safetensors"
OPTIONS = ["--batch", "scanner", "--covariates", "age,sex", "--patient", "patient"]
REPORT = ["covariates.csv", "distributions.csv", "distributions.png", "identifiability.csv", "report.md"]


def _run(*words):
    return run_ltdiff(["harmonize-features", *map(str, words)])


@pytest.fixture(autouse=True, scope="module")
def few_folds():
    """Classifiers of a diagnosis: 4 instead of 25."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(identifiability, "MAX_FOLDS", 2)
        yield


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Folder with two_scanners.csv, new.parquet and fit; and new patients as scanner A would have measured them."""
    folder = tmp_path_factory.mktemp("tables")
    scanner_table(60)[0].to_csv(folder / "two_scanners.csv", index=False)
    new, truth = scanner_table(20, seed=1)
    new.to_parquet(folder / "new.parquet")
    assert _run(*_fit(folder)) == 0
    return folder, truth


def _fit(folder):
    return ("fit", folder / "two_scanners.csv", *OPTIONS, "--reference", "A", "--keep", "glcm_1*", "--out", folder / "fit")


def test_new_patients_are_harmonized(tables, tmp_path, capsys):
    folder, truth = tables
    assert _run("apply", folder / "fit" / MODEL, folder / "new.parquet", "--out", tmp_path / "made" / "new.csv") == 0
    assert "new.csv: 9 features of 20 rows" in capsys.readouterr().out
    harmonized, new = pd.read_csv(tmp_path / "made" / "new.csv"), pd.read_parquet(folder / "new.parquet")
    kept = [name for name in FEATURES if name.startswith("glcm_1")]
    pd.testing.assert_frame_equal(harmonized[kept], new[kept])
    truth = truth.assign(**new[kept])
    assert error(harmonized, truth) < 0.5 * error(new, truth)
    assert harmonized[MARK].str.fullmatch(r"combat, sha256 [0-9a-f]{12}").all()


def test_the_same_fit_again_makes_the_same_files_and_another_does_not_replace_it(tables, capsys):
    folder, _ = tables
    before = {one.name: one.read_bytes() for one in (folder / "fit").iterdir()}
    assert sorted(before) == sorted([*REPORT, "fit.json", MODEL])
    assert _run(*_fit(folder), "--method", "covbat") == 1
    assert "method was 'combat', now 'covbat'" in capsys.readouterr().err
    assert _run(*_fit(folder)) == 0
    shown = capsys.readouterr().out
    assert "| scanner" in shown
    assert "harmonization.safetensors: combat of 9 features, fitted to 60 rows; see report.md" in shown
    assert before == {one.name: one.read_bytes() for one in (folder / "fit").iterdir()}


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["fit", "two_scanners.csv", "--batch", "site", "--out", "fit"], 1, "two_scanners.csv: there is no column 'site'"),
        (["fit", "nothing.csv", "--batch", "scanner", "--out", "fit"], 1, "nothing.csv: No such file"),
        (["fit", "two_scanners.csv", "--batch", "scanner", "--method", "magic", "--out", "fit"], 2, "magic"),
        (["fit", "two_scanners.csv", "--batch", "scanner,", "--covariates", "age,scanner", "--out", "fit"], 1, "two roles"),
        (["apply", "new.parquet", "two_scanners.csv", "--out", "made.csv"], 1, "new.parquet is no harmonization"),
        (["apply", "nothing", "two_scanners.csv", "--out", "made.csv"], 1, "nothing: there is no such file"),
        (["apply", "nothing", "new.parquet", "--out", "./new.parquet"], 2, "new.parquet is the table itself"),
        (["apply", "nothing", "new.parquet", "--out", "made.txt"], 1, "ends with .parquet or .csv"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_nothing_is_written(words, code, named, tables, monkeypatch, capsys):
    folder, _ = tables
    monkeypatch.chdir(folder)
    before = sorted(one.name for one in folder.iterdir())
    assert _run(*words) == code
    shown = capsys.readouterr().err
    assert named in shown
    assert shown.count("\n") == 1
    assert sorted(one.name for one in folder.iterdir()) == before


def test_a_harmonized_table_is_not_harmonized_again(tables, tmp_path, capsys):
    folder, _ = tables
    made, out = tmp_path / "made.csv", tmp_path / "twice"
    assert _run("apply", folder / "fit" / MODEL, folder / "new.parquet", "--out", made) == 0
    capsys.readouterr()
    for words in (("apply", folder / "fit" / MODEL, made, "--out", f"{out}.csv"), ("fit", made, *OPTIONS, "--out", out)):
        assert _run(*words) == 1
        assert "made.csv: the table is harmonized already" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["made.csv"]


def test_a_full_disk_leaves_the_table_that_was_there(tables, tmp_path, capsys):
    """The new table is moved over the old one when it is complete."""
    folder, _ = tables
    pd.concat([pd.read_parquet(folder / "new.parquet")] * 100).to_parquet(tmp_path / "many.parquet")
    with small_disk(tmp_path / "disk", size_kb=64) as disk:
        (disk / "made.csv").write_text("mine")
        assert _run("apply", folder / "fit" / MODEL, tmp_path / "many.parquet", "--out", disk / "made.csv") == 1
        assert "No space left on device" in capsys.readouterr().err
        assert (disk / "made.csv").read_text() == "mine"
        assert [one.name for one in disk.iterdir()] == ["made.csv"]
