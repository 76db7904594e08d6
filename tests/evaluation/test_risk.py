"""Risk scores of source, standardized images and target: known values, failures, and going on after them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_run import make_rows, make_volumes, save_tiny_model, save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.data.manifest import check_manifest, write_manifest
from ltdiff.data.paired_scans import find_paired_scans
from ltdiff.evaluation.risk import RiskEvaluation, risk_section
from ltdiff.evaluation.risk_command import RiskCommand
from ltdiff.inference.method import Method
from ltdiff.inference.series_method import SeriesMethod
from ltdiff.system.lock import only_writer

STAND_IN = """
import array
import sys
from dataclasses import replace
from pathlib import Path
stored = array.array("H")
for path in Path(sys.argv[1]).iterdir():
    stored.frombytes(path.read_bytes()[-2 * 48 * 48:])  # the pixels, which are the last element
score = (sum(stored) / len(stored) - 24) / 1000  # of 1000 + HU, stored as 1024 + HU
with open(sys.argv[3], "a") as log:
    print(f"{score:.6f}", file=log)
rows = [f"{year},{score * year / 6}" for year in range(1, 7)]
for change in sys.argv[4:]:
    exec(change)
Path(sys.argv[2]).write_text("year,score\\n" + "\\n".join(rows) + "\\n")
"""
"""A risk model of a kind: the mean HU. It notes that it was called; further arguments are what goes wrong."""
NUM_SCANS = 2


class Brighter(Method):
    """Half way from the source to what is 100 HU brighter."""

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return hu + 50


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two patients, the target of each 100 HU brighter than its source."""
    folder, rows = tmp_path_factory.mktemp("scans"), []
    source = np.clip(make_volumes(3)[0], -900, 500)
    for patient in range(NUM_SCANS):
        for role, offset_hu in (("source", 0), ("target", 100)):
            path = save_volume(source + 20 * patient + offset_hu, folder / f"{patient}_{role}.nrrd")
            of_role = make_rows(path, shape=source.shape, role=role, splits=("test",) * 3)
            rows.append(of_role.assign(patient=f"{patient:012}", pair_id=str(patient) + of_role["pair_id"]))
    return check_manifest(pd.concat(rows, ignore_index=True))


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "calls.txt"


@pytest.fixture
def make(tmp_path, log):
    """What makes an evaluation whose command goes wrong in some way."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)

    def make(*changes: str, identity: str = "model 1") -> RiskEvaluation:
        words = (sys.executable, "-I", "-S", str(script), "{dir}", "{out}", str(log), *changes)
        return RiskEvaluation(RiskCommand(words, 60.0), {"brighter": Brighter()}, identity)

    return make


def run(evaluation: RiskEvaluation, manifest: pd.DataFrame, out: Path):
    return evaluation.score(find_paired_scans(manifest, split="test"), out=out)


def num_calls(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_scores_and_their_agreement(make, manifest, log, tmp_path):
    result = run(make(), manifest, tmp_path / "out")
    assert result.failures == []
    assert num_calls(log) == NUM_SCANS * 3
    agreed = result.agreement.set_index(["year", "method"])
    for year in range(1, 7):
        for method, bias in (("source", -0.1), ("brighter", -0.05)):
            row = agreed.loc[(year, method)]
            assert row["num"] == 2
            assert row["bias"] == pytest.approx(bias * year / 6)
            assert row["mean_absolute_difference"] == pytest.approx(-bias * year / 6)
            assert row["limit_high"] == pytest.approx(bias * year / 6)  # the same for both patients
            variance = (0.02 * year / 6) ** 2 / 4
            assert row["ccc"] == pytest.approx(2 * variance / (2 * variance + row["bias"] ** 2))
    text = risk_section(result).to_markdown()
    assert "Whole scans (2)" in text
    assert "| -0.1000 |" in text.replace("  ", "")
    assert "Missing" not in text


class Flattener(Brighter):
    """Looks at a whole series, and gives all its slices the HU of the first."""

    def __init__(self, level_hu=0.0):
        self.level_hu = level_hu

    def for_series(self, read_slice, *, num_slices, spacing_mm):
        return Flattener(read_slice(0).mean())

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return np.full_like(hu, np.round(self.level_hu))


def test_a_method_that_looks_at_whole_series_does(make, manifest, tmp_path):
    method = SeriesMethod(Flattener(), manifest)
    result = run(replace(make(), methods={"flat": method}), manifest, tmp_path / "out")
    scores = result.scores.query("method == 'flat' and year == 6")
    expected = [(1000 + round(float(method.for_series(uid).level_hu))) / 1000 for uid in scores["series_uid"]]
    np.testing.assert_allclose(scores["score"], expected, rtol=1e-6)
    assert np.diff(scores["score"]) == pytest.approx(0.02, abs=0.002)


def test_the_same_command_again_goes_on(make, manifest, log, tmp_path):
    """What failed is done again; of another model the target and the source are not."""
    out = tmp_path / "out"
    crash = "if len(open(sys.argv[3]).readlines()) == 2: sys.exit('Doe^John')"
    first = run(make(crash), manifest, out)
    assert len(first.failures) == 1
    again = run(make(crash), manifest, out)
    assert again.failures == []
    assert num_calls(log) == NUM_SCANS * 3 + 1
    run(make(crash, identity="model 2"), manifest, out)
    assert num_calls(log) == NUM_SCANS * 3 + 1 + NUM_SCANS
    assert [path for path in (out / "risk").iterdir() if path.suffix != ".csv" and path.name != ".ltdiff.lock"] == []


def test_a_crash_costs_itself_alone_and_names_no_patient(make, manifest, log, tmp_path, caplog):
    crash = "if len(open(sys.argv[3]).readlines()) == 2: print('Doe^John', file=sys.stderr); sys.exit(4)"
    result = run(make(crash), manifest, tmp_path / "out")
    (failure,) = result.failures
    assert failure.startswith("scan 0, brighter: it ended with exit code 4; what it printed last is in ")
    assert Path(failure.rsplit(" ", 1)[1]).read_text() == "Doe^John\n"
    assert "Doe" not in caplog.text
    of_failed = result.scores.query("scan == 0 and method == 'brighter'")
    assert of_failed["score"].isna().all()
    assert of_failed["reason"].unique().tolist() == [failure.removeprefix("scan 0, brighter: ")]
    assert result.agreement.query("year == 1").set_index("method")["num"].to_dict() == {"source": 2, "brighter": 1}
    assert "**Missing:** 1," in risk_section(result).to_markdown()


def test_scores_that_are_none_and_years_that_are_missing(make, manifest, log, tmp_path):
    wrong = "calls = len(open(sys.argv[3]).readlines())\nif calls == 1: rows[2] = '3,2.5'\nif calls == 3: del rows[5]"
    result = run(make(wrong), manifest, tmp_path / "out")
    assert result.failures == [
        "scan 0, source, year 3: the score 2.5 is no probability",
        "scan 0, target, year 6: the score is missing",
    ]
    again = run(make(wrong), manifest, tmp_path / "out")
    assert (again.failures, num_calls(log)) == ([], NUM_SCANS * 3 + 2)
    number = result.agreement.set_index(["year", "method"])["num"]
    assert number[(3, "source")] == 1
    assert number[(3, "brighter")] == 2
    assert number[(6, "source")] == number[(6, "brighter")] == 1
    assert number[(1, "source")] == 2


def test_where_nothing_succeeds_all_is_said(make, manifest, tmp_path):
    result = run(make("sys.exit(1)"), manifest, tmp_path / "out")
    assert len(result.failures) == NUM_SCANS * 3
    assert result.agreement.empty
    assert "**Missing:** 6," in risk_section(result).to_markdown()


def test_a_scan_that_is_no_regular_stack_costs_itself_alone(make, manifest, log, tmp_path):
    moved = manifest["patient"].eq(f"{0:012}") & manifest["z_mm"].eq(10)
    result = run(make(), manifest.assign(z_mm=manifest["z_mm"] + moved), tmp_path / "out")
    assert [failure.split(": ", 1)[0] for failure in result.failures] == ["scan 0, source", "scan 0, brighter", "scan 0, target"]
    assert "no stack of axial slices at equal distances: its slices lie 5 to 6 mm apart" in result.failures[0]
    assert num_calls(log) == 3


def test_slices_that_trained_are_spoken_of(make, manifest, tmp_path):
    split = np.where(manifest["slice_index"] < 2, "train", "test")
    result = run(make(), manifest.assign(split=split), tmp_path / "out")
    assert result.num_trained == 2
    assert "Slices of 2 of these scans are in the training split" in risk_section(result).to_markdown()


def test_two_jobs_do_not_write_one_folder(make, manifest, tmp_path):
    with only_writer(tmp_path / "out" / "risk"), pytest.raises(ValueError, match="is being written by"):
        run(make(), manifest, tmp_path / "out")


def test_the_command_evaluate(make, manifest, log, tmp_path, capsys):
    """The report is there, with what did succeed, and the exit code tells the truth."""
    write_manifest(manifest, tmp_path / "pairs.parquet")
    model = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    out = tmp_path / "report"
    crash = "if len(open(sys.argv[3]).readlines()) == 1: sys.exit(1)"
    words = " ".join(f"'{word}'" for word in make(crash).command.words)
    arguments = ["evaluate", str(tmp_path / "pairs.parquet"), "--model", str(model), "--out", str(out)]
    settings = ["--set", "evaluation.num_rois=3", "--set", "evaluation.num_workers=1"]
    assert run_ltdiff([*arguments, *settings, "--risk_command", words]) == 1
    assert "report.md lacks risk scores: scan 0, source: it ended with exit code 1" in capsys.readouterr().err.splitlines()[-1]
    assert "## Risk scores" in (out / "report.md").read_text()
    assert num_calls(log) == NUM_SCANS * 4
    assert set(pd.read_csv(out / "risk_scores.csv")["method"]) == {"source", "linear", "ltdiff", "target"}
